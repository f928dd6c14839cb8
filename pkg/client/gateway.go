package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"presence/pkg/protocol"
)

// ErrGatewayClosed is the error of a Gateway that its owner has closed.
var ErrGatewayClosed = errors.New("the gateway was closed")

// Gateway holds the sessions of many users by one lease. It is for a process that other
// clients are connected to, such as a WebSocket server. It renews the lease every third of
// its TTL, binds it to each new connection, and remembers whom it has logged in. If the
// lease was lost, it opens another and first logs everyone in again.
//
// # Throughput and limits
//
// Changes from many goroutines travel together, up to protocol.MaxOpsPerApply in a request. The
// changes that are called while as many requests are under way as the service allows form the
// next one: protocol.ApplyWindow, or one for a while after one has overtaken another, as they do
// with several instances. Where fewer than 64 wait, and fewer than the largest request under way
// has, they wait for more, for a millisecond. While none is under way nothing is held back, and 512
// or more go in two requests. So a lone caller waits for one request, and throughput grows with the
// number of callers. At most GatewayOptions.MaxWaiting changes wait to be sent, besides those of
// the next request. If there are more, callers wait for room until their context ends.
//
// # Ordering
//
// Changes are done in the order of their calls: a change that is called after another has
// returned, with or without an error, is done after it.
//
// # Contexts and errors
//
// Each call waits for the result of its own change. Use errors.Is with the errors of package
// protocol. There is no deadline but the caller's context: a change that cannot be done
// because the connection is gone or the service is overloaded is tried again until it is
// answered, and is done once. If the context ends first, a Login or SetStatus that was not
// sent yet is not done. A change that was sent, and a Logout, Lost or SetIdle that waits,
// will be done unless the Gateway ends before: the error is then protocol.ErrOutcomeUnknown
// and the context's. A call that found no room changes nothing. So repeat a Logout or Lost
// that returned an error, or the session stays.
//
// # What survives
//
// A reconnect within the grace (GatewayOptions.Grace, 5 s unless configured) is not
// seen by anybody.
// After a longer one, or an outage of this process for longer than the TTL, all
// sessions were lost: their users were OFFLINE until they were logged in again,
// and with the service's policy "session" their custom status is gone. A set of
// which it is not known whether the lost lease did it is not repeated: it fails
// with protocol.ErrOutcomeUnknown. A Gateway that is not open any more (Done)
// never opens again.
//
// Every method is safe for concurrent use.
type Gateway struct {
	c    *Client
	id   string
	opts GatewayOptions

	queue   gatewayQueue
	ended   endedSessions
	count   atomic.Int64            // how many sessions
	abort   context.CancelCauseFunc // makes run give up what it is doing
	closing chan struct{}           // closed when no more changes are taken
	once    sync.Once               // closes closing
	done    chan struct{}           // closed when every change taken has been answered
	stopped chan struct{}           // closed when all goroutines have returned

	how GatewayEnd // read after closing was closed
	// err is why it ended, closeErr the error of Close; read after done was closed.
	err, closeErr error

	run gatewayRun // of the goroutine of that name
}

// GatewayEnd says what happens to a gateway's sessions when it is closed.
type GatewayEnd int

const (
	// LoseSessions: they are lost at once; their users become OFFLINE.
	LoseSessions GatewayEnd = iota
	// LogoutSessions: they are logged out; their users become UNLOGINED.
	LogoutSessions
	// LeaveSessions: they live on until the TTL ends, or the grace after the
	// NATS connection was closed. A gateway that logs them in before, with
	// their IDs, takes them over, and nobody notices.
	LeaveSessions
)

// OpenGateway opens a gateway. Its ID has the alphabet of a session's. An earlier run of
// the same gateway may have had the same ID: this one takes over its sessions as it logs
// them in. On an error a lease without sessions may have been opened.
func (c *Client) OpenGateway(ctx context.Context, gatewayID string, opts GatewayOptions) (*Gateway, error) {
	if _, err := c.subjects.Gateway(gatewayID, protocol.OpOpen); err != nil {
		return nil, err
	}
	if err := opts.request(gatewayID, nil).Check(); err != nil { // the process gets its ID later
		return nil, fmt.Errorf("opening the gateway %q: %w", gatewayID, err)
	}
	opts.MaxWaiting = cmp.Or(max(opts.MaxWaiting, 0), 1<<16)
	g := &Gateway{
		c: c, id: gatewayID, opts: opts,
		closing: make(chan struct{}), done: make(chan struct{}), stopped: make(chan struct{}),
	}
	g.queue.init(opts.MaxWaiting)
	g.ended.init()
	if err := g.run.init(g); err != nil {
		return nil, fmt.Errorf("opening the gateway %q: %w", gatewayID, err)
	}
	if err := c.retry(ctx, true, g.run.open); err != nil {
		g.run.flights.stopListening()
		return nil, fmt.Errorf("opening the gateway %q: %w", gatewayID, err)
	}
	requests, abort := context.WithCancelCause(context.Background())
	g.abort = abort
	if !c.adoptGateway(g, requests) {
		g.run.flights.stopListening()
		return nil, ErrClosed // the lease holds nobody, and runs out
	}
	return g, nil
}

