package state

import (
	"cmp"
	"math"
	"slices"
)

// lease is what keeps sessions live: one session's own, or that of one run of a
// gateway's process for all the sessions that it holds. It runs out at its
// deadline unless it is renewed, and a grace after its connection closed,
// whatever renewals come.
type lease struct {
	// session is whose lease it is; nil: the gateway's.
	session *session
	// gateway is whose lease it is or, of a session's, which gateway holds the
	// session while it is live, in the place of this lease.
	gateway *gateway

	live bool

	// Of a session's lease alone, here because there is room: nobody is at the
	// device; the session was lost together with its connection or its gateway,
	// so that only a login makes it live again, not a renewal; how it was lost,
	// for people; and its index in gateway.sessions.
	idle, loginOnly bool
	loss            loss
	place           int32

	number uint32 // names it in journal entries
	ttl    uint32 // milliseconds
	bound  int32  // index in connection.leases
	bucket uint32 // where it waits in the calendar due; 0: nowhere
	// deadline, of the lease clock: when it runs out; of a lost session, when
	// that is forgotten.
	deadline int64

	connection *connection // what it is bound to; nil for nothing
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

// held reports whether it is the lease of a session that a gateway holds.
func (l *lease) byGateway() bool { return l.session != nil && l.live && l.gateway != nil }

// schedule makes sure that a lease's calendar bucket is not later than when it
// is due.
func (s *State) schedule(l *lease) {
	due := l.dueAt(s.params.Grace)
	if due == math.MaxInt64 {
		return
	}
	s.due.put(l, leaseBucket(due))
}

// extend makes a lease run from now for its TTL.
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

// setDeadline keeps the digest. A session's lease is preserved by the caller.
func (s *State) setDeadline(l *lease, at int64) {
	s.digest += deadlineHash(l.number, at) - deadlineHash(l.number, l.deadline)
	l.deadline = at
}

// overdue reports whether a lease that was just bound and extended has run out
// nevertheless: its connection closed longer than a grace ago.
func (s *State) overdue(l *lease) bool {
	return l.dueAt(s.params.Grace) <= s.clock.lease && !s.clock.inAmnesty()
}

// renewNumber extends a lease by its number. Whether it still stands was looked
// up when the renewal was packed, so what is gone since is passed over.
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

// expireLeases lets the leases that are due run out, in the order of when they
// were: live sessions and gateways are lost, lost sessions forgotten.
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

// leases gives each lease a small number, by which renewals name it in the
// journal. A number is used again only a quarantine after it was freed: a
// renewal that was packed before and applied after must not find another lease
// behind it.
type leases struct {
	byNumber []*lease
	freed    []freed // in the order of their freeing; what is in it is never changed
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
