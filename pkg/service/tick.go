package service

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
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

// connectionWatch listens for closed connections of clients.
type connectionWatch struct{ sub *nats.Subscription }

// watchConnections has the broker's reports of closed connections appended to
// the journal. They are hints: leases cover those that are lost.
func (s *Service) watchConnections() (*connectionWatch, error) {
	if s.cfg.System == nil {
		s.log.Warn("no system account: a session ends by its TTL, not when its connection closes")
		return &connectionWatch{}, nil
	}
	subject := "$SYS.ACCOUNT." + s.cfg.ClientsAccount + ".DISCONNECT"
	sub, err := s.cfg.System.QueueSubscribe(subject, protocol.ServiceName, func(m *nats.Msg) {
		if err := s.connectionClosed(m.Data); err != nil {
			s.log.Warn("a report of a closed connection was not understood", "err", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listening for closed connections: %w", err)
	}
	if err := s.cfg.System.FlushTimeout(openTimeout); err != nil {
		return nil, fmt.Errorf("listening for closed connections: %w", err)
	}
	return &connectionWatch{sub: sub}, nil
}

func (w *connectionWatch) stop() {
	if w.sub != nil {
		_ = w.sub.Unsubscribe() // a connection that is gone has no subscription
	}
}

// connectionClosed reads one report: of all it says only which connection of
// which server is believed, because a client chooses its own names.
func (s *Service) connectionClosed(data []byte) error {
	var event struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
		Client struct {
			ID uint64 `json:"id"`
		} `json:"client"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return err
	}
	if event.Server.ID == "" || len(event.Server.ID) > protocol.MaxServerIDBytes || event.Client.ID == 0 {
		return fmt.Errorf("it names no connection")
	}
	return s.journal.Report(entry.Command{Kind: entry.Closed, Server: event.Server.ID, Client: event.Client.ID})
}
