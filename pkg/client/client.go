package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// ErrClosed is the error of a Client that was closed.
var ErrClosed = errors.New("the presence client is closed")

// Client uses the presence service over one *nats.Conn. See the package documentation.
type Client struct {
	nc       *nats.Conn
	opts     Options
	subjects protocol.Subjects
	link     *link
	own      ownWrites
	watch    *watch
	hub      *hub
	dog      *watchdog

	stop context.CancelFunc // ends what run started
	done sync.WaitGroup
	once sync.Once // Close

	mu       sync.Mutex
	closed   bool
	sessions map[*Session]struct{} // the open ones
	gateways map[*Gateway]struct{} // the open ones
}

// New returns a Client on nc, and starts its goroutines, which Close ends. It neither opens nor
// closes nc. The error is about the prefix.
//
// Make nc with ConnectOptions. If nats.go would give it up for good after an outage, New logs a
// warning. The Client puts itself in front of nc's error handler, which is still called. It may
// make nats.go replace a dead connection, see Options.Probe.
func New(nc *nats.Conn, opts Options) (*Client, error) {
	if nc == nil {
		return nil, nats.ErrInvalidConnection
	}
	opts = opts.withDefaults()
	if err := protocol.CheckPrefix(opts.Prefix); err != nil {
		return nil, err
	}
	c := &Client{nc: nc, opts: opts, subjects: protocol.NewSubjects(opts.Prefix),
		sessions: map[*Session]struct{}{}, gateways: map[*Gateway]struct{}{}}
	c.warnOf(nc.Opts)
	c.watch, c.dog = newWatch(c), newWatchdog(c)
	c.own.doubt = c.watch.doubt
	c.link = newLink(nc, c.watch.connectionLost, c.watch.wakeUp)
	if c.link.current().Err() == nil {
		c.watch.state = State{Live: true} // nothing is watched yet
	}

	c.hub = joinHub(nc, c)

	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.done.Go(func() { c.link.run(ctx) })
	c.done.Go(func() { c.dog.run(ctx) })
	c.done.Go(func() { c.watch.merge(ctx) })
	c.done.Go(func() { c.watch.keep(ctx) })
	c.done.Go(func() { c.watch.delivery.run(ctx) })
	return c, nil
}

// Close logs out the open sessions and closes the gateways with LoseSessions, for at most
// Options.Timeout. Then it stops watching, and waits for all goroutines of the Client.
// Callbacks that are due do not run any more. The *nats.Conn stays open. To close twice is
// allowed. A callback must not call Close.
func (c *Client) Close() error {
	c.once.Do(c.close)
	return nil
}

func (c *Client) close() {
	c.mu.Lock()
	c.closed = true
	open, gateways := slices.Collect(maps.Keys(c.sessions)), slices.Collect(maps.Keys(c.gateways))
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), c.opts.Timeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, g := range gateways {
		closing.Go(func() {
			if err := g.Close(ctx, LoseSessions); err != nil {
				c.opts.Logger.Warn("closing a gateway at the close of the client", "gateway", g.id, "err", err)
			}
		})
	}
	for _, s := range open {
		closing.Go(func() {
			if err := s.Close(ctx); err != nil {
				c.opts.Logger.Warn("logging out at the close of the client", "user", s.userID, "session", s.ID(), "err", err)
			}
		})
	}
	closing.Wait()

	c.hub.leave(c)
	c.watch.close()
	c.stop()
	c.done.Wait()
}
