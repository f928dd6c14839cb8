package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/state"
	"presence/pkg/service/internal/journal"
)

// The way out. With a second instance on a broker that stays up nobody notices
// it (PROTOCOL 8, G7):
//
//	leave    the queue groups, of requests and of reports of closed connections;
//	         what the broker had given to this instance by then it still handles
//	settle   answer, append and announce all that was taken, until the journal
//	         says that this instance owes nothing to anybody
//
// With a journal and a broker that work that takes some round trips.
const (
	// drainTimeout bounds either step. It is as long as a caller waits for the
	// journal at most: one without a leader for 4 to 9 s finds another, and an
	// answer by then is worth more than a fast stop.
	drainTimeout = 10 * time.Second
	// idleTimeout bounds settling where nobody waits for an answer: then all that
	// is missing is that the journal knows what was announced, and without that
	// another instance announces it once more.
	idleTimeout = 2 * time.Second
)

// drain ends serving.
func (s *Service) drain(ctx context.Context) error {
	begun := time.Now()
	s.announcer.finish()
	s.leave()
	if ctx.Err() != nil { // something failed: there is no journal to wait for
		s.refuseWaiters()
		return nil
	}
	err := s.settle(ctx)
	// Every revision that was acknowledged before is applied by now, unless the
	// journal cannot be reached.
	s.refuseWaiters()
	if err != nil {
		s.log.Warn("not everything accepted could be answered and announced", "err", err)
		return nil
	}
	s.log.Info("stopped: everything accepted is answered and announced", "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// leave takes no more requests and reports, and waits until those taken are
// handled. A connection that is lost brings nothing more.
func (s *Service) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	drained := s.connections.Drain()
	s.listener.leave()
	// The subscriptions drain by themselves: each is gone when its last request was
	// handled.
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

// settle waits until everybody who was admitted by the journal has an answer,
// everything that nobody waits for is applied, and every change of this
// instance is announced and known to be: the next entry may make another due.
func (s *Service) settle(ctx context.Context) error {
	timeout := drainTimeout
	if s.journal.Waiting() == 0 && !s.waits() {
		timeout = idleTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		if err := s.announcer.flush(); err != nil {
			return fmt.Errorf("announcing: %w", err) // another instance does it (G4)
		}
		// Its entry comes after all before it, and carries the announcer's mark.
		err := s.barrier(ctx)
		if errors.Is(err, journal.ErrFull) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("appending the last entry: %w", err)
		}
		if s.journal.Waiting() == 0 && !s.journal.Unpacked() && !s.owes() {
			return nil
		}
	}
}

// owes reports whether the journal does not know yet that everything is
// announced which this instance has to announce.
func (s *Service) owes() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	owed := false
	s.state.Pending(s.writer, state.Cursor{}, 1, func(state.Announcement) { owed = true })
	return owed
}
