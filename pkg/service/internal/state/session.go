package state

import (
	"cmp"
	"slices"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
)

// session is one login of one device. It is live until it is lost or ended;
// lost ones are kept for the retention and may be renewed.
type session struct {
	id       string
	device   string
	platform string
	user     *user
	next     *session // of the same user, in order of login

	// connection is what the session is bound to, nil for none; severed says
	// that the session was lost together with it, so that only a login, not a
	// renewal, makes it live again. bound is the index in connection.sessions.
	connection *connection
	bound      int32
	severed    bool

	live   bool
	idle   bool
	number uint32 // of its lease
	ttl    int64  // milliseconds
	// deadline, of the lease clock: when a live session is lost for want of a
	// renewal, when a lost one is forgotten.
	deadline int64
	bucket   int64 // where it waits in the calendar due; 0: nowhere

	loginAt, lostAt int64 // wall time
}

// dueAt returns when something happens to the session: never later than its
// deadline, and a grace after its connection closed, whatever renewals came.
func (x *session) dueAt(grace int64) int64 {
	if x.live && x.connection != nil && x.connection.closed {
		return min(x.deadline, x.connection.closedAt+grace)
	}
	return x.deadline
}

// schedule makes sure that the session's calendar bucket is not later than
// when it is due.
func (s *State) schedule(x *session) {
	if b := bucketOf(x.dueAt(s.params.Grace)); x.bucket == 0 || b < x.bucket {
		x.bucket = b
		s.due.add(b, x)
	}
}

// login opens a session or resumes the one with its ID (PROTOCOL 4.1).
func (s *State) login(c *entry.Command, r *Result) *protocol.Error {
	u := s.users[c.User]
	var x *session
	if u != nil {
		if x = u.session(c.Session); x == nil && u.wasReplaced(c.Session, s.clock.lease) {
			return protocol.ErrSessionReplaced
		}
		if x == nil {
			if err := s.makeRoom(u, c.Device); err != nil {
				return err
			}
		}
	} else {
		u = s.findOrAddUser(c.User)
	}
	s.touch(u, protocol.CauseLogin)
	if x == nil {
		x = &session{id: c.Session, user: u, loginAt: s.clock.wall}
		x.number = s.leases.take(x, s.clock.lease)
		u.append(x)
	}
	x.device, x.platform = c.Device, c.Platform
	x.ttl, x.idle = int64(c.TTL), c.Idle
	s.bind(x, connectionKey{c.Server, c.Client})
	s.revive(x)
	if x.dueAt(s.params.Grace) <= s.clock.lease && !s.clock.inAmnesty() {
		s.lose(x) // its connection closed longer than a grace ago
	}
	// The earlier session of the device goes after the new one is live, so
	// that replacing it is no moment offline.
	for y := u.sessions; y != nil; {
		next := y.next
		if y != x && c.Device != "" && y.device == c.Device {
			r.Replaced = append(r.Replaced, y.id)
			u.remember(y.id, s.clock.lease)
			s.remove(y)
		}
		y = next
	}
	r.Session, r.TTL = x.id, x.ttl
	return nil
}

// makeRoom makes sure that a user may have one more session once those of the
// device are replaced: the oldest lost one is forgotten if need be.
func (s *State) makeRoom(u *user, device string) *protocol.Error {
	count := 0
	var oldest *session
	for x := u.sessions; x != nil; x = x.next {
		if device != "" && x.device == device {
			continue
		}
		count++
		if !x.live && (oldest == nil || x.deadline < oldest.deadline) {
			oldest = x
		}
	}
	if count < protocol.MaxSessionsPerUser {
		return nil
	}
	if oldest == nil {
		return protocol.ErrTooManySessions.Withf("the user has %d live sessions, at most %d are allowed", count, protocol.MaxSessionsPerUser)
	}
	s.remove(oldest)
	return nil
}

// revive makes a session live from now for its TTL.
func (s *State) revive(x *session) {
	x.live, x.severed, x.lostAt = true, false, 0
	x.deadline = s.clock.lease + x.ttl
	s.schedule(x)
}

// renew extends a session's lease by its name (PROTOCOL 4.2).
func (s *State) renew(c *entry.Command) *protocol.Error {
	u := s.users[c.User]
	if u == nil {
		return protocol.ErrSessionNotFound
	}
	x := u.session(c.Session)
	switch {
	case x == nil && u.wasReplaced(c.Session, s.clock.lease):
		return protocol.ErrSessionReplaced
	case x == nil:
		return protocol.ErrSessionNotFound
	case x.severed:
		return protocol.ErrSessionNotFound.With("the session was lost with its connection: log in again")
	}
	if c.SetIdle {
		x.idle = c.Idle
	}
	s.touch(u, protocol.CauseLogin)
	s.revive(x)
	return nil
}

