package differential

import (
	"maps"

	"presence/pkg/protocol"
)

// counts are kept up to date because nobody may wait for a walk over all users.
type counts struct {
	users     [protocol.Unlogined + 1]int // by public statusType, without those of revision 0
	platforms map[string]int              // live sessions of users who are not hidden
}

// Counts returns how many users are shown in which statusType, and how many live
// sessions there are on which platform; the sessions of hidden users do not count
// (G9).
func (s *State) Counts() (users protocol.UserCounts, sessions map[string]int) {
	n := &s.counts.users
	return protocol.UserCounts{Online: n[protocol.Online], Offline: n[protocol.Offline], Unlogined: n[protocol.Unlogined]}, maps.Clone(s.counts.platforms)
}

// countUser counts a user of a public view in or out.
func (s *State) countUser(t protocol.StatusType, revision uint64, by int) {
	if revision != 0 {
		s.counts.users[t] += by
	}
}

// countSession counts a session in or out, where it is one that counts.
func (s *State) countSession(x *session, by int) {
	if !x.live || x.user.hidden != nil {
		return
	}
	if s.counts.platforms == nil {
		s.counts.platforms = make(map[string]int)
	}
	platform := x.platform.Value()
	if n := s.counts.platforms[platform] + by; n != 0 {
		s.counts.platforms[platform] = n
	} else {
		delete(s.counts.platforms, platform)
	}
}

// countSessions counts the live sessions of a user in or out.
func (s *State) countSessions(u *user, by int) {
	for x := u.sessions; x != nil; x = x.next {
		s.countSession(x, by)
	}
}
