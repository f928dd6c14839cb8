package state

import (
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// writer is one start of one instance, as far as the journal tells. Apart from
// fencing its late entries, the state remembers which changes it has yet to
// announce for certain, so that another writer can do it in its place (G4).
type instance struct {
	id        string
	sequence  uint64 // of its last accepted entry
	seen      int64  // lease clock of its last accepted entry
	maxFormat uint8  // the newest entry format it understands

	// owed are the changes it has to announce, in order. An item counts while
	// it is its user's; live counts those. The others are dropped when they are
	// half of all, so owed stays within twice the users.
	outbox  []*pending
	current int

	saved int // index in the snapshot at hand
}

// accept notes an entry of the writer at hand.
func (s *State) accept(h *entry.Header) {
	in := s.instance
	in.sequence, in.seen, in.maxFormat = h.Sequence, s.clock.lease, h.MaxFormat
	s.dropAnnounced(in, h.AnnouncedThrough)
}

// findWriter returns the writer of an ID; a new one where there is none.
func (s *State) findInstance(id string) *instance {
	for _, in := range s.instances {
		if in.id == id {
			return in
		}
	}
	in := &instance{id: id, seen: s.clock.lease}
	s.instances = append(s.instances, in)
	return in
}

// fences reports whether an entry counts as empty: one of another epoch, one
// that was stored twice or after a later one of its writer, and one that was
// packed too long ago for its callers to expect it yet. A publish that timed
// out may be stored minutes later. One that is too old has its sequence used up:
// its callers are told that nothing was done, so its next copy may do nothing
// either, whatever the clock says by then.
func (s *State) isFenced(h *entry.Header) bool {
	in := s.instance
	if h.Epoch != s.epoch || h.Sequence <= in.sequence {
		return true
	}
	if s.tooOld(h) {
		in.sequence = h.Sequence
		return true
	}
	return false
}

// takeOver gives to the writer of the entry at hand what another one, dead or
// unable to publish, has owed for too long.
func (s *State) takeOver() {
	for _, in := range s.instances {
		if in == s.instance || in.current == 0 || s.clock.lease-in.oldest().since <= takeover {
			continue
		}
		// Each by its own age: what the user of a younger one did besides may
		// not have that announced again (G9).
		n := slices.IndexFunc(in.outbox, func(p *pending) bool { return s.clock.lease-p.since <= takeover })
		if n < 0 {
			n = len(in.outbox)
		}
		items := in.outbox[:n:n]
		in.outbox = in.outbox[n:]
		for _, p := range items {
			switch {
			case !p.isCurrent():
			case p.hidden != nil:
				s.enqueueHidden(s.instance, p.user)
			default:
				s.enqueue(s.instance, p.user, 0)
			}
		}
	}
}

// forgetWriters forgets writers that were silent for long and owe nothing: one that
// is long dead may owe what fell due just now, at an entry of its own that was stored
// so late that it counts as empty.
func (s *State) forgetInstances() {
	s.instances = slices.DeleteFunc(s.instances, func(in *instance) bool {
		return in != s.instance && in.current == 0 && s.clock.lease-in.seen > instanceKept
	})
}

// Instances returns the table of writers, as operators see it.
func (s *State) Instances() []protocol.InstanceStats {
	list := make([]protocol.InstanceStats, 0, len(s.instances))
	for _, in := range s.instances {
		known := protocol.ParseInstanceID(in.id)
		list = append(list, protocol.InstanceStats{Writer: in.id, Host: known.Host, Version: known.Version, SilentMs: s.clock.lease - in.seen, Owes: in.current, Format: int(in.maxFormat)})
	}
	return list
}

// Rank returns a writer's place among those in the table that appended not long
// ago, from 0, and false where it is not among them.
func (s *State) Rank(id string) (int, bool) {
	rank := 0
	for _, in := range s.instances {
		if in.id == id {
			return rank, true
		}
		if s.clock.lease-in.seen <= instanceKept {
			rank++
		}
	}
	return 0, false
}

// SilentFor returns for how many milliseconds of the lease clock a writer has
// appended nothing; 0 where it is not in the table.
func (s *State) SilentFor(id string) int64 {
	for _, in := range s.instances {
		if in.id == id {
			return s.clock.lease - in.seen
		}
	}
	return 0
}
