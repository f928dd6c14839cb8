package state

// Remembered counts what the state keeps in memory, by names that stay, for operators
// who look for what grows. Each is bounded by what exists:
//
//	users              everybody known
//	leases             of sessions, lost ones included, and of gateways
//	free-numbers       numbers of leases that ended: as many as there were at once, or within
//	                   quarantine
//	connections        those that leases are bound to, and those that closed within State.closedKept
//	ended-sessions     see fences
//	ended-names        at most maxNamed
//	untold-ends        at most maxPendingEnds for each user
//	deadlines          at most two for each lease, see calendar
//	forgetting         at most two for each user
//	expiries           at most two for each user
//	outbox             what instances have yet to announce for certain, dead items included
//	digests            digestsKept
//	scratch            room kept for the users that the next entry changes
func (s *State) Remembered() map[string]int {
	outbox, untold := 0, 0
	for _, in := range s.instances {
		outbox += len(in.outbox)
		for _, at := range in.outbox {
			if u := s.currentUser(at); u != nil && !s.pendings.At(at).hidden {
				untold += len(s.pendingEnds(u))
			}
		}
	}
	return map[string]int{
		"users": s.users.table.Len(), "leases": s.leases.count(), "free-numbers": len(s.leases.freed),
		"connections": s.connections.table.Len(), "ended-sessions": s.fenceTable.count, "ended-names": len(s.ended),
		"untold-ends": untold, "deadlines": s.due.entries, "forgetting": s.forgets.entries, "expiries": s.expiries.entries,
		"outbox": outbox, "digests": digestsKept, "scratch": cap(s.touched),
	}
}
