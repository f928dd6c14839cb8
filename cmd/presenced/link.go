package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// sayLostEvery is the least pause between two lines of the log that say why one
	// connection cannot be made again.
	sayLostEvery = 10 * time.Second
	// sayErrorEvery is the least pause between two lines about errors that NATS reports,
	// which clients can provoke; saySameEvery if the text is the same again.
	sayErrorEvery = time.Second
	saySameEvery  = time.Minute
	// lookEvery is how often presenced looks why an attempt failed: nats.go calls no
	// handler if it reached the server, but TLS or the login failed.
	lookEvery = time.Second
)

// link is what is known of one of presenced's connections: whether it is lost, and
// why it does not come back. Its methods are safe for concurrent use.
type link struct {
	name string
	log  *slog.Logger
	// gone is called when nats.go has closed the connection for good, so that presenced
	// has to make another.
	gone   func()
	ending atomic.Bool // presenced closes it itself

	mu        sync.Mutex // guards the rest
	lost      bool
	why       error // of the last attempt; nil: not known
	said      time.Time
	errorSaid time.Time
	errorText string
}

func newLink(name string, log *slog.Logger, gone func()) *link {
	return &link{name: name, log: log.With("connection", name), gone: gone}
}

// options are the handlers of a link. They must be set when the connection is made,
// because the service puts itself in front of the one for errors.
func (l *link) options() []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() {
				return
			}
			if err != nil {
				l.log.Warn("lost the NATS server", "err", err)
			}
			l.failed(err)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.failed(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			l.back()
			l.log.Warn("the NATS server is back", "server", nc.ConnectedServerName())
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if l.ending.Load() {
				return
			}
			err := nc.LastError()
			l.log.Error("this connection is closed for good: all connections are made anew", "err", err)
			l.failed(err)
			l.gone()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if sub == nil && l.isLost() { // a refused login, for example
				l.failed(err)
				return
			}
			l.reported(sub, err)
		}),
	}
}

// failed notes that the connection is lost, and why it could not be made again.
func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !l.lost
	l.lost = true
	if err == nil {
		return
	}
	l.why = err
	if now := time.Now(); !first && now.Sub(l.said) >= sayLostEvery {
		l.said = now
		l.log.Warn("the NATS server cannot be reached", "err", withHint(err))
	}
}

func (l *link) back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost, l.why, l.said = false, nil, time.Time{}
}

// reported logs what NATS reports on a connection that is there.
func (l *link) reported(sub *nats.Subscription, err error) {
	now := time.Now()
	l.mu.Lock()
	text := err.Error()
	pause := sayErrorEvery
	if text == l.errorText {
		pause = saySameEvery
	}
	due := now.Sub(l.errorSaid) >= pause
	if due {
		l.errorSaid, l.errorText = now, text
	}
	l.mu.Unlock()
	switch {
	case !due:
	case sub != nil:
		l.log.Warn("NATS reports an error", "err", err, "subject", sub.Subject)
	default:
		l.log.Warn("NATS reports an error", "err", err)
	}
}

// look finds out why attempts fail for which nats.go calls no handler.
func (l *link) look(nc *nats.Conn) {
	switch {
	case l.ending.Load():
	case nc.IsConnected():
		l.back()
	default:
		l.failed(nc.LastError())
	}
}

func (l *link) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// trouble says why the connection is lost; nil if it is not.
func (l *link) trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.lost:
		return nil
	case l.why == nil:
		return errors.New("lost")
	}
	return withHint(l.why)
}

// withHint adds to an error what to do about it.
func withHint(err error) error {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return fmt.Errorf("%w (--tlsca names the authority's)", err)
	}
	return err
}

// links are the links of all connections, in the order in which these were made.
type links struct {
	mu   sync.Mutex
	list []*link
	of   []*nats.Conn
	lost chan struct{} // holds one once a connection was closed for good
	stop func()        // ends watch and waits for it
}

func newLinks() *links {
	ls := &links{lost: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { ls.watch(ctx) })
	ls.stop = func() {
		cancel()
		watching.Wait()
	}
	return ls
}

// add returns a link for a connection that is about to be made. Call made afterwards.
func (ls *links) add(name string, log *slog.Logger) *link {
	return newLink(name, log, func() {
		select {
		case ls.lost <- struct{}{}:
		default:
		}
	})
}

func (ls *links) made(l *link, nc *nats.Conn) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.list, ls.of = append(ls.list, l), append(ls.of, nc)
}

func (ls *links) watch(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		ls.mu.Lock()
		list, of := ls.list, ls.of
		ls.mu.Unlock()
		for i, l := range list {
			l.look(of[i])
		}
	}
}

// end says that presenced closes the connections itself.
func (ls *links) end() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.list {
		l.ending.Store(true)
	}
}

// trouble says in one line which connections are lost and why; empty for none. It names
// those with the same reason together.
func (ls *links) trouble() string {
	ls.mu.Lock()
	list := ls.list
	ls.mu.Unlock()
	var reasons []string
	names := map[string][]string{}
	for _, l := range list {
		err := l.trouble()
		if err == nil {
			continue
		}
		why := strings.Join(strings.Fields(err.Error()), " ")
		if names[why] == nil {
			reasons = append(reasons, why)
		}
		names[why] = append(names[why], l.name)
	}
	for i, why := range reasons {
		reasons[i] = "connection " + strings.Join(names[why], ", ") + ": " + why
	}
	return strings.Join(reasons, "; ")
}
