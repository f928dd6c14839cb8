// Package replica has the rules by which an instance lives with its copy of the state, beside
// applying entries: what the header of its entries says (Stamp), when an entry is due for the sake
// of time alone (Due), which changes the instance has announced for certain (Ledger), and whether
// its copy is the same as the others' (Digests).
//
//	replica.Stamp(&header, state, waited, registered)  // when an entry is packed
//	if replica.Due(state, instance, silent, reachable, idle) { … }  // every TickGrain
//	verdict, own := digests.Compare(state, &header)  // before an entry is applied
//
// It is pure: no I/O, no goroutine, no lock, and the time is an argument. The caller sees to it
// that nothing is used by two goroutines at once. The service runs these rules over NATS. The
// simulation runs them under a scheduler that draws every delay and fault.
package replica
