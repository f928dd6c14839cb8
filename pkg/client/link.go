package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// link follows the state of a *nats.Conn whose handlers belong to somebody else. Each
// connection of the *nats.Conn to a server has a context, which ends when that connection
// is lost.
type link struct {
	nc      *nats.Conn
	changes chan nats.Status
	// onLost and onUp are called by run, in order, never at the same time.
	onLost func(closed bool)
	onUp   func()

	mu     sync.Mutex
	conn   context.Context // of the current or last connection
	lose   context.CancelFunc
	number uint64        // of that connection: nats.go's count of reconnects
	up     chan struct{} // closed while connected
	final  error         // why there will be no other connection
	closed chan struct{} // closed when final is set
	nudged chan struct{} // closed by the next nudge
}

func newLink(nc *nats.Conn, onLost func(closed bool), onUp func()) *link {
	l := &link{nc: nc, onLost: onLost, onUp: onUp, up: make(chan struct{}), closed: make(chan struct{}), nudged: make(chan struct{})}
	l.conn, l.lose = context.WithCancel(context.Background())
	l.lose()
	l.changes = nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.DRAINING_SUBS, nats.CLOSED)
	l.look()
	return l
}

// run follows the connection until ctx ends. The channel drops changes if it is full, so a
// change only says that something has changed.
func (l *link) run(ctx context.Context) {
	defer l.end()
	defer l.nc.RemoveStatusListener(l.changes)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changes:
			l.look()
		}
	}
}

// end ends the waiting of everybody who still waits for the connection.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setLost()
	l.setFinal(ErrClosed)
}

// setLost and setFinal need mu.
func (l *link) setLost() {
	if l.conn.Err() == nil {
		l.lose()
		l.up = make(chan struct{})
	}
}

func (l *link) setFinal(err error) {
	if l.final == nil {
		l.final = err
		close(l.closed)
	}
}

// look compares the state of the *nats.Conn with the state at the last look. A connection
// that was replaced in between has another number.
func (l *link) look() {
	number, status := l.nc.Stats().Reconnects, l.nc.Status()

	l.mu.Lock()
	wasUp := l.conn.Err() == nil
	isUp := status == nats.CONNECTED
	lost := wasUp && (!isUp || number != l.number)
	found := isUp && (!wasUp || lost)
	// A draining connection takes no new subscriptions, and is about to end.
	closed := (status == nats.CLOSED || status == nats.DRAINING_SUBS || status == nats.DRAINING_PUBS) && l.final == nil
	if lost {
		l.setLost()
	}
	if found {
		l.conn, l.lose = context.WithCancel(context.Background())
		l.number = number
		close(l.up)
	}
	if closed {
		l.setFinal(closedFor(l.nc))
	}
	l.mu.Unlock()

	if lost || closed {
		l.onLost(closed)
	}
	if found {
		l.onUp()
	}
}

// closedFor is nats.ErrConnectionClosed and, if nats.go gave the connection up, the reason. The
// last error of the connection may also have nothing to do with its end.
func closedFor(nc *nats.Conn) error {
	why := nc.LastError()
	for _, fatal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNoServers} {
		if nc.IsClosed() && errors.Is(why, fatal) {
			return fmt.Errorf("%w: %w", nats.ErrConnectionClosed, why)
		}
	}
	return nats.ErrConnectionClosed
}

// nudge makes everything renew now that is kept alive over this connection.
func (l *link) nudge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.nudged)
	l.nudged = make(chan struct{})
}

// nudges is closed by the next nudge. A receiver of nudges keeps the channel, so that it misses
// none while it does something else, and asks for another one when the channel is closed.
func (l *link) nudges() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nudged
}

// current returns the context of the current connection or, if there is none, of the last one,
// which has ended.
func (l *link) current() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// wait waits for a connection until ctx ends, and returns its context. If no connection
// will come any more the error is nats.ErrConnectionClosed or ErrClosed.
func (l *link) wait(ctx context.Context) (context.Context, error) {
	for {
		l.mu.Lock()
		conn, up := l.conn, l.up
		l.mu.Unlock()
		if conn.Err() == nil {
			return conn, nil
		}
		select {
		case <-up:
		case <-l.closed:
			return nil, l.final
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// identity returns the connection's context, and its name in the broker (PROTOCOL 4.1),
// which is nil if the server is too old to tell. Server and client ID are read one after
// the other; they belong together if no reconnect began in between. The context may be of
// an earlier connection than the name, never of a later one. Then it has ended, or is about
// to.
func (l *link) identity(ctx context.Context) (context.Context, *protocol.Connection, error) {
	for {
		conn, err := l.wait(ctx)
		if err != nil {
			return nil, nil, err
		}
		number := l.nc.Stats().Reconnects
		serverID := l.nc.ConnectedServerId() // empty unless connected
		clientID, err := l.nc.GetClientID()
		if serverID != "" && number == l.nc.Stats().Reconnects {
			if err != nil {
				return conn, nil, nil
			}
			return conn, &protocol.Connection{ServerID: serverID, ClientID: clientID}, nil
		}
		if !sleep(ctx, 10*time.Millisecond) { // until run has looked
			return nil, nil, ctx.Err()
		}
	}
}
