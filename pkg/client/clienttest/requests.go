package clienttest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"presence/pkg/protocol"
)

// opened is what a login says, by a user or by a gateway for one.
type opened struct {
	userID, sessionID, device, platform string
	idle, bound                         bool
	connection                          *protocol.Connection
	ttl                                 time.Duration
	lease                               *lease
}

// open opens or resumes a session (PROTOCOL 4.1). It returns those replaced.
func (c *change) open(o opened) (replaced []string, err error) {
	u := c.s.user(o.userID)
	x := u.session(o.sessionID)
	if _, ended := u.ended[o.sessionID]; ended && x == nil {
		return nil, protocol.ErrSessionReplaced
	}
	old := slices.IndexFunc(u.sessions, func(y *session) bool { return o.device != "" && y.Device == o.device && y != x })
	if x == nil && old < 0 && len(u.sessions) >= protocol.MaxSessionsPerUser {
		lost := slices.IndexFunc(u.sessions, func(y *session) bool { return !y.Live })
		if lost < 0 {
			return nil, protocol.ErrTooManySessions
		}
		u.sessions = slices.Delete(u.sessions, lost, lost+1)
	}
	t := c.touch(o.userID, protocol.CauseLogin)
	if old >= 0 {
		replaced = append(replaced, t.sessions[old].SessionID)
		u.endFor(u.sessions[old], protocol.EndReplaced)
	}
	if x == nil {
		x = &session{Session: protocol.Session{SessionID: o.sessionID, LoginAt: protocol.TimeOf(c.s.now)}}
		u.sessions = append(u.sessions, x)
	}
	x.Device, x.Platform, x.Idle, x.Bound, x.Connection = o.device, o.platform, o.idle, o.bound, o.connection
	if x.Platform == "" {
		x.Platform = "unknown"
	}
	x.Live, x.LostAt, x.severed, x.lease, x.Gateway = true, 0, false, o.lease, ""
	x.TTLSeconds = int64(o.ttl / time.Second)
	if o.lease != nil {
		x.Gateway = o.lease.key.gateway
	}
	return replaced, nil
}

func (s *Service) login(r Request, m *protocol.LoginRequest) (any, error) {
	if m.SessionID == "" {
		m.SessionID = uuid.NewString()
	}
	o := opened{userID: r.UserID, sessionID: m.SessionID, device: m.Device, platform: m.Platform, idle: m.Idle,
		bound: m.Connection != nil, connection: m.Connection, ttl: time.Duration(m.TTLSeconds) * time.Second}
	if o.ttl == 0 && o.bound {
		o.ttl = protocol.DefaultBoundTTL
	} else if o.ttl == 0 {
		o.ttl = protocol.DefaultTTL
	}
	var replaced []string
	var err error
	s.change(func(c *change) { replaced, err = c.open(o) })
	if err != nil {
		return nil, err
	}
	return protocol.LoginReply{SessionID: m.SessionID, TTLSeconds: s.seconds(o.ttl), GraceSeconds: protocol.DefaultGrace.Seconds(),
		Replaced: replaced, Status: s.user(r.UserID).owner, Revision: s.revision, Epoch: s.epoch}, nil
}

// seconds is a TTL as it is answered.
func (s *Service) seconds(ttl time.Duration) int64 {
	if s.ttl != 0 {
		ttl = s.ttl
	}
	return int64(ttl / time.Second)
}

// find returns a session that is there.
func (u *user) find(id string) (*session, error) {
	if x := u.session(id); x != nil {
		return x, nil
	}
	if _, ended := u.ended[id]; ended {
		return nil, protocol.ErrSessionReplaced
	}
	return nil, protocol.ErrSessionNotFound
}

// findLive returns a session that is live.
func (u *user) findLive(id string) (*session, error) {
	x, err := u.find(id)
	if err == nil && !x.Live {
		err = protocol.ErrSessionNotFound
	}
	return x, err
}

func (s *Service) renew(r Request, m *protocol.RenewRequest) (any, error) {
	u := s.user(r.UserID)
	x, err := u.find(m.SessionID)
	switch {
	case err != nil:
		return nil, err
	case !x.Live && (x.Bound || x.severed):
		return nil, protocol.ErrSessionNotFound
	}
	s.change(func(c *change) {
		c.touch(r.UserID, protocol.CauseLogin)
		if x.Live {
			c.touch(r.UserID, protocol.CauseSet)
		}
		x.Live, x.LostAt = true, 0
		if m.Idle != nil {
			x.Idle = *m.Idle
		}
	})
	return s.changed(u)
}

func (s *Service) changed(u *user) (any, error) {
	return protocol.ChangeReply{Status: u.owner, Revision: s.revision, Epoch: s.epoch}, nil
}

func (s *Service) logout(r Request, m *protocol.LogoutRequest) (any, error) {
	s.change(func(c *change) {
		t := c.touch(r.UserID, protocol.CauseLogout)
		if m.All {
			t.endAll("", protocol.EndLogout)
		} else if x := t.session(m.SessionID); x != nil {
			t.remove(x)
		}
	})
	return s.changed(s.user(r.UserID))
}

