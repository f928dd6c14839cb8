package state

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

// countSession counts a session in or out, where it is one that counts. What is live, idle or on
// a platform is counted out before that changes, and in afterwards.
func (s *State) countSession(x *session, by int) {
	u := s.userOf(x)
	if by > 0 {
		s.notePresence(u)
	}
	if s.hidden(u) == nil {
		s.countPlatform(x, by)
	}
}

func (s *State) countPlatform(x *session, by int) {
	if !x.live {
		return
	}
	if s.counts.platforms == nil {
		s.counts.platforms = make(map[string]int)
	}
	platform := s.platform(x)
	if n := s.counts.platforms[platform] + by; n != 0 {
		s.counts.platforms[platform] = n
	} else {
		delete(s.counts.platforms, platform)
	}
}

// countSessions counts the live sessions of a user in or out, who is not hidden.
func (s *State) countSessions(u *user, by int) {
	for x := s.first(u); x != nil; x = s.after(x) {
		s.countPlatform(x, by)
	}
}
