package differential

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

// announcement makes the announcement of some parts of a user. Of ended sessions it
// has those whose first pending announcement has a number above after; 0: all.
func (s *State) announcement(u *user, what parts, after uint64) Announcement {
	a := Announcement{UserID: u.id, Announce: what&partPublic != 0, Tell: what&partOwner != 0}
	if a.Announce {
		a.Public = protocol.Event{Status: s.publicView(u), Epoch: s.epoch, PreviousRevision: u.previous, Cause: protocol.Cause(u.cause.String())}
		if h := u.hidden; h != nil {
			a.Public.PreviousRevision, a.Public.Cause = h.previous, protocol.Cause(h.cause.String())
		}
	}
	if a.Tell {
		status := s.ownerView(u)
		a.Status = protocol.SelfEvent{Type: protocol.SelfStatus, Status: &status, Cause: protocol.Cause(u.cause.String()), Epoch: s.epoch}
	}
	if u.tombstone != nil {
		a.erasure(u)
	}
	if what&partSettings != 0 {
		settings := u.settings()
		a.add(s, protocol.SelfEvent{Type: protocol.SelfAvailability, Availability: &settings})
	}
	if what&partSessions != 0 {
		a.add(s, protocol.SelfEvent{Type: protocol.SelfSessions, Sessions: u.sessionList()})
	}
	if what&partEnds == 0 {
		return a
	}
	for _, e := range u.pendingEnds() {
		if after == 0 || e.number > after {
			a.add(s, protocol.SelfEvent{Type: protocol.SelfKicked, SessionID: e.session.String(), Reason: e.reason.wire()})
		}
	}
	for r := u.replaced; r != nil; r = r.next {
		if r.pending {
			a.add(s, protocol.SelfEvent{Type: protocol.SelfKicked, SessionID: r.session.String(), Reason: r.reason.wire()})
		}
	}
	return a
}

// erasure makes the announcement say that the user was erased, unless something of the
// user has been seen since.
func (a *Announcement) erasure(u *user) {
	status := u.tombstone.status(u.id)
	if a.Announce && u.publicRevision() == 0 {
		a.Public.Status, a.Public.PreviousRevision, a.Public.Cause = status, u.tombstone.previous, protocol.CauseErased
	}
	if a.Tell && u.revision == 0 {
		a.Status.Status, a.Status.Cause = &status, protocol.CauseErased
	}
}

// add adds an event as of the state's revision.
func (a *Announcement) add(s *State, e protocol.SelfEvent) {
	e.Revision, e.Epoch = s.Revision(), s.epoch
	a.Self = append(a.Self, e)
}
