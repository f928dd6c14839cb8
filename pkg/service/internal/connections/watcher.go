// Package connections learns from the NATS servers which of the clients' connections closed. So
// it is known at once, and not only when a lease runs out. Leases cover what this package misses.
//
//	w := connections.New(connections.Config{System: nc, Account: "APP", Leases: l, Logger: log})
//	err := w.Listen()                  // from here on l is told
//	go w.Run(ctx)
//	w.LookUp(server, client)           // a lease was just bound to this connection
//	drained := w.Drain(); … ; drained(ctx)
//
// It listens and asks on a connection of the system account:
//
//	$SYS.ACCOUNT.<account>.DISCONNECT   one connection closed
//	$SYS.SERVER.<id>.LAMEDUCK           the last report of a server that shuts down
//	$SYS.REQ.SERVER.<id>.CONNZ          which connections a server has: asked when reports were
//	                                    missed, and of a connection that LookUp names
//	$SYS.REQ.SERVER.PING                which servers answer
//
// One of the instances hears of a closed connection. All instances hear of every server. A server
// that crashes reports nothing of its clients, and a server that does not answer proves nothing.
//
// The broker may refuse a subscription, or take it away. The owner of the connection tells the
// watcher by Reported. Until the broker takes the subscription again, Trouble names it, and the
// watcher asks for the connections now and then.
package connections

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/sysevent"
)

// Leases knows which leases are bound to connections, and is told what happens to those
// connections. Several goroutines call its methods. An error says that the news is lost.
type Leases interface {
	// Bound returns the clients that leases are bound to, by the IDs of their servers.
	Bound() map[string][]uint64
	// IsLame reports whether it is known that a server shuts down.
	IsLame(server string) bool

	// Closed is told that a server has reported a connection to be closed.
	Closed(server string, client uint64) error
	// Missing is told that a server, when asked, does not have a connection: it closed, or never was.
	Missing(server string, client uint64) error
	// Unbind is told that the connection's server does not answer: the lease goes by its TTL.
	Unbind(server string, client uint64) error
	// LameDuck is told that a server shuts down: it does not report closed connections any more.
	LameDuck(server string) error
}

// Config is what a Watcher needs. All fields but System are required.
type Config struct {
	// System is a connection in the system account. Without it the watcher does nothing.
	System *nats.Conn
	// Account is the account that the clients are in.
	Account string
	Leases  Leases
	Logger  *slog.Logger
}

// Watcher watches the clients' connections for one instance.
type Watcher struct {
	cfg     Config
	log     *slog.Logger
	servers *servers
	lookups *lookups

	// The subscriptions are made by Listen. There are none without a system account.
	closed, lame, pongs subscription
	wake                chan struct{} // has Run look at the subscriptions at once; holds one
	first               chan struct{} // closed when the first server has answered

	mu    sync.Mutex            // guards what changes of the subscriptions, and what follows
	drops <-chan nats.SubStatus // tells when reports of closed connections were dropped
	left  bool                  // no more subscriptions are made
	// standby says that other instances are to take the reports of closed connections.
	standby bool
}

// listenWithin bounds the wait for the broker to have taken the subscriptions.
const listenWithin = 30 * time.Second

// New makes a watcher. It starts nothing.
func New(cfg Config) *Watcher {
	w := &Watcher{cfg: cfg, log: cfg.Logger, servers: newServers(), lookups: newLookups(cfg.Logger),
		wake: make(chan struct{}, 1), first: make(chan struct{})}
	if cfg.System == nil {
		return w
	}
	w.closed = subscription{subject: "$SYS.ACCOUNT." + cfg.Account + ".DISCONNECT", queue: protocol.ServiceName, handle: w.heardClosed}
	w.lame = subscription{subject: "$SYS.SERVER.*.LAMEDUCK", handle: w.heardLame}
	w.pongs = subscription{subject: cfg.System.NewInbox(), handle: w.heardPong()}
	return w
}

