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
	// tickTurn is how much longer each further instance in the table of writers
	// waits, so that one of them appends, not all. Where the first has died that
	// adds to the time to OFFLINE too, until it is out of the table. At most
	// maxTurns of them add up: the lease clock counts 2 s of silence at most.
	tickTurn = 150 * time.Millisecond
	maxTurns = 4
	// showEvery is how often every instance appends an entry of its own, so that
	// it stays in the table of writers: less than a minute.
	showEvery = 20 * time.Second
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
		rank, known := s.state.Rank(s.writer)
		mine := time.Duration(s.state.SilentFor(s.writer)) * time.Millisecond
		level, raise := s.state.CanRaise()
		s.mu.RUnlock()
		turn := time.Duration(min(rank, maxTurns)) * tickTurn
		switch {
		case silent >= tickEvery-tickGrain/2+turn,
			waits && silent >= max(time.Duration(wait)*time.Millisecond, tickGrain/2)+turn,
			!known || mine >= showEvery:
			s.journal.Tick()
		}
		if raise && rank == 0 && known {
			s.log.Info("every instance knows a later format: its behaviour comes into force", "level", level)
			_ = s.journal.Report(entry.Command{Kind: entry.Raise, Seq: uint64(level)}) // asked again in a moment
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
