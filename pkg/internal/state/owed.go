package state

import (
	"cmp"
	"slices"
)

// owes are what of a user is to be announced.
type owes uint8

const (
	owePublic   owes = 1 << iota // what everybody sees
	oweOwner                     // what the owner does
	oweSettings                  // the availability that is set
	oweSessions
	oweEnds // of sessions, see untold
)

// owed is what a writer has to announce of a user. A later change takes it over,
// to whose writer the announcement is left then. Only what everybody sees of a
// hidden user is owed apart, see hidden.owed: nothing that the user does may have
// it announced once more.
type owed struct {
	user     *user
	hidden   *hidden // whose view it is; nil: all that there is to say of the user
	writer   *writer
	number   uint64 // rises from item to item, for Owed to go on from
	position uint64 // the entry that made it this writer's to announce
	since    int64  // lease clock of that entry

	// fresh is what the change made due, carried what an earlier item of the
	// same writer did, whose number is upTo: that may be published.
	fresh, carried owes
	upTo           uint64
}

// counts reports whether the item is its user's, and not one of an earlier change.
func (o *owed) counts() bool {
	if o.hidden != nil {
		return o.user.hidden == o.hidden && o.hidden.owed == o
	}
	return o.user.owed == o
}

// all is everything that is owed.
func (o *owed) all() owes {
	if o.hidden != nil {
		return owePublic
	}
	return o.fresh | o.carried
}

// owe leaves it to a writer, from now on, to announce something of a user, and
// what was still to be announced.
func (s *State) owe(w *writer, u *user, what owes) {
	s.preserve(u)
	o := &owed{user: u, writer: w, position: s.position, since: s.clock.lease, fresh: what}
	if old := u.owed; old != nil {
		old.writer.live--
		if old.writer == w {
			o.carried, o.upTo = old.all(), old.number
		} else {
			o.fresh |= old.all()
		}
	}
	u.owed = o
	s.give(w, o)
}

// oweHidden is owe for what everybody sees of a hidden user.
func (s *State) oweHidden(w *writer, u *user) {
	s.preserve(u)
	h := u.hidden
	h.settle()
	h.owed = &owed{user: u, hidden: h, writer: w, position: s.position, since: s.clock.lease}
	s.give(w, h.owed)
}

// settle notes that nothing is to be announced of the view any more.
func (h *hidden) settle() {
	if h.owed != nil {
		h.owed.writer.live--
		h.owed = nil
	}
}

// split makes what is owed of the public view that of the view of a user who is
// being hidden, as it is: it may be published already. It returns the rest.
func (u *user) split() (rest owes) {
	o := u.owed
	if o == nil || o.all()&owePublic == 0 {
		return 0
	}
	rest = o.all() &^ owePublic
	o.hidden, u.hidden.owed, u.owed = u.hidden, o, nil
	return rest
}

// isOwed reports whether something of a user is to be announced.
func (u *user) isOwed() bool { return u.owed != nil || u.hidden != nil && u.hidden.owed != nil }

// give appends an item that counts.
func (s *State) give(w *writer, o *owed) {
	if len(w.owed) >= 1024 && len(w.owed) >= 2*w.live {
		w.owed = slices.DeleteFunc(w.owed, func(o *owed) bool { return !o.counts() })
	}
	w.live++
	s.lastOwed++
	o.number = s.lastOwed
	if o.hidden == nil && o.fresh&oweEnds != 0 {
		o.user.number(o.number)
	}
	w.owed = append(w.owed, o)
}

// oldest returns the first item that counts. What does not count must not decide
// anything: how long it is kept is nobody's business.
func (w *writer) oldest() *owed {
	for !w.owed[0].counts() {
		w.owed = w.owed[1:]
	}
	return w.owed[0]
}

// settle drops what a writer announced up to a position.
func (s *State) settle(w *writer, position uint64) {
	n := 0
	for n < len(w.owed) && w.owed[n].position <= position {
		if o := w.owed[n]; o.counts() {
			s.preserve(o.user)
			s.announced(o)
		}
		n++
	}
	clear(w.owed[:n])
	w.owed = w.owed[n:]
	if len(w.owed) == 0 {
		w.owed = nil
	}
}

// announced notes that an item that counts is.
func (s *State) announced(o *owed) {
	defer s.scheduleForget(o.user) // which may have waited for it
	defer func() {
		if o.user.tomb != nil && !o.user.isOwed() {
			o.user.tomb = nil
		}
	}()
	if o.hidden != nil {
		o.hidden.settle()
		return
	}
	if o.all()&oweEnds != 0 {
		o.user.told()
	}
	o.user.owed = nil
	o.writer.live--
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
func (s *State) Owed(id string, from Cursor, limit int, yield func(Announcement)) (to Cursor, more bool) {
	i := slices.IndexFunc(s.writers, func(w *writer) bool { return w.id == id })
	if i < 0 {
		return from, false
	}
	w := s.writers[i]
	start, _ := slices.BinarySearchFunc(w.owed, from.last+1, func(o *owed, n uint64) int {
		return cmp.Compare(o.number, n)
	})
	to = Cursor{last: from.last, seen: s.lastOwed}
	for ; start < len(w.owed) && limit > 0; start++ {
		o := w.owed[start]
		to.last = o.number
		if !o.counts() {
			continue
		}
		limit--
		what, after := o.all(), uint64(0)
		// What it took over was published if it did not exist yet when the earlier
		// item was looked at, and not passed over as one that does not count.
		if o.hidden == nil && from.last >= o.upTo && o.number > from.seen {
			what, after = o.fresh, o.upTo
		}
		yield(s.announcement(o.user, what, after))
	}
	return to, start < len(w.owed)
}