// renewNumber extends a lease by its number. Whether it still stands was looked
// up when the renewal was packed, so what is gone since is passed over.
func (s *State) renewNumber(number uint32) {
	x := s.leases.session(number)
	if x == nil || x.severed {
		return
	}
	if !x.live {
		s.touch(x.user, protocol.CauseLogin)
	}
	s.revive(x)
}

// logout ends one session or all of a user's. Ending what is not there is not
// an error (PROTOCOL 4.3).
func (s *State) logout(c *entry.Command) {
	u := s.users[c.User]
	if u == nil {
		return
	}
	for x := u.sessions; x != nil; {
		next := x.next
		if c.All || x.id == c.Session {
			s.touch(u, protocol.CauseLogout)
			s.remove(x)
		}
		x = next
	}
}

// remove ends a session: it is not remembered.
func (s *State) remove(x *session) {
	u := x.user
	u.unlink(x)
	s.unbind(x)
	s.leases.free(x.number, s.clock.lease)
	if x.live {
		x.live = false
		s.leaveOnline(u)
	}
	x.user = nil // what still waits in the calendar is passed over
}

// lose ends a live session without a logout: it is kept for the retention.
func (s *State) lose(x *session) {
	s.touch(x.user, protocol.CauseLost)
	if x.connection != nil && x.connection.closed {
		x.severed = true
		s.unbind(x)
	}
	x.live, x.lostAt = false, s.clock.wall
	x.deadline = roundUp(s.clock.lease+s.params.Retention, forgetGrain)
	s.schedule(x)
	s.leaveOnline(x.user)
}

// expireSessions loses the live sessions and forgets the lost ones that are
// due, in the order of when they were.
func (s *State) expireSessions() {
	var due []*session
	for {
		bucket, sessions := s.due.pop(s.clock.lease)
		if bucket == 0 {
			break
		}
		for _, x := range sessions {
			if x.bucket != bucket || x.user == nil {
				continue // waits in an earlier one since, or is gone
			}
			x.bucket = 0
			if bucketOf(x.dueAt(s.params.Grace))*bucketWidth > s.clock.lease {
				s.schedule(x)
				continue
			}
			due = append(due, x)
		}
	}
	grace := s.params.Grace
	slices.SortFunc(due, func(a, b *session) int {
		if c := cmp.Compare(a.dueAt(grace), b.dueAt(grace)); c != 0 {
			return c
		}
		return cmp.Compare(a.number, b.number)
	})
	for _, x := range due {
		if x.live {
			s.lose(x)
			continue
		}
		s.touch(x.user, protocol.CauseExpired)
		s.remove(x)
	}
}

// liveSession reports whether a user has a live session of that ID. It may be
// called with a nil user.
func (u *user) liveSession(id string, now int64) *protocol.Error {
	if u == nil {
		return protocol.ErrSessionNotFound
	}
	x := u.session(id)
	switch {
	case x == nil && u.wasReplaced(id, now):
		return protocol.ErrSessionReplaced
	case x == nil || !x.live:
		return protocol.ErrSessionNotFound
	}
	return nil
}

func (u *user) session(id string) *session {
	for x := u.sessions; x != nil; x = x.next {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (u *user) append(x *session) {
	p := &u.sessions
	for *p != nil {
		p = &(*p).next
	}
	*p = x
}

func (u *user) unlink(x *session) {
	p := &u.sessions
	for *p != x {
		p = &(*p).next
	}
	*p, x.next = x.next, nil
}

// remember notes that a session was replaced, in the place of the oldest such
// note where there are too many.
func (u *user) remember(session string, now int64) {
	u.replaced = slices.DeleteFunc(u.replaced, func(r replaced) bool { return r.until <= now || r.session == session })
	if len(u.replaced) == maxReplaced {
		u.replaced = slices.Delete(u.replaced, 0, 1)
	}
	u.replaced = append(u.replaced, replaced{session: session, until: now + replacedKept})
}

func (u *user) wasReplaced(session string, now int64) bool {
	return slices.ContainsFunc(u.replaced, func(r replaced) bool { return r.session == session && r.until > now })
}
