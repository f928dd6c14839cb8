package differential

import (
	"cmp"
	"slices"
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
	user     *user
	hidden   *hidden // the hidden user's public view; nil: everything about the user
	instance *instance
	number   uint64 // rises from one to the next; a Cursor refers to it
	position uint64 // the entry that put it into this outbox
	since    int64  // lease clock of that entry

	// added is what this change has to announce. earlier comes from the pending
	// announcement that this one replaced in the same outbox, whose number is
	// earlierNumber: it may already be published.
	added, earlier parts
	earlierNumber  uint64
}

// isCurrent reports whether p still stands: a later change has not replaced it.
func (p *pending) isCurrent() bool {
	if p.hidden != nil {
		return p.user.hidden == p.hidden && p.hidden.pending == p
	}
	return p.user.pending == p
}

// all returns everything that is to be announced.
func (p *pending) all() parts {
	if p.hidden != nil {
		return partPublic
	}
	return p.added | p.earlier
}

// enqueue puts an announcement of a user into an instance's outbox. It includes
// what was still to be announced of the user.
func (s *State) enqueue(in *instance, u *user, what parts) {
	s.preserve(u)
	p := &pending{user: u, instance: in, position: s.position, since: s.clock.lease, added: what}
	if old := u.pending; old != nil {
		old.instance.current--
		if old.instance == in {
			p.earlier, p.earlierNumber = old.all(), old.number
		} else {
			p.added |= old.all()
		}
	}
	u.pending = p
	s.push(in, p)
}

// enqueueHidden is enqueue for the public view of a hidden user.
func (s *State) enqueueHidden(in *instance, u *user) {
	s.preserve(u)
	h := u.hidden
	h.dropPending()
	h.pending = &pending{user: u, hidden: h, instance: in, position: s.position, since: s.clock.lease}
	s.push(in, h.pending)
}

// dropPending drops the pending announcement of the view.
func (h *hidden) dropPending() {
	if h.pending != nil {
		h.pending.instance.current--
		h.pending = nil
	}
}

// movePending moves a pending announcement of the public view to the view of a user
// who is being hidden. It keeps its number, because it may already be published. It
// returns the parts that are not moved.
func (u *user) movePending() (rest parts) {
	p := u.pending
	if p == nil || p.all()&partPublic == 0 {
		return 0
	}
	rest = p.all() &^ partPublic
	p.hidden, u.hidden.pending, u.pending = u.hidden, p, nil
	return rest
}

// hasPending reports whether something of a user is still to be announced.
func (u *user) hasPending() bool {
	return u.pending != nil || u.hidden != nil && u.hidden.pending != nil
}

// push appends a current announcement to an outbox. When half of a long outbox is
// replaced announcements, it removes those first.
func (s *State) push(in *instance, p *pending) {
	if len(in.outbox) >= 1024 && len(in.outbox) >= 2*in.current {
		in.outbox = slices.DeleteFunc(in.outbox, func(p *pending) bool { return !p.isCurrent() })
	}
	in.current++
	s.lastPending++
	p.number = s.lastPending
	if p.hidden == nil && p.added&partEnds != 0 {
		p.user.numberEnds(p.number)
	}
	in.outbox = append(in.outbox, p)
}

// oldest returns the first current announcement. It drops the ones before, which were
// replaced: nothing may depend on how long those are kept.
func (in *instance) oldest() *pending {
	for !in.outbox[0].isCurrent() {
		in.outbox = in.outbox[1:]
	}
	return in.outbox[0]
}

// dropAnnounced drops what an instance has announced for certain, up to a position.
func (s *State) dropAnnounced(in *instance, position uint64) {
	n := 0
	for n < len(in.outbox) && in.outbox[n].position <= position {
		if p := in.outbox[n]; p.isCurrent() {
			s.preserve(p.user)
			s.dequeue(p)
		}
		n++
	}
	clear(in.outbox[:n])
	in.outbox = in.outbox[n:]
	if len(in.outbox) == 0 {
		in.outbox = nil
	}
}

// dequeue notes that a current announcement is made for certain.
func (s *State) dequeue(p *pending) {
	defer s.scheduleForget(p.user) // which may have waited for it
	defer func() {
		if p.user.tombstone != nil && !p.user.hasPending() {
			p.user.tombstone = nil
		}
	}()
	if p.hidden != nil {
		p.hidden.dropPending()
		return
	}
	if p.all()&partEnds != 0 {
		p.user.dropEnds()
	}
	p.user.pending = nil
	p.instance.current--
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
	i := slices.IndexFunc(s.instances, func(in *instance) bool { return in.id == id })
	if i < 0 {
		return from, false
	}
	in := s.instances[i]
	start, _ := slices.BinarySearchFunc(in.outbox, from.last+1, func(p *pending, n uint64) int {
		return cmp.Compare(p.number, n)
	})
	to = Cursor{last: from.last, seen: s.lastPending}
	for ; start < len(in.outbox) && limit > 0; start++ {
		p := in.outbox[start]
		to.last = p.number
		if !p.isCurrent() {
			continue
		}
		limit--
		what, after := p.all(), uint64(0)
		// The earlier parts are published if the reader was given the earlier
		// announcement. That was while it was current: before this one existed.
		if p.hidden == nil && from.last >= p.earlierNumber && p.number > from.seen {
			what, after = p.added, p.earlierNumber
		}
		yield(s.announcement(p.user, what, after))
	}
	return to, start < len(in.outbox)
}
