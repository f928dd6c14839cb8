package differential

import (
	"cmp"
	"math"
	"slices"
)

// lease keeps sessions live. A session has its own lease. A gateway's process has one
// lease for all sessions that it logged in. A lease runs out at its deadline unless it
// is renewed. When its connection closes it runs out after the grace, renewed or not.
type lease struct {
	// session has this lease; nil: the gateway has it.
	session *session
	// gateway has this lease if session is nil. Otherwise it is the gateway that keeps
	// the session live instead of this lease; nil: none does.
	gateway *gateway

	live bool

	// These belong to the session; they are here to save memory. idle: nobody uses the
	// device. loginOnly: the session was lost with its connection or its gateway, so a
	// login makes it live again, but a renewal does not. loss: how it was lost, for
	// people. place: its index in gateway.sessions.
	idle, loginOnly bool
	loss            loss
	place           int32

	number uint32 // names it in journal entries
	ttl    uint32 // milliseconds
	bound  int32  // index in connection.leases
	bucket uint32 // where it waits in the calendar due; 0: nowhere
	// deadline, by the lease clock, is when the lease runs out. Of a lost session it is
	// when the session is forgotten.
	deadline int64

	connection *connection // the connection that it is bound to; nil: none
}

// dueAt returns when something happens to the lease's holder.
func (l *lease) dueAt(grace int64) int64 {
	switch {
	case l.byGateway():
		return math.MaxInt64 // the gateway's lease decides
	case l.live && l.connection != nil && l.connection.closed:
		return min(l.deadline, l.connection.closedAt+grace)
	case !l.live:
		return roundUp(l.deadline, forgetGrain) // so that a week of lost sessions shares its buckets
	}
	return l.deadline
}

// byGateway reports whether it is the lease of a session that a gateway keeps live.
func (l *lease) byGateway() bool { return l.session != nil && l.live && l.gateway != nil }

// schedule puts a lease into the calendar, in a bucket that is not later than its end.
func (s *State) schedule(l *lease) {
	due := l.dueAt(s.params.Grace)
	if due == math.MaxInt64 {
		return
	}
	s.due.put(l, leaseBucket(due))
}

// extend makes a lease live from now on for its TTL.
func (s *State) extend(l *lease) {
	if l.session != nil {
		s.preserve(l.session.user)
	}
	if l.session != nil && !l.live {
		l.live = true
		s.countSession(l.session, +1)
	}
	l.live = true
	s.setDeadline(l, s.clock.lease+s.effectiveTTL(l))
	s.schedule(l)
}

// setDeadline changes a deadline and the digest. The caller has preserved the session's
// user.
func (s *State) setDeadline(l *lease, at int64) {
	s.digest += deadlineHash(l.number, at) - deadlineHash(l.number, l.deadline)
	l.deadline = at
}

// overdue reports whether a lease that was just bound and extended has run out all the
// same, because its connection closed longer ago than the grace.
func (s *State) overdue(l *lease) bool {
	return l.dueAt(s.params.Grace) <= s.clock.lease && !s.clock.inAmnesty()
}

// renewNumber extends the lease with a number. The lease existed when the renewal was
// packed. If it has ended since, nothing happens.
func (s *State) renewNumber(number uint32) {
	l := s.leases.get(number)
	switch {
	case l == nil:
	case l.session != nil:
		s.renewSession(l.session)
	default:
		s.extend(l)
	}
}

// expireLeases ends the leases that are due, in the order of their deadlines. Live
// sessions and gateways are lost, lost sessions are forgotten.
func (s *State) expireLeases() {
	grace := s.params.Grace
	var due []*lease
	for {
		leases := s.due.pop(s.clock.lease)
		if len(leases) == 0 {
			break
		}
		for _, l := range leases {
			at := l.dueAt(grace)
			switch {
			case at == math.MaxInt64:
			case bucketOf(at)*bucketWidth > s.clock.lease:
				s.schedule(l)
			default:
				due = append(due, l)
			}
		}
	}
	slices.SortFunc(due, func(a, b *lease) int {
		if c := cmp.Compare(a.dueAt(grace), b.dueAt(grace)); c != 0 {
			return c
		}
		return cmp.Compare(a.number, b.number)
	})
	for _, l := range due {
		switch {
		case l.session == nil:
			s.endGateway(l.gateway, false)
		case l.live:
			s.lose(l.session)
		default:
			s.forget(l.session)
		}
	}
}

// leases gives each lease a small number, by which renewals in the journal name it. A
// freed number is not used again during the quarantine: a renewal that was packed before
// must not renew another lease.
type leases struct {
	byNumber []*lease
	freed    []freed // in the order in which they were freed; the elements are never changed
}

type freed struct {
	number uint32
	at     int64 // lease clock
}

// takeLease gives a new lease a number, freeLease takes it back.
func (s *State) takeLease(l *lease) {
	s.leases.take(l, s.clock.lease)
	s.digest += deadlineHash(l.number, l.deadline)
}

func (s *State) freeLease(l *lease) {
	s.due.drop(l)
	s.digest -= deadlineHash(l.number, l.deadline)
	s.leases.free(l.number, s.clock.lease)
}

// take gives a lease a number.
func (ls *leases) take(l *lease, now int64) {
	if len(ls.freed) > 0 && ls.freed[0].at+quarantine < now {
		l.number = ls.freed[0].number
		ls.freed = ls.freed[1:] // append makes a new array in time
		ls.byNumber[l.number] = l
		return
	}
	l.number = uint32(len(ls.byNumber))
	ls.byNumber = append(ls.byNumber, l)
}

// free takes a number back.
func (ls *leases) free(number uint32, now int64) {
	ls.byNumber[number] = nil
	ls.freed = append(ls.freed, freed{number: number, at: now})
}

// get returns the lease behind a number, or nil.
func (ls *leases) get(number uint32) *lease {
	if int(number) < len(ls.byNumber) {
		return ls.byNumber[number]
	}
	return nil
}

// count returns how many leases there are.
func (ls *leases) count() int { return len(ls.byNumber) - len(ls.freed) }
