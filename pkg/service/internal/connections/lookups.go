package connections

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"presence/pkg/service/internal/lograte"
)

// What lookups may cost the broker, and how long they wait.
const (
	// maxLookups bounds the connections that wait to be looked up. Leases cover the rest.
	maxLookups = 1 << 17
	// maxAsked is how many servers are asked at the same time. A server that hangs keeps only
	// its own connections waiting.
	maxAsked = 64
	// askedSingly is up to how many connections of a server are asked for one by one. More are
	// looked up in a list of all its connections.
	askedSingly = 4
	// askRest is the shortest pause between two rounds at a server. After a longer round the
	// pause is askShare times its length. A server builds its list anew for each request, also
	// for a single connection.
	//
	// After a server that did not answer the pause is askRest. A long pause would spare that
	// server nothing, and would take up one of maxAsked places: a client may have made up its ID.
	askRest  = 250 * time.Millisecond
	askShare = 10
	// askAttempts is how often a server is asked that does not answer, with askAgain in between:
	// a server that has just started may not be known everywhere.
	askAttempts = 3
	askAgain    = 500 * time.Millisecond
)

// lookups are connections that leases were just bound to for the first time. A login may name a
// connection that closed long ago, or never was. Logins do not wait: the server is asked later.
//
//	LookUp ─► add ─► waiting, by server ─► serve, a goroutine for each server
//	                                          │
//	                    it is there: nothing to do
//	                    it is not: reported as closed
//	                    no answer: unbound
type lookups struct {
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	waiting map[string][]uint64 // clients by server
	count   int                 // of all clients in waiting
	busy    map[string]struct{} // servers that are being asked
	lost    lograte.Doubling    // the log line that some are not looked up
}

func newLookups(log *slog.Logger) *lookups {
	return &lookups{log: log, wake: make(chan struct{}, 1), waiting: make(map[string][]uint64), busy: make(map[string]struct{})}
}

func (x *lookups) add(fresh iter.Seq2[string, uint64]) {
	found := false
	for server, client := range fresh {
		x.put(server, client)
		found = true
	}
	if found {
		x.kick()
	}
}

func (x *lookups) put(server string, client uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.count >= maxLookups {
		const why = "too many connections wait to be looked up: some are not, and sessions on those that are closed end by their TTL"
		if x.lost.Due(why, time.Now()) {
			x.log.Warn(why)
		}
		return
	}
	x.waiting[server] = append(x.waiting[server], client)
	x.count++
}

// counts returns how many connections wait, and how many servers are being asked.
func (x *lookups) counts() (waiting, asked int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count, len(x.busy)
}

func (x *lookups) kick() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// take returns a server's clients that wait. If there are none, the server is not busy any more.
func (x *lookups) take(server string) []uint64 {
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

// next makes a server busy that is not, and returns it. Empty: there is none.
func (x *lookups) next() string {
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

// run has servers asked until ctx is done, each by a goroutine of its own, and waits for those. ask
// gets a server and its clients, and reports whether the server answered.
func (x *lookups) run(ctx context.Context, ask func(ctx context.Context, server string, clients []uint64) bool) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		for server := x.next(); server != ""; server = x.next() {
			serving.Go(func() { x.serve(ctx, server, ask) })
		}
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		}
	}
}

// serve asks one server until nothing waits for it.
func (x *lookups) serve(ctx context.Context, server string, ask func(context.Context, string, []uint64) bool) {
	defer x.kick() // another server may wait for this one's place
	for ctx.Err() == nil {
		clients := x.take(server)
		if len(clients) == 0 {
			return
		}
		begun, rest := time.Now(), askRest
		if ask(ctx, server, clients) {
			rest = max(rest, askShare*time.Since(begun))
		}
		pause(ctx, rest)
	}
}

// lookUpAt asks a server for some of its clients and tells Leases the result. It reports whether
// the server answered.
func (w *Watcher) lookUpAt(ctx context.Context, server string, clients []uint64) (answered bool) {
	slices.Sort(clients)
	clients = slices.Compact(clients)
	for attempt := range askAttempts {
		if attempt > 0 {
			pause(ctx, askAgain)
		}
		if ctx.Err() != nil || !w.cfg.System.IsConnected() || w.cfg.Leases.IsLame(server) {
			// After a reconnect Run compares everything. A server that shuts down does not answer.
			return false
		}
		absent, err := w.absent(ctx, server, slices.Clone(clients))
		if err == nil {
			w.log.Debug("connections were looked up", "server", server, "connections", len(clients), "closed", len(absent))
			w.tell(w.cfg.Leases.Missing, server, absent)
			return true
		}
		if !isSilence(err) {
			w.log.Warn("connections could not be looked up; leases cover it", "server", server, "err", err)
			return true
		}
	}
	w.log.Debug("a NATS server does not answer: leases bound to its connections go by their TTL", "server", server, "connections", len(clients))
	w.servers.silent(server)
	w.tell(w.cfg.Leases.Unbind, server, clients)
	return false
}

// tell tells Leases of each of a server's clients. It stops at the first error: leases cover the
// rest.
func (w *Watcher) tell(news func(server string, client uint64) error, server string, clients []uint64) {
	for i, client := range clients {
		if err := news(server, client); err != nil {
			w.log.Warn("closed or unbound connections could not be reported; leases cover it", "server", server, "connections", len(clients)-i, "err", err)
			return
		}
	}
}

// absent returns the clients that a server does not have, out of some. It changes clients.
func (w *Watcher) absent(ctx context.Context, server string, clients []uint64) ([]uint64, error) {
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
