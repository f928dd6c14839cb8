// Package connections learns from the NATS servers which of the clients' connections closed. It
// tells at once what leases would find out later; leases cover what it misses.
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
// One of the instances hears of a closed connection, and every instance hears of every server. A
// server that crashes reports nothing of its clients, and one that does not answer proves nothing.
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

// Leases are what is bound to connections, and are told what becomes of those. Their methods are
// called by several goroutines. An error says that the news is lost.
type Leases interface {
	// Bound returns the clients that leases are bound to, by the IDs of their servers.
	Bound() map[string][]uint64
	// IsLame reports whether it is known that a server shuts down.
	IsLame(server string) bool

	// Closed is told that a connection closed, or never was.
	Closed(server string, client uint64) error
	// Unbind is told that nobody answers for a connection: the lease has its TTL alone.
	Unbind(server string, client uint64) error
	// LameDuck is told that a server shuts down: it reports closed connections no more.
	LameDuck(server string) error
}

// Config is what a Watcher needs. All fields but System are required.
type Config struct {
	// System is a connection in the system account. Without one nothing is heard.
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

	// The subscriptions are set by Listen, and nil without a system account.
	closed, lame, pongs *nats.Subscription
}

// listenWithin bounds the wait for the broker to have taken the subscriptions.
const listenWithin = 30 * time.Second

// New makes a watcher. It starts nothing.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, log: cfg.Logger, servers: newServers(), lookups: newLookups(cfg.Logger)}
}

// Listen begins to listen for what servers report.
func (w *Watcher) Listen() error {
	if w.cfg.System == nil {
		w.log.Warn("no system account: a session ends by its TTL, not when its connection closes")
		return nil
	}
	subject := "$SYS.ACCOUNT." + w.cfg.Account + ".DISCONNECT"
	sub, err := w.cfg.System.QueueSubscribe(subject, protocol.ServiceName, func(m *nats.Msg) {
		server, client, err := sysevent.Closed(m.Data)
		if err == nil {
			err = w.cfg.Leases.Closed(server, client)
		}
		if err != nil {
			w.log.Warn("a report of a closed connection was not understood, or is lost", "err", err)
		}
	})
	if err == nil {
		err = w.cfg.System.FlushTimeout(listenWithin)
	}
	if err != nil {
		return fmt.Errorf("listening for closed connections: %w", err)
	}
	w.closed = sub
	if err := w.listenToServers(); err != nil {
		w.stop()
		return err
	}
	return nil
}

// Run looks up single connections until ctx is done. It compares what is bound with what is
// connected whenever reports may have been missed: at the start, after a reconnect of the system
// connection, and when reports were dropped. It ends the listening.
func (w *Watcher) Run(ctx context.Context) {
	if w.closed == nil {
		return
	}
	var lookingUp sync.WaitGroup
	defer lookingUp.Wait()
	lookingUp.Go(func() { w.lookups.run(ctx, w.lookUpAt) })
	defer w.stop()
	system := w.cfg.System
	reconnects := system.StatusChanged(nats.CONNECTED)
	defer system.RemoveStatusListener(reconnects)
	drops := w.closed.StatusChanged(nats.SubscriptionSlowConsumer)
	for {
		if err := w.compare(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("connections could not be compared with the broker's; leases cover it", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case _, ok := <-reconnects:
			if !ok {
				return
			}
			w.ping()
		case _, ok := <-drops:
			if !ok {
				return
			}
		}
	}
}

func (w *Watcher) stop() {
	for _, sub := range []*nats.Subscription{w.closed, w.lame, w.pongs} {
		if sub != nil {
			_ = sub.Unsubscribe() // what drained, or went with its connection, is not there
		}
	}
}

// Drain takes no more reports of closed connections: the broker gives them to other instances.
// The function that it returns waits until Leases were told of the last one that was taken, and
// reports false where ctx is done earlier. Nothing more comes by a connection that is lost.
func (w *Watcher) Drain() (drained func(context.Context) bool) {
	if w.closed == nil {
		return func(context.Context) bool { return true }
	}
	done := make(chan struct{})
	w.closed.SetClosedHandler(func(string) { close(done) })
	if err := w.closed.Drain(); err != nil {
		w.log.Warn("closing connections are not reported any more", "err", err)
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

// LookUp has connections looked up that leases were just bound to, and that nobody knew before. It
// does not wait.
func (w *Watcher) LookUp(fresh iter.Seq2[string, uint64]) {
	if w.cfg.System != nil {
		w.lookups.add(fresh)
	}
}

// Reports says whether a server answers in the system account, and so reports closed connections.
func (w *Watcher) Reports(server string) bool { return w.servers.answers(server) }

// Remembered adds how much is remembered, by names.
func (w *Watcher) Remembered(to map[string]int) {
	to["connections-to-look-up"], to["servers-asked"] = w.lookups.counts()
	to["servers"] = w.servers.known()
}