// endAll ends one session, or all where id is empty, and returns their IDs.
func (u *user) endAll(id string, reason protocol.EndReason) []string {
	ended := []string{}
	for _, x := range slices.Clone(u.sessions) {
		if id == "" || x.SessionID == id {
			ended = append(ended, x.SessionID)
			u.endFor(x, reason)
		}
	}
	return ended
}

func (s *Service) set(r Request, m *setRequest) (any, error) {
	var err error
	s.change(func(c *change) { err = c.set(r.UserID, &m.SetRequest) })
	if err != nil {
		return nil, err
	}
	return s.changed(s.user(r.UserID))
}

// setRequest is one whose Check needs no argument.
type setRequest struct{ protocol.SetRequest }

func (r *setRequest) Check() error { return r.SetRequest.Check(protocol.MaxCustomStatusBytes) }

// set changes what a user says (PROTOCOL 4.4).
func (c *change) set(userID string, m *protocol.SetRequest) error {
	u := c.s.user(userID)
	if m.SessionID != "" {
		if _, err := u.findLive(m.SessionID); err != nil {
			return err
		}
	}
	if m.IfRevision != nil && *m.IfRevision != u.owner.Revision {
		return protocol.ErrRevisionConflict.Withf("the status has revision %d, not %d", u.owner.Revision, *m.IfRevision)
	}
	t := c.touch(userID, protocol.CauseSet)
	if m.CustomStatus != nil {
		t.text, t.textUntil = *m.CustomStatus, c.s.after(m.ExpiresInSeconds)
	}
	if m.Availability == nil {
		return nil
	}
	if until := c.s.after(m.AvailabilityExpiresInSeconds); until.IsZero() {
		t.user.settings, t.overrideUntil = protocol.AvailabilitySettings{Lasting: *m.Availability}, time.Time{}
	} else {
		t.user.settings.Override, t.user.settings.OverrideExpiresAt, t.overrideUntil = *m.Availability, protocol.TimeOf(until), until
	}
	return nil
}

func (s *Service) after(seconds *int64) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	return s.now.Add(time.Duration(*seconds) * time.Second)
}

func (s *Service) get(_ Request, m *protocol.GetRequest) (any, error) {
	reply := protocol.GetReply{SuccessUserList: []protocol.Status{}, FailureUserList: []protocol.UserFailure{},
		Revision: s.revision, Epoch: s.epoch, AsOf: protocol.TimeOf(s.now), Stale: s.stale}
	asked := map[string]bool{}
	for _, id := range m.UserIDList {
		if asked[id] {
			continue
		}
		asked[id] = true
		if err := protocol.CheckUserID(id); err != nil {
			reply.FailureUserList = append(reply.FailureUserList, protocol.Failure(id, err))
			continue
		}
		reply.SuccessUserList = append(reply.SuccessUserList, s.public(id, m.Detail))
	}
	return reply, nil
}

// public is what everybody sees.
func (s *Service) public(id string, detail bool) protocol.Status {
	u := s.users[id]
	if u == nil {
		return protocol.Status{UserID: id, StatusType: protocol.Unlogined}
	}
	v := u.public
	if detail {
		v.Platforms = u.platforms()
	}
	return v
}

func (s *Service) ownStatus(r Request, _ *struct{}) (any, error) {
	u := s.user(r.UserID)
	return protocol.OwnStatusReply{Status: u.owner, Availability: u.settings, Sessions: u.list(),
		Revision: s.revision, Epoch: s.epoch, AsOf: protocol.TimeOf(s.now), Stale: s.stale}, nil
}

func (s *Service) contacts(r Request, m *protocol.ContactsRequest) (any, error) {
	u := s.user(r.UserID)
	list := append(slices.Clone(u.contacts), m.Add...)
	if m.Replace != nil {
		list = slices.Clone(*m.Replace)
	}
	list = slices.DeleteFunc(list, func(id string) bool { return slices.Contains(m.Remove, id) })
	slices.Sort(list)
	if list = slices.Compact(list); len(list) > protocol.MaxContacts {
		return nil, protocol.ErrRequestTooLarge.Withf("there would be %d contacts, at most %d are allowed", len(list), protocol.MaxContacts)
	}
	s.setContacts(u, list)
	return protocol.ContactsReply{Contacts: append([]string{}, u.contacts...), FriendNotifications: s.friendNotifications, Version: u.version}, nil
}

// setContacts changes a user's contacts, if it is a change.
func (s *Service) setContacts(u *user, list []string) {
	if slices.Equal(list, u.contacts) {
		return
	}
	ev := protocol.SelfEvent{Type: protocol.SelfContacts, PreviousVersion: u.version, Version: u.version + 1,
		Added: without(list, u.contacts), Removed: without(u.contacts, list)}
	u.contacts, u.version = list, ev.Version
	s.tell(u, ev)
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(id string) bool { return slices.Contains(others, id) })
}
