package differential

import (
	"presence/pkg/internal/entry"
)

// kick ends one session of a user or all, as an operator wants it (PROTOCOL 4.8).
// Kicking what is not there is not an error.
func (s *State) kick(c *entry.Command, r *Result) {
	u := s.users.get(c.User)
	if u == nil {
		return
	}
	id := packID(c.Session)
	r.Ended = s.endSessions(u, func(x *session) bool { return c.All || x.id == id }, byKick, wasKicked)
}

// IsErased reports whether a user was erased and is yet to be forgotten.
func (s *State) IsErased(userID string) bool {
	u := s.users.get(userID)
	return u != nil && u.erased != notErased
}

// erase ends all sessions of a user, clears what is known, announces that, and
// has the user forgotten as soon as it is (PROTOCOL 4.8).
func (s *State) erase(c *entry.Command, r *Result) {
	u := s.users.get(c.User)
	if u == nil || u.erased == erasedGone {
		return
	}
	s.touch(u, byErasure)
	r.Ended = s.endSessions(u, func(*session) bool { return true }, byErasure, wasErased)
	s.tell(u, partPublic|partOwner) // its revision is gone, whether it looked like that before or not
	u.text, u.textUntil, u.lastSeen = "", 0, 0
	u.setChosen(entry.Available, entry.Keep, 0)
	if u.hidden != nil {
		s.show(u)
	}
	u.erased, u.idleSince = erasedKnown, -1
	if s.format >= erasedGoneFormat {
		u.erased = erasedGone
		s.touched[u.touched-1].erased = true
		s.forgetNames(u.id)
	}
}

// erasedGoneFormat is the format from which an erased user looks like one never seen.
const erasedGoneFormat = 3

// unerase keeps a user who was erased, below format 3, from being forgotten. From format 3
// on, an erased user goes on looking like one never seen until something is known, see
// revise.
func (u *user) unerase() {
	if u.erased == erasedKnown {
		u.erased = notErased
	}
}

// endSessions ends those sessions of a user that ends says, and returns their IDs.
func (s *State) endSessions(u *user, ends func(*session) bool, cause cause, reason endReason) (ended []string) {
	var which []*session
	for x := u.sessions; x != nil; x = x.next {
		if ends(x) {
			which = append(which, x)
		}
	}
	for _, x := range which {
		s.touch(u, cause)
		s.tell(u, partSessions)
		ended = append(ended, x.id.String())
		s.endFor(x, reason, len(which))
	}
	return ended
}
