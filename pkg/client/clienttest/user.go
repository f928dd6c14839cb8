package clienttest

import (
	"reflect"
	"slices"
	"time"

	"presence/pkg/protocol"
)

// user is everything about one (PROTOCOL 3).
type user struct {
	id       string
	sessions []*session // in the order of their logins, lost ones included
	ended    map[string]protocol.EndReason
	lastSeen protocol.Time

	text          string
	textUntil     time.Time // zero: for ever
	settings      protocol.AvailabilitySettings
	overrideUntil time.Time

	// owner and public are the two views as they were shown last, with their
	// revisions. hidden is the public one while it is frozen.
	owner, public protocol.Status
	hidden        *protocol.Status

	contacts []string // sorted
	version  uint64
}

// session is one login of one device.
type session struct {
	protocol.Session
	lease *lease // of a gateway that holds it
	// severed: it was lost with its gateway, so that a renewal does not bring it back.
	severed bool
}

func (s *Service) user(id string) *user {
	u := s.users[id]
	if u == nil {
		u = &user{id: id, ended: map[string]protocol.EndReason{}, settings: protocol.AvailabilitySettings{Lasting: protocol.Available}}
		u.owner = protocol.Status{UserID: id, StatusType: protocol.Unlogined}
		u.public = u.owner
		s.users[id] = u
	}
	return u
}

func (u *user) session(id string) *session {
	for _, x := range u.sessions {
		if x.SessionID == id {
			return x
		}
	}
	return nil
}

func (u *user) list() []protocol.Session {
	list := make([]protocol.Session, len(u.sessions))
	for i, x := range u.sessions {
		list[i] = x.Session
	}
	return list
}

func (u *user) availability() protocol.Availability {
	if u.settings.Override != "" {
		return u.settings.Override
	}
	return u.settings.Lasting
}

// view is what the owner sees, without revision.
func (u *user) view() protocol.Status {
	v := protocol.Status{UserID: u.id, StatusType: protocol.Unlogined, CustomStatus: u.text, LastSeenAt: u.lastSeen}
	if u.text != "" && !u.textUntil.IsZero() {
		v.CustomStatusExpiresAt = protocol.TimeOf(u.textUntil)
	}
	idle := true
	for _, x := range u.sessions {
		if x.Live {
			v.StatusType = protocol.Online
			idle = idle && x.Idle
		} else if v.StatusType != protocol.Online {
			v.StatusType = protocol.Offline
		}
	}
	if v.StatusType == protocol.Online {
		v.LastSeenAt = 0
		switch a := u.availability(); {
		case a != protocol.Available:
			v.Availability = a
		case idle:
			v.Availability = protocol.Away
		}
	}
	return v
}

