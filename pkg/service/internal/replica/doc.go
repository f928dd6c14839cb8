// Package replica is the rules by which an instance lives with its copy of the
// state, apart from applying entries: what the header of its entries says
// (Stamp), when time alone needs an entry (Due), which changes it has announced
// for certain (Ledger), and whether its copy is the others' (Digests).
//
// It is pure: no I/O, no goroutine, no lock, and what time it is comes in. The
// service runs these rules over NATS, the simulation under a scheduler that
// draws every delay and fault.
package replica
