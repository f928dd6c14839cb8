package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/state"
	"presence/pkg/service/internal/journal"
)

// How an instance stops. If a second instance runs and the broker stays up, nobody notices
// (PROTOCOL 8, G7):
//
//	leave    the queue groups of requests, and of reports of closed connections. What the
//	         broker has given to this instance by then is still handled.
//	settle   answer, append and announce everything that was taken, until the journal says
//	         that this instance has nothing left to do.
//
// If the journal and the broker work, that takes some round trips.
const (
	// drainTimeout bounds each step. It is as long as a caller waits for the journal at most.
	// A journal that has no leader finds another one in 4 to 9 s, and an answer by then is
	// worth more than a fast stop.
	drainTimeout = 10 * time.Second
	// idleTimeout bounds settling when nobody waits for an answer. Then only the journal does
	// not know yet what was announced. If it never knows, another instance announces that again.
	idleTimeout = 2 * time.Second
)

// drain ends serving.
func (s *Service) drain(ctx context.Context) error {
	begun := time.Now()
	s.announcer.finish()
	s.leave()
	if ctx.Err() != nil { // the journal failed: do not wait for it
		s.waiters.stop()
		return nil
	}
	err := s.settle(ctx)
	// By now every revision that was acknowledged before is applied, unless the journal cannot
	// be reached. Who waits for another one has waited long enough.
	s.waiters.stop()
	if err != nil {
		s.log.Warn("not everything accepted could be answered and announced", "err", err)
		return nil
	}
	s.log.Info("stopped: everything accepted is answered and announced", "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// leave takes no more requests and reports, and waits until those that were taken are handled.
// A lost connection brings nothing more.
func (s *Service) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	drained := s.connections.Drain()
	s.listener.leave()
	// The subscriptions drain by themselves. Each is gone when its last request was handled.
	for s.listener.arriving() || s.gate.Active() > 0 {
		select {
		case <-ctx.Done():
			s.log.Warn("requests were still arriving when the time to stop was over")
			return
		case <-time.After(time.Millisecond):
		}
	}
	if !drained(ctx) {
		s.log.Warn("reports of closed connections were still arriving when the time to stop was over")
	}
}

// settle waits for three things: every caller that the journal admitted has an answer, all
// commands without a caller are applied, and the journal says that all changes of this instance
// are announced. It goes round until all hold, because an entry may bring another change to
// announce.
func (s *Service) settle(ctx context.Context) error {
	timeout := drainTimeout
	if s.journal.Waiting() == 0 && !s.waiters.any() {
		timeout = idleTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		if err := s.announcer.flush(); err != nil {
			return fmt.Errorf("announcing: %w", err) // another instance does it (G4)
		}
		// The barrier's entry comes after all others, and says what is announced.
		err := s.barrier(ctx)
		if errors.Is(err, journal.ErrFull) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("appending the last entry: %w", err)
		}
		if s.journal.Waiting() == 0 && !s.journal.Unpacked() && !s.hasUnannounced() {
			return nil
		}
	}
}

// hasUnannounced reports whether this instance has changes to announce of which the journal
// does not say yet that they are announced.
func (s *Service) hasUnannounced() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	any := false
	s.state.Pending(s.instance, state.Cursor{}, 1, func(state.Announcement) { any = true })
	return any
}
