package service

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/service/internal/entry"
)

const (
	// tickEvery is how long the journal may be silent before an entry is
	// appended for the sake of time alone.
	tickEvery = time.Second
	// tickGrain is how often it is asked whether an entry is due. It adds to
	// the time to OFFLINE (G5).
	tickGrain = 200 * time.Millisecond
)

// tick appends an entry when the journal has been silent for a second or the
// next deadline is due, so that the lease clock runs while the service runs.
func (s *Service) tick(ctx context.Context) {
	ticker := time.NewTicker(tickGrain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		silent := s.journal.SinceApplied()
		s.mu.RLock()
		wait, waits := s.state.NextDue()
		s.mu.RUnlock()
		if silent >= tickEvery-tickGrain/2 || waits && silent >= max(time.Duration(wait)*time.Millisecond, tickGrain/2) {
			s.journal.Tick()
		}
		s.expireWaiters()
		s.announcer.kick() // for a mark that is due
	}
}

func (s *Service) expireWaiters() {
	s.mu.RLock()
	applied := s.state.Position()
	s.mu.RUnlock()
	s.releaseWaiters(applied)
}

// watchClients sees to what must follow a reconnect in the clients' account:
// requests may have been lost, so nobody is dropped for their absence, and
// events may have been lost, so they are announced again.
func (s *Service) watchClients(ctx context.Context) {
	requests := s.cfg.Clients.StatusChanged(nats.CONNECTED)
	defer s.cfg.Clients.RemoveStatusListener(requests)
	answers := s.cfg.Answers.StatusChanged(nats.CONNECTED)
	defer s.cfg.Answers.RemoveStatusListener(answers)
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-requests:
			if !ok {
				return
			}
			s.log.Warn("the connection for requests was lost and is back: nobody is dropped for a while")
			s.reportDeaf()
		case _, ok := <-answers:
			if !ok {
				return
			}
			s.log.Warn("the connection for events was lost and is back: announcing again")
			s.announcer.again()
		}
	}
}

// reportDeaf starts an amnesty: renewals may have been missed (G6).
func (s *Service) reportDeaf() {
	if err := s.journal.Report(entry.Command{Kind: entry.Deaf}); err != nil {
		s.log.Error("an amnesty could not be started", "err", err)
	}
}
