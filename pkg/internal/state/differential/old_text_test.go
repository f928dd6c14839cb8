package differential

import (
	"cmp"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// set changes what a user says: the text, whose expiry goes with it, and the
// availability (PROTOCOL 4.4).
func (s *State) set(c *entry.Command) *protocol.Error {
	u := s.users.get(c.User)
	if c.Session != "" {
		if err := s.liveSession(u, c.User, c.Session); err != nil {
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
		if c.Text == "" && c.Availability <= entry.Available {
			return nil // nothing to clear, nothing to remember
		}
		u = s.addUser(c.User)
	}
	s.touch(u, bySet)
	u.unerase()
	if !c.KeepText {
		u.text, u.textUntil = c.Text, until
	}
	if c.Availability != entry.Keep {
		s.setAvailability(u, c.Availability, c.Override)
	}
	s.scheduleExpiry(u)
	return nil
}

// nextExpiry is when, by wall time, something that a user said ends: the text,
// as the owner or as everybody sees it, or an override; 0: never.
func (u *user) nextExpiry() int64 {
	at := u.textUntil
	earlier := func(t int64) {
		if t != 0 && (at == 0 || t < at) {
			at = t
		}
	}
	earlier(u.overrideUntil)
	if u.hidden != nil {
		earlier(u.hidden.textUntil)
	}
	return at
}

// scheduleExpiry puts a user of whom something expires into the calendar, and takes
// any other out.
func (s *State) scheduleExpiry(u *user) {
	at := u.nextExpiry()
	if at == 0 {
		s.expiries.drop(u)
		return
	}
	u.needRare()
	s.expiries.put(u, bucketOf(at))
}

// expire ends the texts and overrides whose time has come. Wall time decides, in
// and out of an amnesty: the user named a moment.
func (s *State) expire() {
	var due []*user
	for {
		users := s.expiries.pop(s.clock.wall)
		if len(users) == 0 {
			break
		}
		for _, u := range users {
			if s.expired(u.nextExpiry()) {
				due = append(due, u)
			} else {
				s.scheduleExpiry(u)
			}
		}
	}
	slices.SortFunc(due, func(a, b *user) int { return cmp.Compare(a.id, b.id) })
	for _, u := range due {
		s.touch(u, byExpiry)
		if s.expired(u.textUntil) {
			u.text, u.textUntil = "", 0
		}
		if s.expired(u.overrideUntil) {
			u.setChosen(u.lasting, entry.Keep, 0)
			s.tell(u, partSettings)
		}
		if u.hidden != nil && s.expired(u.hidden.textUntil) {
			s.expireHiddenText(u)
		}
		s.scheduleExpiry(u)
	}
}

// expired reports whether something that ends at a moment, 0 for never, has: at
// the end of the moment's bucket.
func (s *State) expired(at int64) bool {
	return at != 0 && bucketOf(at)*bucketWidth <= s.clock.wall
}
