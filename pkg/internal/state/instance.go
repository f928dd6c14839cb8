package state

import (
	"cmp"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// instance is one start of one presenced, as the journal knows it. The state needs it
// to fence late entries. And it remembers which changes the instance has not announced
// for certain, so that another instance can announce them (G4).
type instance struct {
	id        string
	sequence  uint64 // of its last accepted entry
	seen      int64  // lease clock of its last accepted entry
	maxFormat uint8  // the newest entry format it understands

	// outbox has the announcements that the instance has to make, in order. current
	// counts those that no later change has replaced. The replaced ones are dropped
	// when they are half of all, so an outbox is at most twice as long as there are users.
	outbox  []uint32 // see State.pendings
	current int
	local   uint32 // names the instance in pending announcements of this process

	saved int // index in the snapshot at hand
}

// accept notes an entry that takes effect.
func (s *State) accept(h *entry.Header) {
	in := s.instance
	in.sequence, in.seen, in.maxFormat = h.Sequence, s.clock.lease, h.MaxFormat
	s.dropAnnounced(in, h.AnnouncedThrough)
}

// findInstance returns the instance with an ID. It adds one if there is none.
func (s *State) findInstance(id string) *instance {
	for _, in := range s.instances {
		if in.id == id {
			return in
		}
	}
	in := &instance{id: id, seen: s.clock.lease}
	s.addInstance(in)
	return in
}

func (s *State) addInstance(in *instance) {
	in.local = 1
	if n := len(s.instances); n > 0 {
		in.local = s.instances[n-1].local + 1
	}
	s.instances = append(s.instances, in)
}

// instanceOf returns the instance that has a pending announcement in its outbox.
func (s *State) instanceOf(p *pending) *instance {
	i, _ := slices.BinarySearchFunc(s.instances, p.instance, func(in *instance, local uint32) int {
		return cmp.Compare(in.local, local)
	})
	return s.instances[i]
}

// isFenced reports whether an entry counts as empty: it is of another epoch, it was
// stored twice or after a later entry of its instance, or it is too old. A publish
// that timed out may be stored minutes later.
//
// The sequence of an entry that is too old is used up. Its callers are told that
// nothing was done, so another copy of it must do nothing either, whatever the clock
// says by then.
func (s *State) isFenced(h *entry.Header, idled int64) bool {
	in := s.instance
	if h.Epoch != s.epoch || h.Sequence <= in.sequence {
		return true
	}
	if s.tooOld(h, idled) {
		in.sequence = h.Sequence
		return true
	}
	return false
}

// takeOver moves announcements that are pending for too long into the outbox of the
// current entry's instance. Their instance is dead, or cannot publish.
func (s *State) takeOver() {
	for _, in := range s.instances {
		if in == s.instance || in.current == 0 || s.clock.lease-s.oldest(in).since <= takeover {
			continue
		}
		// Each goes by its own age. A younger one must not be announced again because
		// something else of the same user is old (G9).
		for len(in.outbox) > 0 {
			at := in.outbox[0]
			p := s.pendings.At(at)
			if s.clock.lease-p.since <= takeover {
				break
			}
			if u := s.currentUser(at); u != nil {
				if p.hidden {
					s.enqueueHidden(s.instance, u)
				} else {
					s.enqueue(s.instance, u, 0)
				}
			}
			s.pop(in)
		}
	}
}

// forgetInstances forgets instances that have been silent for long and have nothing
// pending. A dead instance can have something pending that is new: its last entry is
// stored so late that it counts as empty, and a deadline that is due then is its to announce.
func (s *State) forgetInstances() {
	s.instances = slices.DeleteFunc(s.instances, func(in *instance) bool {
		if in == s.instance || in.current > 0 || s.clock.lease-in.seen <= instanceKept {
			return false
		}
		for len(in.outbox) > 0 { // with what was replaced
			s.pop(in)
		}
		return true
	})
}

// Instances returns the table of instances, as operators see it.
func (s *State) Instances() []protocol.InstanceStats {
	list := make([]protocol.InstanceStats, 0, len(s.instances))
	for _, in := range s.instances {
		known := protocol.ParseInstanceID(in.id)
		list = append(list, protocol.InstanceStats{Writer: in.id, Host: known.Host, Version: known.Version, SilentMs: s.clock.lease - in.seen, Owes: in.current, Format: int(in.maxFormat)})
	}
	return list
}

// Only reports whether an instance is the only one in the table. Every instance that answers is
// there, but those that have been silent for very long and have nothing to announce.
func (s *State) Only(id string) bool { return len(s.instances) == 1 && s.instances[0].id == id }

// Rank returns an instance's place, from 0, among the instances that have appended
// recently. It returns false if the instance is not in the table.
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

// SilentFor returns for how many milliseconds of the lease clock an instance has
// appended nothing. It returns 0 if the instance is not in the table.
func (s *State) SilentFor(id string) int64 {
	for _, in := range s.instances {
		if in.id == id {
			return s.clock.lease - in.seen
		}
	}
	return 0
}
