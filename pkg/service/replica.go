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

// All instances hold the same state (G14). Here it is restored, stored in snapshots, and compared
// with what the others hold.

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
	s.stateWrong = false
	s.mu.Unlock()
	s.announcer.again() // changes have other numbers now
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
	return s.state.Rank(s.instance)
}

// idle is the journal's Idle. While the journal takes no entries, as with a full disk, the instance
// goes on trying, and is stale.
func (s *Service) idle() bool {
	if s.journal.Appending() != nil {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return replica.Idle(s.state, s.instance, s.cfg.Alone)
}

// alone is the journal's Alone.
func (s *Service) alone() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, i := range s.state.Instances() {
		if i.Writer != s.instance && i.SilentMs < silentFor.Milliseconds() {
			return false
		}
	}
	return true
}

// compare compares the digest in an entry's header with this state's. The caller holds mu.
func (s *Service) compare(h *entry.Header) error {
	verdict, own := s.digests.Compare(s.state, h)
	switch verdict {
	case replica.OtherWrong:
		s.counted.mismatches.Add(1)
		if !s.wrongInstances.Due(h.Instance, time.Now()) {
			return nil
		}
		s.log.Error("this instance has built its state anew, and another instance still differs: that one must be wrong",
			"position", h.DigestAt, "instance", protocol.ParseInstanceID(h.Instance).Name(), "digest", fmt.Sprintf("%016x", own), "theirs", fmt.Sprintf("%016x", h.Digest))
	case replica.Rebuild:
		s.counted.mismatches.Add(1)
		s.stateWrong = true
		return fmt.Errorf("%w: at position %d this instance's digest is %016x, that of instance %s %016x (G14)",
			journal.ErrRebuild, h.DigestAt, own, protocol.ParseInstanceID(h.Instance).Name(), h.Digest)
	}
	return nil
}

// stateIsWrong reports whether the state is known to be wrong: it answers no queries then.
func (s *Service) stateIsWrong() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.stateWrong
}

// snapshot is the journal's Snapshot.
func (s *Service) snapshot() journal.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &snapshot{s: s, of: s.state, x: s.state.BeginSnapshot(), epoch: s.state.Epoch(), generation: s.state.Generation()}
}

// snapshot is a state.Snapshot, read under the service's lock.
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

// Next fails if the state has turned out to be wrong meanwhile (G14).
func (x *snapshot) Next(b []byte) ([]byte, bool, error) {
	x.s.mu.RLock()
	defer x.s.mu.RUnlock()
	if x.s.stateWrong || x.s.state != x.of {
		return nil, false, errors.New("the snapshot is of a state that was wrong or is replaced")
	}
	return x.x.Next(b)
}

func (x *snapshot) End() {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.x.End()
}
