package service

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/sysevent"
)

// maxServers bounds how many NATS servers are remembered. There are never so many:
// beyond it all are forgotten, and learned again.
const maxServers = 4096

// servers are the NATS servers that answer in the system account, and so report
// closed connections. What is bound to any other has to be renewed more often.
type servers struct {
	mu   sync.Mutex
	live map[string]struct{} // by ID
}

func newServers() *servers { return &servers{live: make(map[string]struct{})} }

// answers reports whether a server is known to answer.
func (v *servers) answers(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.live[id]
	return ok
}

// known returns how many are known to answer.
func (v *servers) known() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.live)
}

// answered notes that a server does.
func (v *servers) answered(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.live) >= maxServers {
		clear(v.live)
	}
	v.live[id] = struct{}{}
}

// silent notes that a server does not, or not any more.
func (v *servers) silent(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.live, id)
}

// pingWait is how long the start waits for the first server to say that it is there:
// the one that presenced is connected to. Others are heard of while it goes on.
const pingWait = 2 * time.Second

// watchServers begins to listen for what servers say of themselves, and asks who is
// there. Every instance hears every server.
func (w *connectionWatch) watchServers() (err error) {
	s := w.service
	system := s.cfg.System
	first := make(chan struct{})
	var once sync.Once
	w.pongs, err = system.Subscribe(system.NewInbox(), func(m *nats.Msg) {
		id, err := sysevent.Server(m.Data)
		if err != nil {
			s.log.Warn("a NATS server's answer was not understood", "err", err)
			return
		}
		s.servers.answered(id)
		once.Do(func() { close(first) })
	})
	if err == nil {
		w.lame, err = system.Subscribe("$SYS.SERVER.*.LAMEDUCK", func(m *nats.Msg) {
			if err := s.lameDuck(m.Subject); err != nil {
				s.log.Warn("a report of a NATS server that shuts down was lost", "err", err)
			}
		})
	}
	if err == nil {
		err = system.FlushTimeout(openTimeout)
	}
	if err != nil {
		return fmt.Errorf("listening for NATS servers: %w", err)
	}
	w.ping()
	select {
	case <-first:
	case <-time.After(pingWait):
		s.log.Warn("no NATS server said within a moment that it is there: sessions are taken for unbound until one does")
	}
	return nil
}

// ping asks all servers whether they are there.
func (w *connectionWatch) ping() {
	if err := w.service.cfg.System.PublishRequest("$SYS.REQ.SERVER.PING", w.pongs.Subject, nil); err != nil {
		w.service.log.Warn("the NATS servers could not be asked whether they are there", "err", err)
	}
}

// lameDuck has it appended that a server shuts down: it reports closed connections no
// more. Other instances do the same, and the first one counts.
func (s *Service) lameDuck(subject string) error {
	id, err := sysevent.LameDuck(subject)
	if err != nil {
		return err
	}
	s.servers.silent(id)
	s.mu.RLock()
	format, known := s.state.Format(), s.state.IsLame(id)
	s.mu.RUnlock()
	switch {
	case known:
		return nil
	case format < 3:
		s.log.Warn("a NATS server shuts down, and not every instance knows what to do then: leases bound to it keep their TTL", "server", id)
		return nil
	}
	s.log.Info("a NATS server shuts down: leases bound to it last half their TTL", "server", id)
	return s.journal.Report(entry.Command{Kind: entry.LameDuck, Server: id})
}
