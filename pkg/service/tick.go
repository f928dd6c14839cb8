package service

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/replica"
)

// cutOffAfter is how long requests have not reached an instance when it leaves the reports of
// closed connections to others. While it makes subscriptions anew, they do not for a moment.
const cutOffAfter = time.Second

// tick does the periodic work until ctx is done. Above all it appends an entry if there has been
// none for a while: the clock that leases go by advances only with entries.
func (s *Service) tick(ctx context.Context) {
	ticker := time.NewTicker(replica.TickGrain)
	defer ticker.Stop()
	reachedAt := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		silent, reachable := s.journal.SinceApplied(), s.listener.reachable()
		if reachable {
			reachedAt = time.Now()
		}
		s.connections.TakeReports(time.Since(reachedAt) < cutOffAfter)
		idle := s.idle()
		s.mu.RLock()
		due := replica.Due(s.state, s.instance, silent, reachable, idle) || idle && replica.Drifted(s.state, silent, time.Now())
		rank, known := s.state.Rank(s.instance)
		format, newer := s.state.NextFormat()
		s.mu.RUnlock()
		if due {
			s.journal.Tick()
		}
		ticker.Reset(replica.Grain(idle))
		if newer && rank == 0 && known {
			s.log.Info("every instance understands a later format of the journal: its behaviour comes into force", "format", format)
			_ = s.journal.Report(entry.Command{Kind: entry.SetFormat, Seq: uint64(format)}) // if it fails, the next tick tries again
		}
		if rules, changed := s.reloaded.take(); changed {
			_ = s.want(rules) // if it fails, the next tick tries again
		} else if s.pendingRules != nil {
			_ = s.configure() // if it fails, the next tick tries again
		}
		s.checkWaiters()
		s.trimErased()
		s.sweepDetections()
		if !idle { // then nothing is pending
			s.announcer.kick() // it may be time to ask the broker again what has arrived
		}
	}
}

// watchClients does what a reconnect in the clients' account calls for. Requests may have been
// lost, so for a while nobody is taken for lost. Events may have been lost, so they are
// published again.
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
			s.reportRequestsLost()
		case <-answers:
			s.log.Warn("the connection for events was lost and is back: announcing again")
			s.announcer.again()
		}
	}
}

// reportRequestsLost starts an amnesty: this instance may have missed renewals (G6).
func (s *Service) reportRequestsLost() {
	if err := s.journal.Report(entry.Command{Kind: entry.RequestsLost}); err != nil {
		s.log.Error("an amnesty could not be started", "err", err)
	}
}
