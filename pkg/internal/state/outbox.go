package state

import (
	"cmp"
	"slices"

	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// parts say what is to be announced of a user.
type parts uint8

const (
	partPublic   parts = 1 << iota // the view that everybody sees
	partOwner                      // what the owner does
	partSettings                   // the availability that is set
	partSessions
	partEnds // of sessions, see pendingEnds
)

// pending is an announcement that an instance has in its outbox, for one user. A
// later change of the user makes a new one, in the outbox of the instance that
// committed the change; it includes what was still to be announced.
//
// The public view of a hidden user has a pending announcement of its own, see
// hidden.pending: nothing that the user does may announce that view again.
type pending struct {
	number   uint64 // rises from one to the next; a Cursor refers to it
	position uint64 // the entry that put it into this outbox
	since    int64  // lease clock of that entry

	// added is what this change has to announce. earlier comes from the pending
	// announcement that this one replaced in the same outbox, whose number is
	// earlierNumber: it may already be published.
	added, earlier parts
	hidden         bool // the hidden user's public view; otherwise everything about the user
	earlierNumber  uint64

	user     uint32
	instance uint32 // see instance.local
}

// currentUser returns the user of a pending announcement if it still stands; nil: a later change
// has replaced it. at is where the announcement is in State.pendings.
func (t *tables) currentUser(at uint32) *user {
	p := t.pendings.At(at)
	u := t.users.table.Get(p.user)
	switch {
	case u == nil:
		return nil
	case p.hidden:
		if h := t.hidden(u); h == nil || h.pending != at {
			return nil
		}
	case u.pending != at:
		return nil
	}
	return u
}

func (t *tables) isCurrent(at uint32) bool { return t.currentUser(at) != nil }

// all returns everything that is to be announced.
func (p *pending) all() parts {
	if p.hidden {
		return partPublic
	}
	return p.added | p.earlier
}

// enqueue puts an announcement of a user into an instance's outbox. It includes
// what was still to be announced of the user.
func (s *State) enqueue(in *instance, u *user, what parts) {
	s.preserve(u)
	at, p := s.newPending(in, u)
	p.added = what
	if old := s.pendings.At(u.pending); old != nil {
		s.instanceOf(old).current--
		if old.instance == in.local {
			p.earlier, p.earlierNumber = old.all(), old.number
		} else {
			p.added |= old.all()
		}
	}
	u.pending = at
	s.push(in, at)
}

// enqueueHidden is enqueue for the public view of a hidden user.
func (s *State) enqueueHidden(in *instance, u *user) {
	s.preserve(u)
	h := s.hidden(u)
	s.dropHiddenPending(h)
	at, p := s.newPending(in, u)
	p.hidden, h.pending = true, at
	s.push(in, at)
}

// newPending returns a pending announcement of the entry at hand. It has its number from push
// on, and is freed when it leaves the outbox.
func (s *State) newPending(in *instance, u *user) (at uint32, p *pending) {
	at, p = s.pendings.New()
	p.user, p.instance, p.position, p.since = s.numberOf(u), in.local, s.position, s.clock.lease
	return at, p
}

// dropHiddenPending drops the pending announcement of a hidden user's public view.
func (s *State) dropHiddenPending(h *hidden) {
	if h.pending != 0 {
		s.instanceOf(s.pendings.At(h.pending)).current--
		h.pending = 0
	}
}

// movePending moves a pending announcement of the public view to the view of a user
// who is being hidden. It keeps its number, because it may already be published. It
// returns the parts that are not moved.
func (s *State) movePending(u *user) (rest parts) {
	p := s.pendings.At(u.pending)
	if p == nil || p.all()&partPublic == 0 {
		return 0
	}
	rest = p.all() &^ partPublic
	p.hidden, s.hidden(u).pending, u.pending = true, u.pending, 0
	return rest
}

// hasPending reports whether something of a user is still to be announced.
func (s *State) hasPending(u *user) bool {
	if u.pending != 0 {
		return true
	}
	h := s.hidden(u)
	return h != nil && h.pending != 0
}

// push appends a current announcement to an outbox. When half of a long outbox is
// replaced announcements, it removes those first.
func (s *State) push(in *instance, at uint32) {
	if len(in.outbox) >= 1024 && len(in.outbox) >= 2*in.current {
		in.outbox = slices.DeleteFunc(in.outbox, func(at uint32) bool {
			current := s.isCurrent(at)
			if !current {
				s.pendings.Free(at)
			}
			return !current
		})
	}
	in.current++
	s.lastPending++
	p := s.pendings.At(at)
	p.number = s.lastPending
	if !p.hidden && p.added&partEnds != 0 {
		s.numberEnds(s.user(p.user), p.number)
	}
	in.outbox = append(in.outbox, at)
}

// oldest returns the first current announcement. It drops the ones before, which were
// replaced: nothing may depend on how long those are kept.
func (s *State) oldest(in *instance) *pending {
	for !s.isCurrent(in.outbox[0]) {
		s.pop(in)
	}
	return s.pendings.At(in.outbox[0])
}

// pop takes the first announcement out of an outbox. It must not be current any more.
func (s *State) pop(in *instance) {
	s.pendings.Free(in.outbox[0])
	if in.outbox = in.outbox[1:]; len(in.outbox) == 0 {
		in.outbox = nil
	}
}

// dropAnnounced drops what an instance has announced for certain, up to a position.
func (s *State) dropAnnounced(in *instance, position uint64) {
	for n := 0; len(in.outbox) > 0; n++ {
		at := in.outbox[0]
		if s.pendings.At(at).position > position {
			return
		}
		if n%table.Several == 0 {
			s.fetchPending(in.outbox[:min(table.Several, len(in.outbox))])
		}
		if u := s.currentUser(at); u != nil {
			s.preserve(u)
			s.dequeue(u, s.pendings.At(at))
		}
		s.pop(in)
	}
}

// fetchPending reads the users of some announcements, and changes nothing: see fetch.
func (s *State) fetchPending(list []uint32) {
	for _, at := range list {
		if u := s.users.table.Get(s.pendings.At(at).user); u != nil {
			s.fetched += int64(u.id) + int64(u.pending)
		}
	}
}

// dequeue notes that a current announcement of a user is made for certain.
func (s *State) dequeue(u *user, p *pending) {
	if p.hidden {
		s.dropHiddenPending(s.hidden(u))
	} else {
		if p.all()&partEnds != 0 {
			s.dropEnds(u)
		}
		u.pending = 0
		s.instanceOf(p).current--
	}
	if !s.hasPending(u) {
		s.dropTombstone(u)
	}
	s.scheduleForget(u) // which may have waited for it
	s.dropRare(u)
}

// Cursor is a place in an instance's outbox. The zero value is before everything.
type Cursor struct {
	last uint64 // number of the last announcement read
	seen uint64 // the highest number that existed at that time
}

// Pending calls yield for the announcements in an instance's outbox behind a cursor,
// at most limit times. Each has the user's status of now. It returns the cursor to
// continue from. Without more, everything up to State.Position has been read.
func (s *State) Pending(id string, from Cursor, limit int, yield func(Announcement)) (to Cursor, more bool) {
	return s.PendingHeard(id, from, limit, func(string) (bool, bool) { return true, true }, yield)
}

// PendingHeard is Pending without what nobody hears. heard says of a user whether anybody gets the
// event for everybody, and the events for the user's own devices.
func (s *State) PendingHeard(id string, from Cursor, limit int, heard func(userID string) (public, own bool), yield func(Announcement)) (to Cursor, more bool) {
	i := slices.IndexFunc(s.instances, func(in *instance) bool { return in.id == id })
	if i < 0 {
		return from, false
	}
	in := s.instances[i]
	start, _ := slices.BinarySearchFunc(in.outbox, from.last+1, func(at uint32, n uint64) int {
		return cmp.Compare(s.pendings.At(at).number, n)
	})
	to = Cursor{last: from.last, seen: s.lastPending}
	for ; start < len(in.outbox) && limit > 0; start++ {
		p := s.pendings.At(in.outbox[start])
		to.last = p.number
		u := s.currentUser(in.outbox[start])
		if u == nil {
			continue
		}
		limit--
		what, after := p.all(), uint64(0)
		// The earlier parts are published if the reader was given the earlier
		// announcement. That was while it was current: before this one existed.
		if !p.hidden && from.last >= p.earlierNumber && p.number > from.seen {
			what, after = p.added, p.earlierNumber
		}
		public, own := heard(s.userID(u))
		if !public {
			what &^= partPublic
		}
		if !own {
			what &= partPublic
		}
		if what != 0 {
			yield(s.announcement(u, what, after))
		}
	}
	return to, start < len(in.outbox)
}

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
		a.Public = protocol.Event{Status: s.publicView(u, a.UserID), Epoch: s.epoch, PreviousRevision: u.previous, Cause: protocol.Cause(u.cause.String())}
		if h := s.hidden(u); h != nil {
			a.Public.PreviousRevision, a.Public.Cause = h.previous, protocol.Cause(h.cause.String())
		}
	}
	if a.Tell {
		status := s.ownerView(u, a.UserID)
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
