// Package simulation plays histories of several instances in one process, under
// a scheduler that draws every delay and every fault from a seed, and holds each
// of them against the guarantees of PROTOCOL 8: G1 to G4, G6 to G8 and G14.
//
//	go test ./pkg/service/internal/simulation -simulate 60s
//	go test ./pkg/service/internal/simulation -seed 4711 -simulate 1s   # that one first
//	make simulate SIMULATE=10m SEED=4711
//
// There is no clock, no goroutine and no map order in a history: a seed always
// plays the same one. What violates a guarantee is played again without one fault
// after the other, and the shortest list that does is shown with its history.
//
// What is real, because it is the code that the service runs:
//
//   - the state machine, its snapshots and their restoring (package state),
//   - the encoding of entries (package entry),
//   - packing, putting back, and what a failed publish means (journal.Queue and
//     journal.Attempts),
//   - stamping, ticks, the accounts of what is announced, the comparison of
//     digests (package replica).
//
// What is modelled, as small as it can be:
//
//   - the stream (lost, late, repeated stores, lost acknowledgements, gaps between
//     leaders, clocks that jump), its consumers (gaps, repetitions, silence), and the
//     store of snapshots (late, damaged, trimmed behind),
//   - the broker (queue group, reports of closed connections, events that are lost,
//     late, repeated and out of order, outages),
//   - the goroutines of packages service and journal, which are chains of
//     happenings here, with the same names as there,
//   - clients, gateways, operators and watchers, which do what the contract says,
//     and what those do who are late.
//
// Epochs, poison entries and the limits of queues are not in it; the tests of
// their packages are about those.
//
// Two things are known to be no better than what is simulated. A login that a
// client gave up may take effect after the next one, and bind the session to a
// connection that is closed by then. And where the stream's clock goes back during
// an outage by about as much as that lasts, an entry of before looks fresh.
package simulation
