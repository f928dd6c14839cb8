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
	knows    uint8  // the newest entry format it understands

	// owed are the changes it has to announce, in order. An item counts while
	// it is its user's; live counts those. The others are dropped when they are
	// half of all, so owed stays within twice the users.
	owed []*owed
	live int
	last uint64 // number of the last item

	saved int // index in the snapshot at hand
}

// owed is a change that a writer has to announce.
type owed struct {
	user     *user
	writer   *writer
	number   uint64 // rises by one an item, for Owed to go on from
	position uint64 // the entry that made it this writer's to announce
	since    int64  // lease clock of that entry
}

func (o *owed) counts() bool { return o.user.owed == o }

// owe leaves the announcement of a user's last change to a writer, from now on.
// The one that owed an earlier change is freed of it: the later one is announced
// instead.
func (s *State) owe(w *writer, u *user) {
	s.preserve(u)
	if u.owed != nil {
		u.owed.writer.live--
	}
	w.add(&owed{user: u, writer: w, position: s.position, since: s.clock.lease})
}

func (w *writer) add(o *owed) {
	if len(w.owed) >= 1024 && len(w.owed) >= 2*w.live {
		w.owed = slices.DeleteFunc(w.owed, func(o *owed) bool { return !o.counts() })
	}
	w.live++
	w.last++
	o.number, o.user.owed = w.last, o
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
			o.user.owed = nil
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

// accept notes an entry of the writer at hand.
func (s *State) accept(h *entry.Header) {
	w := s.writer
	w.sequence, w.seen, w.knows = h.Sequence, s.clock.lease, h.Knows
	s.settle(w, h.Flushed)
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
		for _, o := range items {
			if o.counts() {
				s.owe(s.writer, o.user)
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

// Rank returns a writer's place among those in the table that appended not long
// ago, from 0, and false where it is not among them.
func (s *State) Rank(id string) (int, bool) {
	rank := 0
	for _, w := range s.writers {
		if w.id == id {
			return rank, true
		}
		if s.clock.lease-w.seen <= writerKept {
			rank++
		}
	}
	return 0, false
}

// SilentFor returns for how many milliseconds of the lease clock a writer has
// appended nothing; 0 where it is not in the table.
func (s *State) SilentFor(id string) int64 {
	for _, w := range s.writers {
		if w.id == id {
			return s.clock.lease - w.seen
		}
	}
	return 0
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
	start, _ := slices.BinarySearchFunc(w.owed, after+1, func(o *owed, n uint64) int {
		return cmp.Compare(o.number, n)
	})
	last = after
	for ; start < len(w.owed) && limit > 0; start++ {
		o := w.owed[start]
		last = o.number
		if !o.counts() {
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
