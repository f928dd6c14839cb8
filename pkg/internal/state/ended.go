package state

import (
	"cmp"
	"slices"
	"strings"

	"presence/pkg/protocol"
)

// A session may be ended by somebody else than its client: by an operator, by another
// login, by a logout for good. Its client must not open it again (PROTOCOL 4.1).
// Three things are remembered of such a session:
//
//	fences        that it was ended, for 24 hours, as a hash of its name
//	State.ends    that its client is to be told, until that is announced for certain
//	State.ended   its name, of the latest ones only, for Explain
//
// Below format 3 each user has a list of them instead, see replaced.

// endReason is a protocol.EndReason in one byte. The numbers are in snapshots.
type endReason uint8

const (
	wasReplaced endReason = iota
	wasKicked
	wasLoggedOut
	wasErased
)

func (r endReason) wire() protocol.EndReason {
	return [...]protocol.EndReason{protocol.EndReplaced, protocol.EndKicked, protocol.EndLogout, protocol.EndErased}[r]
}

// pendingEnd is the end of a session that is to be announced.
type pendingEnd struct {
	session sessionID
	reason  endReason
	number  uint64 // of the first pending announcement that has it; 0: the next one
}

// maxPendingEnds bounds the ends of one user that are to be announced, as when no instance can
// announce for long. The latest are kept. The clients of the others learn of their end when they
// renew. The 4 applies that one gateway can have under way end fewer.
const maxPendingEnds = 4096

// endedSession names one of the latest sessions that were ended.
type endedSession struct {
	user    string
	session sessionID
	until   uint32 // lease clock in seconds
	reason  endReason
}

// maxNamed bounds the names of ended sessions: about 1 MiB.
const maxNamed = 1 << 14

// endFor ends a session for a reason that its client is told. together is how many
// sessions the same command ends.
func (s *State) endFor(x *session, reason endReason, together int) {
	u, id := s.userOf(x), s.sessionID(x)
	s.tell(u, partEnds)
	if s.format < fencesFormat {
		s.remember(u, id, reason, max(maxReplaced, s.params.Sessions, together))
	} else {
		s.fence(u, id, reason, fenceSecond(s.clock.lease+replacedKept))
		s.enqueueEnd(u, pendingEnd{session: id, reason: reason})
	}
	s.remove(x)
}

// fencesFormat is the first format that has fences.
const fencesFormat = 3

// fenceSecond rounds a moment of the lease clock up to seconds.
func fenceSecond(at int64) uint32 { return uint32((at + 999) / 1000) }

// fence remembers, until a second of the lease clock, that a session was ended. The
// caller has called change for the user.
func (s *State) fence(u *user, session sessionID, reason endReason, until uint32) {
	prev := uint32(0)
	if reason == wasReplaced {
		prev = u.fence
	}
	half := s.fenceTable.next >> 31
	number := s.fenceTable.add(keyOf(s.userID(u), session), reason, until, prev)
	if s.fenceTable.next>>31 != half {
		s.forgetOldFences() // long before their numbers are given again
	}
	if reason == wasReplaced {
		u.fence = number
		if u.fenced++; u.fenced == maxReplacedFences {
			u.fenced = 0
			s.trimFences(u)
		}
	}
	if len(s.ended) >= maxNamed {
		s.ended = s.ended[1:] // append makes a new array in time
	}
	s.ended = append(s.ended, endedSession{strings.Clone(s.userID(u)), session, until, reason})
}

// trimFences keeps only the newest maxReplacedFences fences of a user's replaced sessions.
// It is called once for that many new ones, so each costs two steps of the walk.
func (s *State) trimFences(u *user) {
	number := u.fence
	for n := 0; ; n++ {
		f, _ := s.fenceTable.get(number)
		if f == nil {
			return
		}
		prev := f.prev
		if n >= maxReplacedFences {
			s.removeFence(number)
		}
		number = prev
	}
}

// removeFence forgets a fence. Before that it is saved for the snapshot that is being
// taken.
func (s *State) removeFence(number uint32) {
	if s.snapshot != nil {
		s.snapshot.preserveFence(number)
	}
	s.fenceTable.remove(number)
}

// expireFences forgets the fences whose time is over, and the names beside them.
func (s *State) expireFences() {
	now := s.clock.lease
	for {
		number, until := s.fenceTable.oldest()
		if number == 0 || int64(until)*1000 > now {
			break
		}
		s.removeFence(number)
	}
	for len(s.ended) > 0 && int64(s.ended[0].until)*1000 <= now {
		s.ended = s.ended[1:]
	}
	if len(s.ended) == 0 {
		s.ended = nil
	}
}

// forgetOldFences removes the numbers of forgotten fences from the users.
func (s *State) forgetOldFences() {
	for _, u := range s.users.table.All() {
		if !s.fenceTable.has(u.fence) {
			u.fence = 0
		}
	}
}

// forgetNames forgets the names of a user's ended sessions.
func (s *State) forgetNames(id string) {
	is := func(e endedSession) bool { return e.user == id }
	if slices.ContainsFunc(s.ended, is) {
		s.ended = slices.DeleteFunc(slices.Clone(s.ended), is) // a snapshot may read the other
	}
}