// adoptGateway starts the gateway's goroutines, unless the Client is closed.
func (c *Client) adoptGateway(g *Gateway, requests context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.gateways[g] = struct{}{}
	c.done.Go(func() { g.live(requests) })
	return true
}

// ID returns the gateway's ID.
func (g *Gateway) ID() string { return g.id }

// Sessions returns how many sessions the gateway holds: those that it has logged in, but
// for those that it has ended, or knows to have ended.
func (g *Gateway) Sessions() int { return int(g.count.Load()) }

// Done is closed when the gateway has ended: by Close, or because the *nats.Conn
// is closed.
func (g *Gateway) Done() <-chan struct{} { return g.done }

// Err says why the gateway ended; nil while it has not.
func (g *Gateway) Err() error {
	select {
	case <-g.done:
		return g.err
	default:
		return nil
	}
}

// Login opens a session, or resumes the one with that ID, even if another gateway holds
// it: nobody notices such a handover. Do not repeat a login that is refused with
// protocol.ErrSessionReplaced.
func (g *Gateway) Login(ctx context.Context, userID, sessionID string, opts GatewayLogin) error {
	return g.do(ctx, protocol.Op{
		Op: protocol.OpKindLogin, UserID: userID, SessionID: sessionID,
		Device: opts.Device, Platform: opts.Platform, Idle: opts.Idle,
	})
}

// Logout ends a session because its user wants it. A session that this gateway does not
// hold stays as it is, without an error: it has ended, or gone to another gateway.
func (g *Gateway) Logout(ctx context.Context, userID, sessionID string) error {
	return g.do(ctx, protocol.Op{Op: protocol.OpKindLogout, UserID: userID, SessionID: sessionID})
}

// Lost says that the connection of a session's device to this gateway broke. A session
// that this gateway does not hold stays as it is, without an error.
func (g *Gateway) Lost(ctx context.Context, userID, sessionID string) error {
	return g.do(ctx, protocol.Op{Op: protocol.OpKindLost, UserID: userID, SessionID: sessionID})
}

// SetIdle says whether somebody is at the device. protocol.ErrSessionNotFound
// says that the session has ended, or gone to another gateway.
func (g *Gateway) SetIdle(ctx context.Context, userID, sessionID string, idle bool) error {
	return g.do(ctx, protocol.Op{Op: protocol.OpKindIdle, UserID: userID, SessionID: sessionID, Idle: idle})
}

// SetStatus sets a user's custom status, or clears it with an empty text, with
// or without a session. IfSession refuses it for a user who is not there.
func (g *Gateway) SetStatus(ctx context.Context, userID, text string, opts ...SetOption) error {
	return g.set(ctx, userID, protocol.SetRequest{CustomStatus: &text}, opts)
}

// SetAvailability sets how a user wants to be reached: the lasting value or, with
// ExpiresIn, an override of it. Otherwise it is like SetStatus.
func (g *Gateway) SetAvailability(ctx context.Context, userID string, a protocol.Availability, opts ...SetOption) error {
	return g.set(ctx, userID, protocol.SetRequest{Availability: &a}, opts)
}

func (g *Gateway) set(ctx context.Context, userID string, req protocol.SetRequest, opts []SetOption) error {
	for _, o := range opts {
		o(&req)
	}
	return g.do(ctx, protocol.Op{
		Op: protocol.OpKindSet, UserID: userID, SessionID: req.SessionID,
		CustomStatus: req.CustomStatus, ExpiresInSeconds: req.ExpiresInSeconds,
		Availability: req.Availability, AvailabilityExpiresInSeconds: req.AvailabilityExpiresInSeconds,
		IfRevision: req.IfRevision,
	})
}

// Close takes no more changes, waits until those that wait are done, ends the lease as end
// says, and waits for the gateway's goroutines. If ctx ends before, the gateway has ended
// all the same. Then waiting changes are not done, and the service loses the sessions
// after the TTL. To close a gateway that has ended does nothing. A second Close returns
// what the first did.
func (g *Gateway) Close(ctx context.Context, end GatewayEnd) error {
	g.stopTaking(end)
	stop := context.AfterFunc(ctx, func() { g.abort(ctx.Err()) })
	defer stop()
	<-g.stopped
	return g.closeErr
}

// stopTaking makes the gateway refuse further changes.
func (g *Gateway) stopTaking(end GatewayEnd) {
	g.once.Do(func() {
		g.how = end
		close(g.closing)
	})
}

// live runs the gateway, and everything that belongs to it, until it ends.
func (g *Gateway) live(ctx context.Context) {
	defer close(g.stopped)
	telling, stop := context.WithCancel(context.Background())
	var told sync.WaitGroup
	told.Go(func() { g.ended.tell(telling, g.opts.OnSessionEnded) })

	err, closeErr := g.run.loop(ctx)
	g.stopTaking(LeaveSessions)
	g.err = err
	if closeErr != nil {
		g.closeErr = fmt.Errorf("closing the gateway %q: %w", g.id, closeErr)
	}
	g.run.giveUp(err)
	g.run.flights.stopListening()
	close(g.done) // lets go of callbacks that wait for a change
	g.abort(nil)

	g.c.mu.Lock()
	delete(g.c.gateways, g)
	g.c.mu.Unlock()
	stop()
	told.Wait()
}
