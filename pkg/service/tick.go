package service

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/replica"
)

// tick appends an entry when time needs one, so that the lease clock runs while
// the service runs.
func (s *Service) tick(ctx context.Context) {
	ticker := time.NewTicker(replica.TickGrain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		silent, reachable := s.journal.SinceApplied(), s.listener.reachable()
		s.mu.RLock()
		due := replica.Due(s.state, s.writer, silent, reachable)
		rank, known := s.state.Rank(s.writer)
		format, newer := s.state.NextFormat()
		s.mu.RUnlock()
		if due {
			s.journal.Tick()
		}
		if newer && rank == 0 && known {
			s.log.Info("every instance understands a later format of the journal: its behaviour comes into force", "format", format)
			_ = s.journal.Report(entry.Command{Kind: entry.SetFormat, Seq: uint64(format)}) // asked again in a moment
		}
		if s.deferred != nil {
			_ = s.configure() // likewise
		}
		s.expireWaiters()
		s.trimErased()
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
		case <-requests:
			s.log.Warn("the connection for requests was lost and is back: nobody is dropped for a while")
			s.reportDeaf()
		case <-answers:
			s.log.Warn("the connection for events was lost and is back: announcing again")
			s.announcer.again()
		}
	}
}

// reportDeaf starts an amnesty: renewals may have been missed (G6).
func (s *Service) reportDeaf() {
	if err := s.journal.Report(entry.Command{Kind: entry.RequestsLost}); err != nil {
		s.log.Error("an amnesty could not be started", "err", err)
	}
}
