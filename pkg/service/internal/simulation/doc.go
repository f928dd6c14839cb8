// Package simulation plays histories of several instances in one process, under
// a scheduler that draws every delay and every fault from a seed, and holds each
// of them against the guarantees of PROTOCOL 8: G1 to G4, G6 to G8 and G14, and that
// changes are answered in time (PROTOCOL 6).
//
//	go test ./pkg/service/internal/simulation -simulate 60s
//	go test ./pkg/service/internal/simulation -seed 4711 -simulate 1s   # that one first
//	make simulate SIMULATE=10m SEED=4711
//
// There is no clock, no goroutine and no map order in a history: a seed always
// plays the same one. What violates a guarantee is played again without one fault
// after the other, and the shortest list that does is shown with its history.
//
// # A history
//
// A plan is drawn first: two to four instances, some clients, gateways and users,
// how slow and unreliable everything is, and a list of faults, a third of which
// come close behind another. For some seconds or minutes everybody does what they
// do, while the faults strike. Then comes the end, which is where most defects
// show: every user is changed once more and nobody does anything else, while up to
// three more faults strike, so that nothing later makes good what goes wrong. Then
// everything is calm for two minutes, and all must be as it should: everything
// announced, live who is there, the states the same. One in ten histories is
// another one, a rolling restart in peace (G7).
//
// # What is real
//
// It is the code that the service runs:
//
//   - the state machine, its snapshots and their restoring (package state),
//   - the encoding of entries (package entry),
//   - packing, putting back, what waited for too long, what a failed publish means,
//     and which snapshot is begun at (journal.Queue, Attempts and Candidates),
//   - stamping, ticks, the accounts of what is announced, the comparison of
//     digests (package replica).
//
// # What is modelled
//
// As small as it can be:
//
//   - the stream (lost, late, repeated stores, lost acknowledgements, gaps between
//     leaders, leaders that lose their majority and store later what they had, clocks
//     that jump), its consumers (gaps, repetitions, silence), and the store of snapshots
//     (late, damaged, trimmed behind),
//   - the broker (queue group, reports of closed connections, events that are lost,
//     late, repeated and out of order, outages, connections that are dead before
//     either end knows),
//   - the goroutines of packages service and journal, which are chains of
//     happenings here, with the same names as there,
//   - clients, gateways, operators and watchers, which do what the contract says,
//     and what those do who are late.
//
// # The judge
//
// It sees every entry as it is stored, has a state of its own that applies them,
// and keeps accounts by rules of its own where that is easy: which entries may take
// effect, what the texts are, who holds which session and whether it is by their own
// fault that it is lost. Where it does not object to something that looks wrong, the
// comment there says what the contract does not promise.
//
// # What is not in it
//
//   - Epochs, poison entries, and the limits of queues: the tests of their packages
//     are about those.
//   - How soon something happens (G5), what an instance that is cut off says (G12),
//     what an invisible user looks like (G9): tests of the service are about those.
//   - A second damage to the memory of instances in a history: of two that are wrong
//     in two ways nobody can tell who is right.
//
// # What is known to be no better
//
//   - A login that a client gave up may take effect after the next one, and bind the
//     session to a connection that is closed by then; an open may do so after the
//     close of its lease, and begin another one.
//   - Where the stream's clock goes back during an outage by about as much as that
//     lasts, the outage is not seen to have been one. An entry of before looks fresh
//     until another one is stored that was packed since: by that one the journal knows.
//     So nobody can have read by then that the earlier one was not done.
//   - Of two instances that are cut off one after the other, the second in silence, lease
//     time goes by for up to 15 s until it knows. Whoever renews every third of a TTL of
//     30 s or more does not notice.
//   - A damaged memory is noticed within some 64 entries. Where it is written down
//     before, and another snapshot follows at once or the newest cannot be read, the
//     wrong one is what instances begin at that differ.
package simulation
