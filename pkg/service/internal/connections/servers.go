package connections

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/service/internal/sysevent"
)

// maxServers bounds how many NATS servers are remembered. There are never so many. When it is
// reached, all are forgotten, and learned again.
const maxServers = 4096

// servers are the NATS servers that answer in the system account, and so report closed
// connections. Leases on connections to other servers have to be renewed more often.
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

// known returns how many servers are known to answer.
func (v *servers) known() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.live)
}

// answered notes that a server answers.
func (v *servers) answered(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.live) >= maxServers {
		clear(v.live)
	}
	v.live[id] = struct{}{}
}

// silent notes that a server does not answer.
func (v *servers) silent(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.live, id)
}

// pingWait is how long the start waits for the first server to answer, which is usually the one
// that presenced is connected to. The others may answer later.
const pingWait = 2 * time.Second

// listenToServers begins to listen for servers that answer or shut down, and asks all to answer.
func (w *Watcher) listenToServers() error {
	if err := w.subscribe(&w.pongs, &w.lame); err != nil {
		return fmt.Errorf("listening for NATS servers: %w", err)
	}
	w.ping()
	select {
	case <-w.first:
	case <-time.After(pingWait):
		w.log.Warn("no NATS server has answered in the system account yet: until one does, sessions get the TTL of unbound ones")
	}
	return nil
}

// ping asks all servers to answer.
func (w *Watcher) ping() {
	if err := w.cfg.System.PublishRequest("$SYS.REQ.SERVER.PING", w.pongs.subject, nil); err != nil {
		w.log.Warn("the NATS servers could not be asked to answer", "err", err)
	}
}

// heardPong returns a handler that notes which servers answer.
func (w *Watcher) heardPong() nats.MsgHandler {
	var once sync.Once
	return func(m *nats.Msg) {
		id, err := sysevent.Server(m.Data)
		if err != nil {
			w.log.Warn("a NATS server's answer was not understood", "err", err)
			return
		}
		w.servers.answered(id)
		once.Do(func() { close(w.first) })
	}
}

func (w *Watcher) heardLame(m *nats.Msg) {
	if err := w.lameDuck(m.Subject); err != nil {
		w.log.Warn("a report of a NATS server that shuts down was lost", "err", err)
	}
}

func (w *Watcher) lameDuck(subject string) error {
	server, err := sysevent.LameDuck(subject)
	if err != nil {
		return err
	}
	w.servers.silent(server)
	return w.cfg.Leases.LameDuck(server)
}
