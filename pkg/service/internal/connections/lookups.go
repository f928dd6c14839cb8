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

// Bounds of what lookups cost the broker, and wait for.
const (
	// maxLookups bounds the connections that wait to be looked up. More are left to their
	// leases.
	maxLookups = 1 << 17
	// maxAsked is how many servers are asked at once. One that hangs keeps only its
	// own connections waiting.
	maxAsked = 64
	// askedSingly is up to how many connections of a server are asked for one by one.
	// More are looked up in a list of all that it has.
	askedSingly = 4
	// askRest is the least pause between two rounds at a server. A longer round is followed by
	// askShare times its length: a server builds its list anew for each request, whether one
	// connection is asked for or all.
	//
	// After a server that did not answer the pause is askRest. A long one would spare it
	// nothing, and would keep a place that others wait for: its ID may be a client's
	// invention.
	askRest  = 250 * time.Millisecond
	askShare = 10
	// askAttempts is how often a server is asked that does not answer, askAgain what
	// lies between: one that has just started may not be known everywhere.
	askAttempts = 3
	askAgain    = 500 * time.Millisecond
)

// lookups are connections that leases were just bound to and that nobody knew. A login may name
// one that closed long ago, or one that never was. Logins do not wait for it: the named server is
// asked behind their backs.
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
	count   int
	busy    map[string]struct{} // servers that are being asked
	lost    lograte.Doubling    // says that some could not be looked up
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

// take returns a server's clients that wait, and none where there are none; then the
// server is not busy any more.
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

// next returns a server that nobody asks yet and makes it busy; empty for none.
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

// run has servers asked until ctx is done, and waits for those that it has started to ask. ask
// is told a server and its clients. It reports whether the server said anything.
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
	defer x.kick() // others may wait for its place
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

// lookUpAt tells Leases what a server says of some of its clients, and reports whether the server
// said anything.
func (w *Watcher) lookUpAt(ctx context.Context, server string, clients []uint64) (answered bool) {
	slices.Sort(clients)
	clients = slices.Compact(clients)
	for attempt := range askAttempts {
		if attempt > 0 {
			pause(ctx, askAgain)
		}
		if ctx.Err() != nil || !w.cfg.System.IsConnected() || w.cfg.Leases.IsLame(server) {
			return false // Run compares everything after a reconnect; a lame server answers nobody
		}
		absent, err := w.absent(ctx, server, slices.Clone(clients))
		if err == nil {
			w.tell(w.cfg.Leases.Closed, server, absent)
			return true
		}
		if !isSilence(err) {
			w.log.Warn("connections could not be looked up; leases cover it", "server", server, "err", err)
			return true
		}
	}
	w.servers.silent(server)
	w.tell(w.cfg.Leases.Unbind, server, clients)
	return false
}

// tell tells Leases of each of a server's clients. It stops at the first error: leases cover the
// rest.
func (w *Watcher) tell(news func(server string, client uint64) error, server string, clients []uint64) {
	for i, client := range clients {
		if err := news(server, client); err != nil {
			w.log.Warn("what was learned of connections could not be appended; leases cover it", "server", server, "connections", len(clients)-i, "err", err)
			return
		}
	}
}

// absent returns those of a server's clients that it does not have. It changes
// clients.
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
