package state

import (
	"cmp"
	"slices"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
)

// writer is one start of one instance, as far as the journal tells. Apart from
// fencing its late entries, the state remembers which changes it has yet to
// announce for certain, so that another writer can do it in its place (G4).
type writer struct {
	id       string
	sequence uint64 // of its last accepted entry
	seen     int64  // lease clock of its last accepted entry

	// owed are the changes it has to announce, in order. An item counts while
	// its user's last change is its own; live counts those. The others are
	// dropped when they are half of all, so owed stays within twice the users.
	owed []owed
	live int
	last uint64 // number of the last item
}

// owed is a change that a writer has to announce.
type owed struct {
	user     *user
	number   uint64 // rises by one an item, for Owed to go on from
	revision uint64
	position uint64 // the entry that made it this writer's to announce
	since    int64  // lease clock of that entry
}

func (w *writer) counts(o *owed) bool {
	return o.user.announcer == w && o.user.revision == o.revision
}

// owe adds a change. The writer that owed the user's change before is freed of
// it: a later one of the same user is announced instead.
func (w *writer) owe(u *user, revision, position uint64, now int64) {
	if u.announcer != nil {
		u.announcer.live--
	}
	if len(w.owed) >= 1024 && len(w.owed) >= 2*w.live {
		w.owed = slices.DeleteFunc(w.owed, func(o owed) bool { return !w.counts(&o) })
	}
	u.announcer = w
	w.live++
	w.last++
	w.owed = append(w.owed, owed{user: u, number: w.last, revision: revision, position: position, since: now})
}

// oldest returns the first item that counts. What does not count must not decide
// anything: how long it is kept is nobody's business.
func (w *writer) oldest() *owed {
	for !w.counts(&w.owed[0]) {
		w.owed = w.owed[1:]
	}
	return &w.owed[0]
}

// settle drops what was announced up to a position.
func (w *writer) settle(position uint64) {
	n := 0
	for n < len(w.owed) && w.owed[n].position <= position {
		if o := &w.owed[n]; w.counts(o) {
			o.user.announcer = nil
			w.live--
		}
		n++
	}
	clear(w.owed[:n])
	w.owed = w.owed[n:]
	if len(w.owed) == 0 {
		w.owed = nil
	}
}

// accept notes an entry of the writer.
func (w *writer) accept(h *entry.Header, now int64) {
	w.sequence = h.Sequence
	w.seen = now
	w.settle(h.Flushed)
}

// findWriter returns the writer of an ID; a new one where there is none.
func (s *State) findWriter(id string) *writer {
	for _, w := range s.writers {
		if w.id == id {
			return w
		}
	}
	w := &writer{id: id, seen: s.clock.lease}
	s.writers = append(s.writers, w)
	return w
}

// fences reports whether an entry counts as empty: one of another epoch, one
// that was stored twice or after a later one of its writer, and one that was
// packed too long ago for its callers to expect it yet. A publish that timed
// out may be stored minutes later.
func (s *State) fences(h *entry.Header) bool {
	return h.Epoch != s.epoch ||
		h.Sequence <= s.writer.sequence ||
		s.clock.lease-h.LeaseClock > maxPacked ||
		h.Latest != 0 && s.clock.wall > h.Latest
}

// takeOver gives to the writer of the entry at hand what another one, dead or
// unable to publish, has owed for too long.
func (s *State) takeOver() {
	for _, w := range s.writers {
		if w == s.writer || w.live == 0 || s.clock.lease-w.oldest().since <= takeover {
			continue
		}
		items := w.owed
		w.owed = nil
		for i := range items {
			if o := &items[i]; w.counts(o) {
				s.writer.owe(o.user, o.revision, s.position, s.clock.lease)
			}
		}
	}
}

// forgetWriters forgets writers that were silent for long and owe nothing.
func (s *State) forgetWriters() {
	s.writers = slices.DeleteFunc(s.writers, func(w *writer) bool {
		return w != s.writer && w.live == 0 && s.clock.lease-w.seen > writerKept
	})
}

// Announcement is a change to publish: the public event, and the owner's.
type Announcement struct {
	Public protocol.Event
	Owner  protocol.SelfEvent
}

// Owed calls yield for the changes that a writer has to announce whose numbers
// are above after, at most limit of them, each as the user's status is now, and
// returns the number of the last one looked at. more says whether there may be
// others; where not, everything up to State.Position is covered.
func (s *State) Owed(id string, after uint64, limit int, yield func(Announcement)) (last uint64, more bool) {
	i := slices.IndexFunc(s.writers, func(w *writer) bool { return w.id == id })
	if i < 0 {
		return after, false
	}
	w := s.writers[i]
	start, _ := slices.BinarySearchFunc(w.owed, after+1, func(o owed, n uint64) int {
		return cmp.Compare(o.number, n)
	})
	last = after
	for ; start < len(w.owed) && limit > 0; start++ {
		o := &w.owed[start]
		last = o.number
		if !w.counts(o) {
			continue
		}
		limit--
		yield(s.announcement(o.user))
	}
	return last, start < len(w.owed)
}

func (s *State) announcement(u *user) Announcement {
	owner := s.ownerView(u)
	return Announcement{
		Public: protocol.Event{Status: s.publicView(u), Epoch: s.epoch, PreviousRevision: u.previous, Cause: protocol.Cause(u.cause.String())},
		Owner:  protocol.SelfEvent{Type: protocol.SelfStatus, Status: &owner, Cause: protocol.Cause(u.cause.String()), Epoch: s.epoch},
	}
}