// wasEnded reports whether a session must not be opened again. u may be nil.
func (s *State) wasEnded(u *user, id, session string) bool {
	if s.format < fencesFormat {
		return u != nil && s.wasReplaced(u, session)
	}
	if s.fenceTable.count == 0 {
		return false
	}
	until, ok := s.fenceTable.find(keyOf(id, packID(session)))
	return ok && int64(until)*1000 > s.clock.lease
}

// endedOf calls yield for the latest ended sessions of a user, in the order of their ends.
// until is when they stop being refused, by the lease clock.
func (s *State) endedOf(u *user, yield func(session sessionID, reason endReason, until int64)) {
	for r := s.replacedOf(u); r != nil; r = r.next {
		yield(r.session, r.reason, r.until)
	}
	id := s.userID(u)
	for i := range s.ended {
		if e := &s.ended[i]; e.user == id {
			yield(e.session, e.reason, int64(e.until)*1000)
		}
	}
}

// enqueueEnd adds an end that is to be announced, in the place of the oldest if there are many.
func (t *tables) enqueueEnd(u *user, end pendingEnd) {
	t.needRare(u).ends = true
	n := t.numberOf(u)
	ends := t.ends[n]
	if len(ends) >= maxPendingEnds {
		ends = ends[1:] // append makes a new array in time
	}
	t.ends[n] = append(ends, end)
}

// pendingEnds returns the ends that are to be announced, in order.
func (t *tables) pendingEnds(u *user) []pendingEnd {
	if !t.rare(u).ends {
		return nil
	}
	return t.ends[t.numberOf(u)]
}

// numberEnds gives the number of a pending announcement to the ends that have none yet.
func (t *tables) numberEnds(u *user, number uint64) {
	ends := t.pendingEnds(u)
	for i := len(ends) - 1; i >= 0 && ends[i].number == 0; i-- {
		ends[i].number = number
	}
}

// dropEnds notes that all ends are announced for certain.
func (t *tables) dropEnds(u *user) {
	if t.rare(u).ends {
		delete(t.ends, t.numberOf(u))
		t.needRare(u).ends = false
	}
	for r := t.replacedOf(u); r != nil; r = r.next {
		r.pending = false
	}
}

// replaced remembers a session that was ended, below format 3.
type replaced struct {
	session sessionID
	until   int64 // lease clock
	reason  endReason
	pending bool      // the end is still to be announced
	next    *replaced // in the order of their ends
}

// replacedOf returns the first ended session of a user that is remembered, below format 3.
func (t *tables) replacedOf(u *user) *replaced {
	if !t.rare(u).replaced {
		return nil
	}
	return t.replaced[t.numberOf(u)]
}

// setReplaced sets the first one; nil: there is none.
func (t *tables) setReplaced(u *user, first *replaced) {
	t.needRare(u).replaced = first != nil
	if n := t.numberOf(u); first != nil {
		t.replaced[n] = first
	} else {
		delete(t.replaced, n)
	}
}

func (t *tables) dropReplaced(u *user) {
	if t.rare(u).replaced {
		t.setReplaced(u, nil)
	}
}

// remember adds an ended session. If there are most already, the oldest is forgotten.
func (s *State) remember(u *user, session sessionID, reason endReason, most int) {
	now := s.clock.lease
	first, kept := s.replacedOf(u), 0
	p := &first
	for *p != nil {
		if (*p).until <= now || (*p).session == session {
			*p = (*p).next
			continue
		}
		kept, p = kept+1, &(*p).next
	}
	*p = &replaced{session: session, until: now + replacedKept, reason: reason, pending: true}
	if kept >= most {
		first = first.next
	}
	s.setReplaced(u, first)
}

func (s *State) wasReplaced(u *user, session string) bool {
	first := s.replacedOf(u)
	if first == nil {
		return false
	}
	id := packID(session)
	for r := first; r != nil; r = r.next {
		if r.session == id && r.until > s.clock.lease {
			return true
		}
	}
	return false
}

// startFences turns the users' lists of ended sessions into fences when format 3 comes
// into force.
func (s *State) startFences() {
	type ended struct {
		user *user
		*replaced
	}
	var all []ended
	for _, u := range s.users.table.All() {
		h := s.hidden(u)
		if s.replacedOf(u) == nil && (h == nil || h.ended == 0) {
			continue
		}
		s.change(u)
		for r := s.replacedOf(u); r != nil; r = r.next {
			if r.until > s.clock.lease {
				all = append(all, ended{u, r})
			}
			if p := s.pendings.At(u.pending); r.pending && p != nil {
				s.enqueueEnd(u, pendingEnd{session: r.session, reason: r.reason, number: p.number})
			}
		}
		if h != nil {
			h.ended = 0
		}
		s.dropReplaced(u)
	}
	// Instances may have the users in different orders, but each user's ends in the same.
	slices.SortStableFunc(all, func(a, b ended) int {
		return cmp.Or(cmp.Compare(a.until, b.until), cmp.Compare(s.userID(a.user), s.userID(b.user)))
	})
	for _, e := range all {
		s.fence(e.user, e.session, e.reason, fenceSecond(e.until))
	}
}
