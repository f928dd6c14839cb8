package state

// leases gives each session's lease a small number, by which renewals name it
// in the journal. A number is used again only a quarantine after it was freed:
// a renewal that was packed before and applied after must not find another
// session behind it.
type leases struct {
	sessions []*session // by number
	freed    []freed    // in the order of their freeing
	head     int        // first of freed that was not used again
}

type freed struct {
	number uint32
	at     int64 // lease clock
}

// take gives a session a number.
func (l *leases) take(x *session, now int64) uint32 {
	if l.head < len(l.freed) && l.freed[l.head].at+quarantine < now {
		number := l.freed[l.head].number
		l.head++
		if l.head*2 > len(l.freed) {
			l.freed = append(l.freed[:0], l.freed[l.head:]...)
			l.head = 0
		}
		l.sessions[number] = x
		return number
	}
	l.sessions = append(l.sessions, x)
	return uint32(len(l.sessions) - 1)
}

// free takes a number back.
func (l *leases) free(number uint32, now int64) {
	l.sessions[number] = nil
	l.freed = append(l.freed, freed{number: number, at: now})
}

// session returns the session behind a number, or nil.
func (l *leases) session(number uint32) *session {
	if int(number) < len(l.sessions) {
		return l.sessions[number]
	}
	return nil
}
