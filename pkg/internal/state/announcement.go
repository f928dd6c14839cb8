package state

import "presence/pkg/protocol"

// Announcement is what is to be published about a user's last changes.
type Announcement struct {
	UserID string
	// Public is the event for everybody. It counts if Announce is set.
	Public   protocol.Event
	Announce bool
	// Status is the owner's view. It counts if Tell is set. Self is what else the
	// user's own devices are told.
	Status protocol.SelfEvent
	Tell   bool
	Self   []protocol.SelfEvent
}

// Repeated returns what was announced last of a user's status, in the views of everybody and of
// the owner. It reports false where there is nothing to announce of the user.
func (s *State) Repeated(userID string) (Announcement, bool) {
	u := s.users.get(userID)
	if u == nil {
		return Announcement{}, false
	}
	a := s.announcement(u, partPublic|partOwner, 0)
	a.Announce = a.Public.Revision != 0
	a.Tell = a.Status.Status.Revision != 0
	return a, a.Announce || a.Tell
}

// announcement makes the announcement of some parts of a user. Of ended sessions it
// has those whose first pending announcement has a number above after; 0: all.
func (s *State) announcement(u *user, what parts, after uint64) Announcement {
	a := Announcement{UserID: s.userID(u), Announce: what&partPublic != 0, Tell: what&partOwner != 0}
	if a.Announce {
		a.Public = protocol.Event{Status: s.publicView(u), Epoch: s.epoch, PreviousRevision: u.previous, Cause: protocol.Cause(u.cause.String())}
		if h := s.hidden(u); h != nil {
			a.Public.PreviousRevision, a.Public.Cause = h.previous, protocol.Cause(h.cause.String())
		}
	}
	if a.Tell {
		status := s.ownerView(u)
		a.Status = protocol.SelfEvent{Type: protocol.SelfStatus, Status: &status, Cause: protocol.Cause(u.cause.String()), Epoch: s.epoch}
	}
	if x, ok := s.tombstone(u); ok {
		a.erasure(x, s.publicRevision(u), u.revision)
	}
	if what&partSettings != 0 {
		settings := s.settings(u)
		a.add(s, protocol.SelfEvent{Type: protocol.SelfAvailability, Availability: &settings})
	}
	if what&partSessions != 0 {
		a.add(s, protocol.SelfEvent{Type: protocol.SelfSessions, Sessions: s.sessionList(u)})
	}
	if what&partEnds == 0 {
		return a
	}
	for _, e := range s.pendingEnds(u) {
		if after == 0 || e.number > after {
			a.add(s, protocol.SelfEvent{Type: protocol.SelfKicked, SessionID: e.session.String(), Reason: e.reason.wire()})
		}
	}
	for r := s.replacedOf(u); r != nil; r = r.next {
		if r.pending {
			a.add(s, protocol.SelfEvent{Type: protocol.SelfKicked, SessionID: r.session.String(), Reason: r.reason.wire()})
		}
	}
	return a
}

// erasure makes the announcement say that the user was erased, unless something of the
// user has been seen since: then one of the revisions is not 0.
func (a *Announcement) erasure(x tombstone, public, own uint64) {
	status := x.status(a.UserID)
	if a.Announce && public == 0 {
		a.Public.Status, a.Public.PreviousRevision, a.Public.Cause = status, x.previous, protocol.CauseErased
	}
	if a.Tell && own == 0 {
		a.Status.Status, a.Status.Cause = &status, protocol.CauseErased
	}
}

// add adds an event as of the state's revision.
func (a *Announcement) add(s *State, e protocol.SelfEvent) {
	e.Revision, e.Epoch = s.Revision(), s.epoch
	a.Self = append(a.Self, e)
}
