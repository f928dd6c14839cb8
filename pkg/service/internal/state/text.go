package state

import (
	"cmp"
	"slices"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
)

// set changes a user's text (PROTOCOL 4.4). Text and expiry go together.
func (s *State) set(c *entry.Command) *protocol.Error {
	u := s.users.get(c.User)
	if c.Session != "" {
		if err := u.liveSession(c.Session, s.clock.lease); err != nil {
			return err
		}
	}
	if c.CheckRevision {
		var have uint64
		if u != nil {
			have = u.revision
		}
		if have != c.IfRevision {
			return protocol.ErrRevisionConflict.Withf("the status has revision %d, not %d", have, c.IfRevision)
		}
	}
	until := int64(0)
	if c.Expires > 0 {
		until = s.clock.wall + c.Expires
	}
	if u == nil {
		if c.Text == "" {
			return nil // nothing to clear, nothing to remember
		}
		u = s.addUser(c.User)
	}
	s.touch(u, bySet)
	u.text, u.textUntil = c.Text, until
	s.scheduleExpiry(u)
	return nil
}

// scheduleExpiry puts a user whose text expires into the calendar.
func (s *State) scheduleExpiry(u *user) {
	if u.textUntil == 0 {
		return
	}
	if b := bucketOf(u.textUntil); u.textBucket == 0 || b < u.textBucket {
		u.textBucket = b
		s.expiries.add(b, u)
	}
}

// expireTexts clears the texts whose time has come. Wall time decides, in and
// out of an amnesty: the user named a moment.
func (s *State) expireTexts() {
	var due []*user
	for {
		bucket, users := s.expiries.pop(s.clock.wall)
		if bucket == 0 {
			break
		}
		for _, u := range users {
			if u.textBucket != bucket {
				continue // waits in an earlier one since
			}
			u.textBucket = 0
			switch {
			case u.textUntil == 0:
			case bucketOf(u.textUntil)*bucketWidth > s.clock.wall:
				s.scheduleExpiry(u)
			default:
				due = append(due, u)
			}
		}
	}
	slices.SortFunc(due, func(a, b *user) int { return cmp.Compare(a.id, b.id) })
	for _, u := range due {
		s.touch(u, byExpiry)
		u.text, u.textUntil = "", 0
	}
}
