package differential

import (
	"cmp"
	"slices"

	"presence/pkg/protocol"
)

// A session may be ended by somebody else than its client: by an operator, by another
// login, by a logout of all sessions. Its client must not open it again (PROTOCOL 4.1).
// Three things are remembered of such a session:
//
//	fences        that it was ended, for 24 hours, as a hash of its name
//	user.ends     that its client is to be told, until that is announced for certain
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

// pendingEnds are the ends of a user's sessions that are to be announced, in order. There
// are as many as sessions end within the seconds that an announcement takes. Requests
// arrive by the connection by which events leave, so they cannot pile up.
type pendingEnds struct{ list []pendingEnd }

type pendingEnd struct {
	session sessionID
	reason  endReason
	number  uint64 // of the first pending announcement that has it; 0: the next one
}

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
	u := x.user
	s.tell(u, partEnds)
	if s.format < fencesFormat {
		u.remember(x.id, s.clock.lease, reason, max(maxReplaced, s.params.Sessions, together))
	} else {
		s.fence(u, x.id, reason, fenceSecond(s.clock.lease+replacedKept))
		u.enqueueEnd(pendingEnd{session: x.id, reason: reason})
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
	number := s.fenceTable.add(keyOf(u.id, session), reason, until, prev)
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
	s.ended = append(s.ended, endedSession{u.id, session, until, reason})
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
	for _, u := range s.users.list {
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
		return u != nil && u.wasReplaced(session, s.clock.lease)
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
	for r := u.replaced; r != nil; r = r.next {
		yield(r.session, r.reason, r.until)
	}
	for i := range s.ended {
		if e := &s.ended[i]; e.user == u.id {
			yield(e.session, e.reason, int64(e.until)*1000)
		}
	}
}

// enqueueEnd adds an end that is to be announced.
func (u *user) enqueueEnd(end pendingEnd) {
	if u.needRare().ends == nil {
		u.ends = &pendingEnds{}
	}
	u.ends.list = append(u.ends.list, end)
}

// pendingEnds returns the ends that are to be announced.
func (u *user) pendingEnds() []pendingEnd {
	if u.ends == nil {
		return nil
	}
	return u.ends.list
}

// numberEnds gives the number of a pending announcement to the ends that have none yet.
func (u *user) numberEnds(number uint64) {
	ends := u.pendingEnds()
	for i := len(ends) - 1; i >= 0 && ends[i].number == 0; i-- {
		ends[i].number = number
	}
}

// dropEnds notes that all ends are announced for certain.
func (u *user) dropEnds() {
	if u.rare != &nothingRare {
		u.ends = nil
	}
	for r := u.replaced; r != nil; r = r.next {
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

// remember adds an ended session. If there are most already, the oldest is forgotten.
func (u *user) remember(session sessionID, now int64, reason endReason, most int) {
	kept, p := 0, &u.needRare().replaced
	for *p != nil {
		if (*p).until <= now || (*p).session == session {
			*p = (*p).next
			continue
		}
		kept, p = kept+1, &(*p).next
	}
	*p = &replaced{session: session, until: now + replacedKept, reason: reason, pending: true}
	if kept >= most {
		u.replaced = u.replaced.next
	}
}

func (u *user) wasReplaced(session string, now int64) bool {
	if u.replaced == nil {
		return false
	}
	id := packID(session)
	for r := u.replaced; r != nil; r = r.next {
		if r.session == id && r.until > now {
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
	for _, u := range s.users.list {
		if u.replaced == nil && (u.hidden == nil || u.hidden.ended == 0) {
			continue
		}
		s.change(u)
		for r := u.replaced; r != nil; r = r.next {
			if r.until > s.clock.lease {
				all = append(all, ended{u, r})
			}
			if r.pending && u.pending != nil {
				u.enqueueEnd(pendingEnd{session: r.session, reason: r.reason, number: u.pending.number})
			}
		}
		if u.hidden != nil {
			u.hidden.ended = 0
		}
		u.rare.replaced = nil
	}
	// Instances may have the users in different orders, but each user's ends in the same.
	slices.SortStableFunc(all, func(a, b ended) int {
		return cmp.Or(cmp.Compare(a.until, b.until), cmp.Compare(a.user.id, b.user.id))
	})
	for _, e := range all {
		s.fence(e.user, e.session, e.reason, fenceSecond(e.until))
	}
}