// platforms of live sessions, as everybody may see them.
func (u *user) platforms() (list []string) {
	if u.hidden != nil {
		return nil
	}
	for _, x := range u.sessions {
		if x.Live {
			list = append(list, x.Platform)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// endFor ends a session for a reason that its client is to know.
func (u *user) endFor(x *session, reason protocol.EndReason) {
	u.ended[x.SessionID] = reason
	u.remove(x)
}

func (u *user) remove(x *session) {
	u.sessions = slices.DeleteFunc(u.sessions, func(y *session) bool { return x == y })
}

// change is one change of the service, with one revision, of any number of users.
type change struct {
	s       *Service
	touched []*touched
}

// touched is how a user was before.
type touched struct {
	*user
	cause    protocol.Cause
	sessions []protocol.Session
	settings protocol.AvailabilitySettings
	ended    map[string]protocol.EndReason
	erased   bool
}

// change makes one of what f does to users that it touches, and announces it.
func (s *Service) change(f func(*change)) {
	s.revision++
	c := &change{s: s}
	f(c)
	for _, t := range c.touched {
		s.finish(t)
	}
}

// touch returns a user who is about to be changed for a cause.
func (c *change) touch(id string, cause protocol.Cause) *touched {
	for _, t := range c.touched {
		if t.id == id {
			t.cause = cause
			return t
		}
	}
	u := c.s.user(id)
	t := &touched{user: u, cause: cause, sessions: u.list(), settings: u.settings, ended: map[string]protocol.EndReason{}}
	for id, reason := range u.ended {
		t.ended[id] = reason
	}
	c.touched = append(c.touched, t)
	return t
}

// finish makes what changed visible.
func (s *Service) finish(t *touched) {
	u, before := t.user, t.user.owner
	now := protocol.TimeOf(s.now)
	view := u.view()
	if before.StatusType == protocol.Online && view.StatusType != protocol.Online && !t.erased {
		u.lastSeen, u.text, u.textUntil = now, "", time.Time{}
		view = u.view()
	}
	public, cause := u.publicView(view, now, t.cause)
	previous := u.public.Revision
	if s.show(&u.public, public, t.erased) {
		subject, err := s.subjects.Event(u.id)
		s.publish(subject, err, protocol.Event{Status: u.public, Epoch: s.epoch, PreviousRevision: previous, Cause: cause})
	}
	if s.show(&u.owner, view, t.erased) {
		s.tell(u, protocol.SelfEvent{Type: protocol.SelfStatus, Status: &u.owner, Cause: t.cause})
	}
	if u.settings != t.settings {
		s.tell(u, protocol.SelfEvent{Type: protocol.SelfAvailability, Availability: &u.settings, Revision: s.revision})
	}
	list := u.list()
	if before.StatusType == protocol.Online && view.StatusType == protocol.Online && !slices.EqualFunc(list, t.sessions, sameToOwner) {
		s.tell(u, protocol.SelfEvent{Type: protocol.SelfSessions, Sessions: list, Revision: s.revision})
	}
	for id, reason := range u.ended {
		if _, was := t.ended[id]; !was {
			s.tell(u, protocol.SelfEvent{Type: protocol.SelfKicked, SessionID: id, Reason: reason, Revision: s.revision})
		}
	}
}

// sameToOwner reports whether a session is not worth an event. That it went from
// one gateway to another is not.
func sameToOwner(a, b protocol.Session) bool {
	return a.SessionID == b.SessionID && a.Live == b.Live && a.Idle == b.Idle
}

// publicView returns what everybody sees, and why that changed, if it did: an
// invisible user is as if all sessions had been lost at that moment, until the
// user is ONLINE and not invisible.
func (u *user) publicView(view protocol.Status, now protocol.Time, cause protocol.Cause) (protocol.Status, protocol.Cause) {
	invisible := u.availability() == protocol.Invisible
	switch {
	case invisible && u.hidden == nil:
		u.hidden = &protocol.Status{}
		*u.hidden = u.public
		if u.public.StatusType == protocol.Online {
			*u.hidden = protocol.Status{UserID: u.id, StatusType: protocol.Offline, LastSeenAt: now}
		}
		cause = protocol.CauseLost
	case u.hidden != nil && !invisible && view.StatusType == protocol.Online:
		u.hidden, cause = nil, protocol.CauseLogin
	}
	if u.hidden != nil {
		return *u.hidden, cause
	}
	return view, cause
}

// show makes a view of a user the one that is shown, with this revision, where it
// is another one.
func (s *Service) show(shown *protocol.Status, view protocol.Status, always bool) (changed bool) {
	view.Revision, view.UpdatedAt = shown.Revision, shown.UpdatedAt
	if reflect.DeepEqual(view, *shown) && !always {
		return false
	}
	view.Revision, view.UpdatedAt = s.revision, protocol.TimeOf(s.now)
	*shown = view
	return true
}

// tell publishes an event for the user's own devices.
func (s *Service) tell(u *user, ev protocol.SelfEvent) {
	if ev.Type != protocol.SelfContacts {
		ev.Epoch = s.epoch
	}
	subject, err := s.subjects.Self(u.id)
	s.publish(subject, err, ev)
}
