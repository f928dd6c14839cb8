package differential

import (
	"cmp"
	"slices"
	"unique"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// session is one login of one device. It is live until it is lost or ended. A lost
// session is kept for the retention and may be renewed. If its lease names a gateway,
// the gateway keeps it live.
type session struct {
	lease
	id       sessionID
	device   string
	platform unique.Handle[string] // there are few platforms
	user     *user                 // nil once it has ended
	next     *session              // of the same user, in order of login

	loginAt, lostAt int64 // wall time
}

// login opens a session, or resumes the session with the same ID (PROTOCOL 4.1). by is
// the gateway that logs the user in, or nil.
func (s *State) login(c *entry.Command, by *gateway, r *Result) *protocol.Error {
	u := s.users.get(c.User)
	if by == nil && s.isLate(s.connections.known[connectionKey{c.Server, c.Client}], u, c, nil) {
		return protocol.ErrUnavailable.With("the connection is closed, and the session or its device is elsewhere by now: nothing was done, log in from the present connection")
	}
	x := u.session(c.Session)
	switch {
	case x == nil && s.wasEnded(u, c.User, c.Session):
		return protocol.ErrSessionReplaced
	case u == nil:
		u = s.addUser(c.User)
	case x == nil:
		if err := s.makeRoom(u, c.Device); err != nil {
			return err
		}
	}
	s.touch(u, byLogin)
	u.unerase()
	if x == nil || !x.live || x.idle != c.Idle {
		s.tell(u, partSessions)
	}
	if x == nil {
		x = &session{id: packID(c.Session), user: u, platform: unique.Make(c.Platform), loginAt: s.clock.wall}
		x.lease.session = x
		s.takeLease(&x.lease)
		u.append(x)
	}
	s.countSession(x, -1)
	x.device, x.platform = c.Device, unique.Make(c.Platform)
	s.countSession(x, +1)
	x.ttl, x.idle = c.TTL, c.Idle
	if by != nil && s.format >= 3 {
		x.ttl = by.ttl // for people to read: the gateway's lease decides
	}
	s.setGateway(x, by)
	s.bind(&x.lease, connectionKey{c.Server, c.Client})
	s.revive(x)
	if s.overdue(&x.lease) {
		s.lose(x)
	}
	// The earlier session of the device ends after the new one is live, so that the
	// user is never offline in between.
	for y := u.sessions; y != nil; {
		next := y.next
		if y != x && c.Device != "" && y.device == c.Device {
			r.Replaced = append(r.Replaced, y.id.String())
			s.endFor(y, wasReplaced, 1)
		}
		y = next
	}
	r.Session, r.TTL = c.Session, int64(x.ttl)
	return nil
}

// isLate reports whether a login comes from a closed connection and would end or take
// over a live session. Its process may have died after sending it, and the device may
// be back by another login. by is the gateway that logs in, or nil. In force from
// format 2 on.
func (s *State) isLate(on *connection, u *user, c *entry.Command, by *gateway) bool {
	if s.format < 2 || on == nil || !on.closed || u == nil {
		return false
	}
	id := packID(c.Session)
	for x := u.sessions; x != nil; x = x.next {
		switch {
		case !x.live || by != nil && x.gateway == by:
		case x.id == id && x.gateway != by, x.id != id && c.Device != "" && x.device == c.Device:
			return true
		}
	}
	return false
}

// makeRoom makes sure that a user may have one more session, not counting those of the
// device, which will be replaced. It forgets the oldest lost sessions if necessary:
// several, if the limit was lowered.
func (s *State) makeRoom(u *user, device string) *protocol.Error {
	live := 0
	var lost []*session
	for x := u.sessions; x != nil; x = x.next {
		switch {
		case device != "" && x.device == device:
		case x.live:
			live++
		default:
			lost = append(lost, x)
		}
	}
	most := s.params.Sessions
	if live >= most {
		return protocol.ErrTooManySessions.Withf("the user has %d live sessions, at most %d are allowed", live, most)
	}
	if over := live + len(lost) + 1 - most; over > 0 {
		s.change(u)
		slices.SortStableFunc(lost, func(a, b *session) int { return cmp.Compare(a.deadline, b.deadline) })
		for _, x := range lost[:over] {
			s.remove(x)
		}
	}
	return nil
}

// revive makes a session live from now for its TTL.
func (s *State) revive(x *session) {
	x.loginOnly, x.loss, x.lostAt = false, lostSilent, 0
	s.extend(&x.lease)
}

// renew extends the lease of a session that is given by its ID (PROTOCOL 4.2).
func (s *State) renew(c *entry.Command) *protocol.Error {
	x := s.users.get(c.User).session(c.Session)
	switch {
	case x == nil && s.wasEnded(s.users.get(c.User), c.User, c.Session):
		return protocol.ErrSessionReplaced
	case x == nil:
		return protocol.ErrSessionNotFound
	case x.loginOnly:
		return protocol.ErrSessionNotFound.With("the session was lost with its connection: log in again")
	}
	if c.SetIdle {
		s.setIdle(x, c.Idle)
	}
	s.renewSession(x)
	return nil
}

// renewSession extends a session's own lease. A session of a gateway needs no renewal.
// A session that was lost with its connection needs a login.
func (s *State) renewSession(x *session) {
	if x.loginOnly || x.gateway != nil {
		return
	}
	if !x.live {
		s.touch(x.user, byLogin)
		s.tell(x.user, partSessions)
	}
	s.revive(x)
}

// setIdle notes whether a session's device is idle: nobody is using it.
func (s *State) setIdle(x *session, idle bool) {
	if x.idle == idle {
		return
	}
	s.touch(x.user, bySet)
	s.tell(x.user, partSessions)
	x.idle = idle
}

// logout ends one session or all of a user's. Ending what is not there is not
// an error (PROTOCOL 4.3).
func (s *State) logout(c *entry.Command) {
	u := s.users.get(c.User)
	if u == nil {
		return
	}
	if c.All {
		s.endSessions(u, func(*session) bool { return true }, byLogout, wasLoggedOut)
		return
	}
	if x := u.session(c.Session); x != nil {
		s.logoutSession(x)
	}
}

func (s *State) logoutSession(x *session) {
	s.touch(x.user, byLogout)
	s.tell(x.user, partSessions)
	s.remove(x)
}

// remove ends a session and forgets it.
func (s *State) remove(x *session) {
	u := x.user
	u.unlink(x)
	s.setGateway(x, nil)
	s.unbind(&x.lease)
	s.freeLease(&x.lease)
	if x.live {
		s.countSession(x, -1)
		x.live = false
		s.leaveOnline(u)
	}
	x.user = nil
}

// lose ends a live session without a logout. The session is kept for the retention.
func (s *State) lose(x *session) {
	s.touch(x.user, byLoss)
	s.tell(x.user, partSessions)
	switch {
	case x.gateway != nil || x.loginOnly: // its gateway has ended
		x.loss = lostByGateway
	case x.connection != nil && x.connection.closed:
		x.loss = lostWithConnection
	default:
		x.loss = lostSilent
	}
	if x.loss != lostSilent {
		x.loginOnly = true
		s.setGateway(x, nil)
		s.unbind(&x.lease)
	}
	s.countSession(x, -1)
	x.live, x.lostAt = false, s.clock.wall
	s.setDeadline(&x.lease, s.lostUntil())
	s.schedule(&x.lease)
	s.leaveOnline(x.user)
}

// lostUntil returns until when a session that is lost now is kept. From format 3 on it
// has milliseconds, so that it can move when the retention changes. dueAt rounds it up.
func (s *State) lostUntil() int64 {
	until := s.clock.lease + s.params.Retention
	if s.format < 3 {
		until = roundUp(until, forgetGrain)
	}
	return until
}

// moveLost moves the end of lost sessions when the retention changes, so that sessions
// lost before and after the change are kept equally long. The views of hidden users move
// as well.
func (s *State) moveLost(by int64) {
	for _, l := range s.leases.byNumber {
		if l != nil && l.session != nil && !l.live {
			s.preserve(l.session.user)
			s.setDeadline(l, l.deadline+by)
		}
	}
	for _, u := range s.users.list {
		if u.hidden != nil && u.hidden.statusType == protocol.Offline {
			s.change(u)
			u.hidden.until += by
		}
	}
}

// forget ends a lost session whose retention is over.
func (s *State) forget(x *session) {
	s.touch(x.user, byExpiry)
	s.tell(x.user, partSessions)
	s.remove(x)
}

// liveSession returns an error unless a user, who may be nil, has a live session with
// that ID.
func (s *State) liveSession(u *user, user, id string) *protocol.Error {
	x := u.session(id)
	switch {
	case x == nil && s.wasEnded(u, user, id):
		return protocol.ErrSessionReplaced
	case x == nil || !x.live:
		return protocol.ErrSessionNotFound
	}
	return nil
}

// session returns the session with an ID, or nil. u may be nil.
func (u *user) session(name string) *session {
	if u == nil {
		return nil
	}
	id := packID(name)
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
