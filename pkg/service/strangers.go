package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/service/internal/lograte"
)

// Bounds of what strangers cost the broker, and wait for.
const (
	// maxStrangers bounds the connections that wait to be asked for. More are left to
	// their leases.
	maxStrangers = 1 << 17
	// maxAsked is how many servers are asked at once. One that hangs keeps only its
	// own connections waiting.
	maxAsked = 64
	// askedSingly is up to how many connections of a server are asked for one by one.
	// More are looked up in a list of all that it has.
	askedSingly = 4
	// askRest is what lies between two rounds at a server at least, and askShare how
	// many times as long as a round took: a server builds its list anew for each
	// request, whether one connection is asked for or all. One that did not answer is
	// spared nothing by a long pause, and would keep a place that others wait for: its
	// ID may be a client's invention.
	askRest  = 250 * time.Millisecond
	askShare = 10
	// askAttempts is how often a server is asked that does not answer, askAgain what
	// lies between: one that has just started may not be known everywhere.
	askAttempts = 3
	askAgain    = 500 * time.Millisecond
)

// strangers are connections that leases were just bound to and that nobody knew: a
// login may name one that closed long ago, or one that never was. Logins do not wait
// for it: the named server is asked behind their backs.
//
//	apply ─► add ─► waiting, by server ─► serve, a goroutine for each server
//	                                          │
//	                    it is there: nothing to do
//	                    it is not: reported as closed
//	                    no answer: unbound, see entry.Unbind
type strangers struct {
	service *Service
	wake    chan struct{}

	mu      sync.Mutex
	waiting map[string][]uint64 // clients by server
	count   int
	busy    map[string]struct{} // servers that are being asked
	lost    lograte.Doubling    // says that some could not be asked for
}

func newStrangers(s *Service) *strangers {
	return &strangers{service: s, wake: make(chan struct{}, 1), waiting: make(map[string][]uint64), busy: make(map[string]struct{})}
}

// add takes the strangers of the entry that was just applied.
func (x *strangers) add(of *state.State) {
	found := false
	for server, client := range of.Fresh {
		x.put(server, client)
		found = true
	}
	if found {
		x.kick()
	}
}

func (x *strangers) put(server string, client uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.count >= maxStrangers {
		const why = "too many connections wait to be looked up: some are not, and sessions on those that are closed end by their TTL"
		if x.lost.Due(why, time.Now()) {
			x.service.log.Warn(why)
		}
		return
	}
	x.waiting[server] = append(x.waiting[server], client)
	x.count++
}

// waits returns how many connections wait.
func (x *strangers) waits() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count
}

func (x *strangers) kick() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// take returns a server's clients that wait, and none where there are none; then the
// server is not busy any more.
func (x *strangers) take(server string) []uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	clients := x.waiting[server]
	delete(x.waiting, server)
	x.count -= len(clients)
	if len(clients) == 0 {
		delete(x.busy, server)
	}
	return clients
}

// next returns a server that nobody asks yet and makes it busy; empty for none.
func (x *strangers) next() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.busy) >= maxAsked {
		return ""
	}
	for server := range x.waiting {
		if _, ok := x.busy[server]; !ok {
			x.busy[server] = struct{}{}
			return server
		}
	}
	return ""
}

// run asks until ctx is done, and waits for those that it started.
func (x *strangers) run(ctx context.Context, w *connectionWatch) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		for server := x.next(); server != ""; server = x.next() {
			serving.Go(func() { x.serve(ctx, w, server) })
		}
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		}
	}
}

// serve asks one server until nothing waits for it.
func (x *strangers) serve(ctx context.Context, w *connectionWatch, server string) {
	defer x.kick() // others may wait for its place
	for ctx.Err() == nil {
		clients := x.take(server)
		if len(clients) == 0 {
			return
		}
		begun, rest := time.Now(), askRest
		if x.ask(ctx, w, server, clients) {
			rest = max(rest, askShare*time.Since(begun))
		}
		pause(ctx, rest)
	}
}

// ask has it appended what a server says of some of its clients, and reports whether it
// said anything.
func (x *strangers) ask(ctx context.Context, w *connectionWatch, server string, clients []uint64) (answered bool) {
	s := x.service
	slices.Sort(clients)
	clients = slices.Compact(clients)
	for attempt := range askAttempts {
		if attempt > 0 {
			pause(ctx, askAgain)
		}
		if ctx.Err() != nil || !s.cfg.System.IsConnected() || s.isLame(server) {
			return false // run compares everything after a reconnect; who is lame answers nobody
		}
		closed, err := w.absent(ctx, server, slices.Clone(clients))
		if err == nil {
			x.report(entry.Closed, server, closed)
			return true
		}
		if !isSilence(err) {
			s.log.Warn("connections could not be looked up; leases cover it", "server", server, "err", err)
			return true
		}
	}
	s.servers.silent(server)
	x.report(entry.Unbind, server, clients)
	return false
}

// report appends a command for each of a server's clients. It stops where the journal
// has stopped, and where too much waits for it: leases cover the rest.
func (x *strangers) report(kind entry.Kind, server string, clients []uint64) {
	s := x.service
	if kind == entry.Unbind {
		s.mu.RLock()
		format := s.state.Format()
		s.mu.RUnlock()
		if format < 3 {
			return
		}
	}
	for i, client := range clients {
		if err := s.journal.Report(entry.Command{Kind: kind, Server: server, Client: client}); err != nil {
			s.log.Warn("what was learned of connections could not be appended; leases cover it", "server", server, "connections", len(clients)-i, "err", err)
			return
		}
	}
	if len(clients) > 0 {
		s.log.Debug("connections were looked up", "server", server, "connections", len(clients), "closed", kind == entry.Closed)
	}
}

func (s *Service) isLame(server string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.IsLame(server)
}

// absent returns those of a server's clients that it does not have. It changes
// clients.
func (w *connectionWatch) absent(ctx context.Context, server string, clients []uint64) ([]uint64, error) {
	if len(clients) > askedSingly {
		return w.missing(ctx, server, clients)
	}
	absent := clients[:0]
	for _, client := range clients {
		have, err := w.connz(ctx, server, connzRequest{Client: client})
		if err != nil {
			return nil, err
		}
		if !slices.Contains(have, client) {
			absent = append(absent, client)
		}
	}
	return absent, nil
}

// pause waits for a while, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
