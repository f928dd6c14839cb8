package service

import (
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/replica"
)

// What makes this instance's state one of several that are the same: how it is
// restored, written down, and compared with the others' (G14).

// restore is the journal's Restore.
func (s *Service) restore(next func() ([]byte, error), progress func(done, total int)) (uint64, error) {
	restored, err := state.Restore(next, func(p state.Progress) { progress(p.Done, p.Total) })
	if _, newer := errors.AsType[*state.NewerSnapshotError](err); newer {
		return 0, fmt.Errorf("%w: %w", journal.ErrNewer, err)
	}
	if err != nil {
		return 0, err
	}
	s.replace(restored)
	return restored.Position(), nil
}

// reset is the journal's Reset.
func (s *Service) reset(position uint64) { s.replace(state.NewAt(position)) }

func (s *Service) replace(with *state.State) {
	s.mu.Lock()
	s.state, s.appliedAt = with, time.Now()
	s.untrusted = false
	s.mu.Unlock()
	s.announcer.again() // what is owed is numbered anew
}

// skipped is the journal's Skipped.
func (s *Service) skipped(position uint64, at int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appliedAt = time.Now()
	return s.state.Skip(position, at)
}

// rank is the journal's Rank.
func (s *Service) rank() (int, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.Rank(s.writer)
}

// alone is the journal's Alone.
func (s *Service) alone() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, i := range s.state.Instances() {
		if i.Writer != s.writer && i.SilentMs < silentFor.Milliseconds() {
			return false
		}
	}
	return true
}

// compare compares a digest that an entry carries with this state's. mu is held.
func (s *Service) compare(h *entry.Header) error {
	verdict, own := s.digests.Compare(s.state, h)
	switch verdict {
	case replica.OtherWrong:
		s.counted.mismatches.Add(1)
		if !s.disputed.Due(h.Instance, time.Now()) {
			return nil
		}
		s.log.Error("this instance's state was built anew and still differs from what another holds: that one must be wrong",
			"position", h.DigestAt, "instance", protocol.ParseInstanceID(h.Instance).Name(), "digest", fmt.Sprintf("%016x", own), "theirs", fmt.Sprintf("%016x", h.Digest))
	case replica.Rebuild:
		s.counted.mismatches.Add(1)
		s.untrusted = true
		return fmt.Errorf("%w: at position %d this instance's digest is %016x, that of instance %s %016x (G14)",
			journal.ErrRebuild, h.DigestAt, own, protocol.ParseInstanceID(h.Instance).Name(), h.Digest)
	}
	return nil
}

// trusted reports whether queries may be answered from the state.
func (s *Service) trusted() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return !s.untrusted
}

// snapshot is the journal's Snapshot.
func (s *Service) snapshot() journal.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &snapshot{s: s, of: s.state, x: s.state.BeginSnapshot(), epoch: s.state.Epoch(), generation: s.state.Generation()}
}

// snapshot is a state.Snapshot under the service's lock.
type snapshot struct {
	s          *Service
	of         *state.State
	x          *state.Snapshot
	epoch      string
	generation uint32
}

func (x *snapshot) Position() uint64        { return x.x.Position() }
func (x *snapshot) Wall() int64             { return x.x.Wall() }
func (x *snapshot) Epoch() (string, uint32) { return x.epoch, x.generation }

// Next refuses to go on with a state that turned out to be wrong (G14).
func (x *snapshot) Next(b []byte) ([]byte, bool, error) {
	x.s.mu.RLock()
	defer x.s.mu.RUnlock()
	if x.s.untrusted || x.s.state != x.of {
		return nil, false, errors.New("the snapshot is of a state that is built anew")
	}
	return x.x.Next(b)
}

func (x *snapshot) End() {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.x.End()
}
