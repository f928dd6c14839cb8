package state

import "presence/pkg/protocol"

// replaced remembers a session that was ended by somebody else than itself: it
// must not be opened again by its client (PROTOCOL 4.1).
type replaced struct {
	session sessionID
	until   int64 // lease clock
	reason  endReason
	owed    bool      // the end is to be told yet
	next    *replaced // in the order of their ends
}

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

// endFor ends a session for a reason that its client is to know, as one of so many
// that end together.
func (s *State) endFor(x *session, reason endReason, together int) {
	u := x.user
	s.tell(u, oweEnds)
	u.remember(x.id, s.clock.lease, reason, max(maxReplaced, s.params.Sessions, together))
	s.remove(x)
}

// remember notes that a session was ended, in the place of the oldest such note
// where there are most already.
func (u *user) remember(session sessionID, now int64, reason endReason, most int) {
	kept, p := 0, &u.needRare().replaced
	for *p != nil {
		if (*p).until <= now || (*p).session == session {
			*p = (*p).next
			continue
		}
		kept, p = kept+1, &(*p).next
	}
	*p = &replaced{session: session, until: now + replacedKept, reason: reason, owed: true}
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
