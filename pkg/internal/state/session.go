package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// session is one login of one device. It is live until it is lost or ended. A lost
// session is kept for the retention and may be renewed. If its lease names a gateway,
// the gateway keeps it live.
type session struct {
	lease
	id sessionKey

	loginAt, lostAt int64 // wall time

	user     uint32
	next     uint32 // of the same user, in order of login; 0: it is the last
	device   table.Text
	platform uint32 // a name
}

// login opens a session, or resumes the session with the same ID (PROTOCOL 4.1). by is
// the gateway that logs the user in, or nil.
func (s *State) login(c *entry.Command, by *gateway, r *Result) *protocol.Error {
	u := s.users.get(c.User)
	if by == nil && s.isLate(s.connections.get(connectionKey{c.Server, c.Client}), u, c, nil) {
		return protocol.ErrUnavailable.With("the connection is closed, and the session or its device is elsewhere by now: nothing was done, log in from the present connection")
	}
	x := s.sessionNamed(u, c.Session)
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
		x = s.openSession(u, packID(c.Session))
	}
	s.countSession(x, -1)
	s.setDevice(x, c.Device)
	s.setPlatform(x, c.Platform)
	x.idle = c.Idle
	s.countSession(x, +1)
	x.terms = s.termsOf(c)
	if by != nil && s.format >= 3 {
		x.terms = by.terms // for people to read: the gateway's lease decides
	}
	if s.setGateway(x, by); by == nil { // a gateway's sessions are bound to the gateway
		s.bind(&x.lease, connectionKey{c.Server, c.Client})
	}
	s.revive(x)
	if s.overdue(&x.lease) {
		s.lose(x)
	}
	// The earlier session of the device ends after the new one is live, so that the
	// user is never offline in between.
	for y := s.first(u); y != nil; {
		next := s.after(y)
		if y != x && c.Device != "" && s.device(y) == c.Device {
			r.Replaced = append(r.Replaced, s.sessionID(y).String())
			s.endFor(y, wasReplaced, 1)
		}
		y = next
	}
	r.Session, r.Terms = c.Session, s.termsInForce(&x.lease)
	return nil
}

