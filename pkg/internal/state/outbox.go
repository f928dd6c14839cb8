package state

import (
	"cmp"
	"slices"
)

// owes are what of a user is to be announced.
type parts uint8

const (
	partPublic   parts = 1 << iota // what everybody sees
	partOwner                      // what the owner does
	partSettings                   // the availability that is set
	partSessions
	partEnds // of sessions, see untold
)

// owed is what a writer has to announce of a user. A later change takes it over,
// to whose writer the announcement is left then. Only what everybody sees of a
// hidden user is owed apart, see hidden.owed: nothing that the user does may have
// it announced once more.
type pending struct {
	user     *user
	hidden   *hidden // whose view it is; nil: all that there is to say of the user
	instance *instance
	number   uint64 // rises from item to item, for Owed to go on from
	position uint64 // the entry that made it this writer's to announce
	since    int64  // lease clock of that entry

	// fresh is what the change made due, carried what an earlier item of the
	// same writer did, whose number is upTo: that may be published.
	added, earlier parts
	earlierNumber  uint64
}

// counts reports whether the item is its user's, and not one of an earlier change.
func (p *pending) isCurrent() bool {
	if p.hidden != nil {
		return p.user.hidden == p.hidden && p.hidden.pending == p
	}
	return p.user.pending == p
}

// all is everything that is owed.
func (p *pending) all() parts {
	if p.hidden != nil {
		return partPublic
	}
	return p.added | p.earlier
}

// owe leaves it to a writer, from now on, to announce something of a user, and
// what was still to be announced.
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

// oweHidden is owe for what everybody sees of a hidden user.
func (s *State) enqueueHidden(in *instance, u *user) {
	s.preserve(u)
	h := u.hidden
	h.dropPending()
	h.pending = &pending{user: u, hidden: h, instance: in, position: s.position, since: s.clock.lease}
	s.push(in, h.pending)
}

// settle notes that nothing is to be announced of the view any more.
func (h *hidden) dropPending() {
	if h.pending != nil {
		h.pending.instance.current--
		h.pending = nil
	}
}

// split makes what is owed of the public view that of the view of a user who is
// being hidden, as it is: it may be published already. It returns the rest.
func (u *user) movePending() (rest parts) {
	p := u.pending
	if p == nil || p.all()&partPublic == 0 {
		return 0
	}
	rest = p.all() &^ partPublic
	p.hidden, u.hidden.pending, u.pending = u.hidden, p, nil
	return rest
}

// isOwed reports whether something of a user is to be announced.
func (u *user) hasPending() bool {
	return u.pending != nil || u.hidden != nil && u.hidden.pending != nil
}

// give appends an item that counts.
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

// oldest returns the first item that counts. What does not count must not decide
// anything: how long it is kept is nobody's business.
func (in *instance) oldest() *pending {
	for !in.outbox[0].isCurrent() {
		in.outbox = in.outbox[1:]
	}
	return in.outbox[0]
}

// settle drops what a writer announced up to a position.
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

// announced notes that an item that counts is.
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

// Cursor is how far somebody is who goes through what a writer owes. The zero
// value is before everything.
type Cursor struct {
	last uint64 // number of the last item looked at
	seen uint64 // the highest number that there was at that time
}

// Owed calls yield for what a writer has to announce behind a cursor, at most
// limit times, each as the user's status is now, and returns the cursor to go on
// from. more says whether there may be others; where not, everything up to
// State.Position is covered.
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
		// What it took over was published if it did not exist yet when the earlier
		// item was looked at, and not passed over as one that does not count.
		if p.hidden == nil && from.last >= p.earlierNumber && p.number > from.seen {
			what, after = p.added, p.earlierNumber
		}
		yield(s.announcement(p.user, what, after))
	}
	return to, start < len(in.outbox)
}