// Listen begins to listen for what servers report.
func (w *Watcher) Listen() error {
	if w.cfg.System == nil {
		w.log.Warn("no system account: a session ends by its TTL, not when its connection closes")
		return nil
	}
	if err := w.subscribe(&w.closed); err != nil {
		return fmt.Errorf("listening for closed connections: %w", err)
	}
	if err := w.listenToServers(); err != nil {
		w.stop()
		return err
	}
	return nil
}

func (w *Watcher) heardClosed(m *nats.Msg) {
	server, client, err := sysevent.Closed(m.Data)
	if err == nil {
		err = w.cfg.Leases.Closed(server, client)
	}
	if err != nil {
		w.log.Warn("a report of a closed connection is lost; leases cover it", "err", err)
	}
}

// Run looks up single connections until ctx is done. It compares the bound connections with the
// open ones whenever reports may have been missed: at the start, after a reconnect of the system
// connection, when reports were dropped or taken by nobody, and while the broker refuses a
// subscription. At its end it stops listening.
func (w *Watcher) Run(ctx context.Context) {
	if w.cfg.System == nil {
		return
	}
	var lookingUp sync.WaitGroup
	defer lookingUp.Wait()
	lookingUp.Go(func() { w.lookups.run(ctx, w.lookUpAt) })
	defer w.stop()
	reconnects := w.cfg.System.StatusChanged(nats.CONNECTED)
	defer w.cfg.System.RemoveStatusListener(reconnects)
	for {
		begun := time.Now()
		if w.takeOrLeave() {
			if err := w.compare(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("bound connections could not be compared with the open ones; leases cover it", "err", err)
			}
		}
		if !w.await(ctx, reconnects, time.Since(begun)) {
			return
		}
	}
}

// await waits until it is time to compare again. It reports false if that time will not come. took
// is how long comparing took.
func (w *Watcher) await(ctx context.Context, reconnects <-chan nats.Status, took time.Duration) bool {
	retry := time.NewTimer(max(retryEvery, askShare*took))
	defer retry.Stop()
	refused := retry.C
	if w.Trouble() == nil {
		refused = nil
	}
	w.mu.Lock()
	drops := w.drops
	w.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case _, ok := <-reconnects:
		if ok {
			w.ping()
		}
		return ok
	case _, ok := <-drops:
		return ok
	case <-w.wake:
	case <-refused:
		w.renew(ctx)
	}
	return true
}

// Drain takes no more reports of closed connections: the broker gives them to other instances. It
// returns a function that waits until Leases was told of all reports that were taken. The function
// reports false if ctx is done before. It does not wait on a lost connection, which brings nothing.
func (w *Watcher) Drain() (drained func(context.Context) bool) {
	if w.cfg.System == nil {
		return func(context.Context) bool { return true }
	}
	w.mu.Lock()
	w.left = true
	closed := w.closed.sub
	w.mu.Unlock()
	if closed == nil { // on standby it takes none
		return func(context.Context) bool { return true }
	}
	done := make(chan struct{})
	closed.SetClosedHandler(func(string) { close(done) })
	if err := closed.Drain(); err != nil {
		w.log.Warn("closing connections are not reported any more", "err", err)
		return func(context.Context) bool { return true }
	}
	return func(ctx context.Context) bool {
		for w.cfg.System.IsConnected() {
			select {
			case <-done:
				return true
			case <-ctx.Done():
				return false
			case <-time.After(100 * time.Millisecond): // is it still connected?
			}
		}
		return true
	}
}

// LookUp has connections looked up that leases were just bound to for the first time. It does not
// wait.
func (w *Watcher) LookUp(fresh iter.Seq2[string, uint64]) {
	if w.cfg.System != nil {
		w.lookups.add(fresh)
	}
}

// Reports says whether a server reports closed connections, and this instance may hear that: the
// server answers in the system account, and the broker does not refuse the subscription. A server
// in lame duck mode answers too, but reports nothing.
func (w *Watcher) Reports(server string) bool {
	return w.servers.answers(server) && w.whyRefused(&w.closed) == nil && !w.cfg.Leases.IsLame(server)
}

// Remembered adds to a map how much is remembered, by names.
func (w *Watcher) Remembered(to map[string]int) {
	to["connections-to-look-up"], to["servers-asked"] = w.lookups.counts()
	to["servers"] = w.servers.known()
}