// openSession adds a session with a lease of its own.
func (s *State) openSession(u *user, id sessionID) *session {
	n, x := s.newSession(u, id)
	s.takeLease(n, x)
	x.loginAt = s.clock.wall
	return x
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
	for x := s.first(u); x != nil; x = s.after(x) {
		switch {
		case !x.live || by != nil && s.gatewayOf(x) == by:
		case s.is(x, id) && s.gatewayOf(x) != by, !s.is(x, id) && c.Device != "" && s.device(x) == c.Device:
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
	for x := s.first(u); x != nil; x = s.after(x) {
		switch {
		case device != "" && s.device(x) == device:
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
	u := s.users.get(c.User)
	x := s.sessionNamed(u, c.Session)
	switch {
	case x == nil && s.wasEnded(u, c.User, c.Session):
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
	if x.loginOnly || x.bound.isGateway() {
		return
	}
	if !x.live {
		s.touch(s.userOf(x), byLogin)
		s.tell(s.userOf(x), partSessions)
	}
	s.revive(x)
}

// setIdle notes whether a session's device is idle: nobody is using it.
func (s *State) setIdle(x *session, idle bool) {
	if x.idle == idle {
		return
	}
	s.touch(s.userOf(x), bySet)
	s.tell(s.userOf(x), partSessions)
	s.countSession(x, -1)
	x.idle = idle
	s.countSession(x, +1)
}

// finalFormat is the first format in which a logout of one session can be for good.
const finalFormat = 6

// logout ends one session or all of a user's. Ending what is not there is not
// an error (PROTOCOL 4.3).
func (s *State) logout(c *entry.Command, r *Result) {
	u := s.users.get(c.User)
	final := c.Final && s.format >= finalFormat
	switch x := s.sessionNamed(u, c.Session); {
	case u == nil:
	case c.All:
		s.endSessions(u, func(*session) bool { return true }, byLogout, wasLoggedOut)
	case x == nil:
	case final:
		s.touch(u, byLogout)
		s.tell(u, partSessions)
		s.endFor(x, wasLoggedOut, 1)
	default:
		s.logoutSession(x)
	}
	r.Final = final && s.wasEnded(u, c.User, c.Session)
}

func (s *State) logoutSession(x *session) {
	s.touch(s.userOf(x), byLogout)
	s.tell(s.userOf(x), partSessions)
	s.remove(x)
}

// kick ends one session of a user or all, as an operator wants it (PROTOCOL 4.8).
// Kicking what is not there is not an error.
func (s *State) kick(c *entry.Command, r *Result) {
	u := s.users.get(c.User)
	if u == nil {
		return
	}
	id := packID(c.Session)
	r.Ended = s.endSessions(u, func(x *session) bool { return c.All || s.is(x, id) }, byKick, wasKicked)
}

// endSessions ends those sessions of a user that ends says, and returns their IDs.
func (s *State) endSessions(u *user, ends func(*session) bool, cause cause, reason endReason) (ended []string) {
	var which []*session
	for x := s.first(u); x != nil; x = s.after(x) {
		if ends(x) {
			which = append(which, x)
		}
	}
	for _, x := range which {
		s.touch(u, cause)
		s.tell(u, partSessions)
		ended = append(ended, s.sessionID(x).String())
		s.endFor(x, reason, len(which))
	}
	return ended
}

// remove ends a session and forgets it.
func (s *State) remove(x *session) {
	u, n := s.userOf(x), uint32(s.holderOf(&x.lease))
	s.setGateway(x, nil)
	s.unbind(&x.lease)
	s.freeLease(&x.lease)
	live := x.live
	if live {
		s.live--
		s.countSession(x, -1)
	}
	s.dropSession(n, x)
	s.notePresence(u)
	if live {
		s.leaveOnline(u)
	}
}

// lose ends a live session without a logout. The session is kept for the retention.
func (s *State) lose(x *session) {
	u := s.userOf(x)
	s.touch(u, byLoss)
	s.tell(u, partSessions)
	on := s.connectionOf(&x.lease)
	switch {
	case x.bound.isGateway() || x.loginOnly: // its gateway has ended
		x.loss = lostByGateway
	case on != nil && on.closed:
		x.loss = lostWithConnection
	default:
		x.loss = lostSilent
	}
	if x.loss != lostSilent {
		x.loginOnly = true
		s.setGateway(x, nil)
		s.unbind(&x.lease)
	}
	s.live--
	s.countSession(x, -1)
	x.live, x.lostAt = false, s.clock.wall
	s.notePresence(u)
	s.setDeadline(&x.lease, s.lostUntil())
	s.schedule(&x.lease)
	s.leaveOnline(u)
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
	for l := range s.allLeases {
		if x := s.sessionOf(l); x != nil && !l.live {
			s.preserve(s.userOf(x))
			s.setDeadline(l, l.deadline+by)
		}
	}
	for _, u := range s.users.table.All() {
		if h := s.hidden(u); h != nil && h.statusType == protocol.Offline {
			s.change(u)
			h.until += by
		}
	}
}

// forget ends a lost session whose retention is over.
func (s *State) forget(x *session) {
	s.touch(s.userOf(x), byExpiry)
	s.tell(s.userOf(x), partSessions)
	s.remove(x)
}

// liveSession returns an error unless a user, who may be nil, has a live session with
// that ID.
func (s *State) liveSession(u *user, user, id string) *protocol.Error {
	x := s.sessionNamed(u, id)
	switch {
	case x == nil && s.wasEnded(u, user, id):
		return protocol.ErrSessionReplaced
	case x == nil || !x.live:
		return protocol.ErrSessionNotFound
	}
	return nil
}

// sessionNamed returns the session of a user with an ID, or nil. u may be nil.
func (s *State) sessionNamed(u *user, name string) *session {
	if u == nil {
		return nil
	}
	id := packID(name)
	for x := s.first(u); x != nil; x = s.after(x) {
		if s.is(x, id) {
			return x
		}
	}
	return nil
}

// sessionID is a session's ID in little room: a UUID, which most are, as its 16
// bytes, anything else as it is. The two cannot be mistaken for each other: a
// UUID's ninth byte is above 0x7f, and the IDs of the contract are ASCII
// (PROTOCOL 1). Two are equal where the IDs are.
type sessionID string

const packedLength = 16

func packID(id string) sessionID {
	if len(id) != 36 {
		return sessionID(id)
	}
	u, err := uuid.Parse(id)
	if err != nil || u.Variant() != uuid.RFC4122 || strings.ContainsFunc(id, isCapital) { // in capitals it is another ID
		return sessionID(id)
	}
	return sessionID(u[:])
}

func isCapital(r rune) bool { return 'A' <= r && r <= 'F' }

func (p sessionID) String() string {
	if !p.isUUID() {
		return string(p)
	}
	return uuid.UUID([]byte(p)).String()
}

func (p sessionID) isUUID() bool { return len(p) == packedLength && p[8] > 0x7f }
