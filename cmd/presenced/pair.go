package main

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// pair keeps presenced's two connections in the clients' account on one server of a
// cluster: that for requests, and that for answers and events. An answer that leaves
// by another server than its request came by can be lost, so the service does not send
// it there, and the connection for answers would be of no use.
//
// The second is made to the server of the first. Whichever is lost comes back to the
// server of the other. Where that fails it takes what it gets, and the connection for
// answers follows.
type pair struct {
	requests, answers side

	mu    sync.Mutex // guards the rest
	moves moves
}

// moves count how often the connection for answers was made to follow.
type moves struct {
	since  time.Time     // when the time began that they are counted in
	within time.Duration // how long that is
	n      int
}

const (
	// pairWait is the pause before another attempt at the server that is wanted.
	pairWait = 250 * time.Millisecond
	// ownTries is how often the connection for answers tries its old server, so as to
	// learn meanwhile where that for requests is.
	ownTries = 4
	// maxMoves bounds how often the connection for answers is made to follow in
	// movesWithin. It may never get to the server that is wanted: behind a load balancer,
	// or where that server takes no more connections. No requests are taken while it
	// moves, so the time doubles up to movesWithinMost each time that it was not enough.
	maxMoves        = 5
	movesWithin     = time.Minute
	movesWithinMost = time.Hour
)

// side is one of the two connections. at is nil while it is lost; last is where it was.
type side struct {
	at, last atomic.Pointer[place]
	tries    atomic.Int64 // attempts since it was lost
}

// place is a server: as it is in the pool of nats.go, its address, and its ID.
type place struct{ host, address, id string }

func placeOf(nc *nats.Conn) *place {
	u, err := url.Parse(nc.ConnectedUrl())
	if err != nil || u.Host == "" {
		return nil
	}
	return &place{host: u.Host, address: nc.ConnectedAddr(), id: nc.ConnectedServerId()}
}

func (s *side) set(p *place) {
	s.at.Store(p)
	if p != nil {
		s.last.Store(p)
		s.tries.Store(0)
	}
}

// requestOptions are those of the connection for requests, which is made first.
func (p *pair) requestOptions() []nats.Option {
	return []nats.Option{nats.ReconnectToServer(func(pool []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
		n := p.requests.tries.Add(1) - 1
		return p.toOther(pool, p.answers.at.Load(), n)
	})}
}

// answerOptions are those of the connection for answers. nats.go calls the chooser
// with the connection locked: it must ask neither connection anything.
func (p *pair) answerOptions() []nats.Option {
	choose := func(pool []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
		n := p.answers.tries.Add(1) - 1
		other := p.requests.at.Load()
		if other == nil && n < ownTries {
			if s := find(pool, p.answers.last.Load()); s != nil {
				return s, pairWait
			}
		}
		return p.toOther(pool, other, n)
	}
	return []nats.Option{
		nats.ReconnectToServer(choose),
		nats.DontRandomize(),
		// A name can stand for several servers: that which the other got is dialed.
		nats.SkipHostLookup(),
		nats.SetCustomDialer(pairDialer{p}),
	}
}

// toOther chooses the server of the other connection. Each third attempt it leaves the
// choice to nats.go: the one that is wanted may not take another connection.
func (p *pair) toOther(pool []nats.Server, other *place, n int64) (*nats.Server, time.Duration) {
	s := find(pool, other)
	switch {
	case s == nil || n%3 == 2:
		return nil, 0
	case n == 0:
		return s, 0
	}
	return s, pairWait
}

func find(pool []nats.Server, p *place) *nats.Server {
	if p == nil {
		return nil
	}
	i := slices.IndexFunc(pool, func(s nats.Server) bool { return s.URL != nil && s.URL.Host == p.host })
	if i < 0 {
		return nil
	}
	return &pool[i]
}

// first puts that of some URLs first which the connection for requests is at.
func (p *pair) first(urls string) string {
	at := p.requests.at.Load()
	if at == nil {
		return urls
	}
	list := strings.Split(urls, ",")
	i := slices.IndexFunc(list, func(text string) bool { return hostOf(text) == at.host })
	if i > 0 {
		list[0], list[i] = list[i], list[0]
	}
	return strings.Join(list, ",")
}

// hostOf returns the host and port of a URL as nats.go has it in its pool.
func hostOf(text string) string {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return ""
	case u.Port() == "":
		return net.JoinHostPort(u.Hostname(), "4222")
	}
	return u.Host
}

// pairDialer dials the address of the other connection where it is asked for the name
// that the other connection was made by.
type pairDialer struct{ *pair }

func (d pairDialer) Dial(network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: askWithin}
	if other := d.requests.at.Load(); other != nil && other.host == address && other.address != "" {
		if c, err := dialer.Dial(network, other.address); err == nil {
			return c, nil
		}
	}
	return dialer.Dial(network, address)
}

// run follows both connections until ctx is done.
func (p *pair) run(ctx context.Context, requests, answers *nats.Conn) {
	follow := func(nc *nats.Conn, s *side) {
		changes := nc.StatusChanged()
		defer nc.RemoveStatusListener(changes)
		ticker := time.NewTicker(lookEvery) // where a change was not told
		defer ticker.Stop()
		for {
			if nc.IsConnected() {
				s.set(placeOf(nc))
				p.align(answers)
			} else {
				s.set(nil)
			}
			select {
			case <-ctx.Done():
				return
			case status := <-changes:
				if status != nats.CONNECTED {
					s.set(nil) // now: while it is being made again it cannot be asked
				}
			case <-ticker.C:
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { follow(requests, &p.requests) })
	both.Go(func() { follow(answers, &p.answers) })
	both.Wait()
}

// align has the connection for answers follow where the two are apart.
func (p *pair) align(answers *nats.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests, at := p.requests.at.Load(), p.answers.at.Load()
	if requests == nil || at == nil || requests.id == at.id {
		return
	}
	if !p.moves.more(time.Now()) {
		return
	}
	p.answers.set(nil) // until it is told where it is
	_ = answers.ForceReconnect()
}

// more takes one move, and reports false where there were too many.
func (m *moves) more(now time.Time) bool {
	if lasted := now.Sub(m.since); lasted > m.within {
		within := movesWithin
		if m.n > maxMoves && lasted <= 2*m.within { // else it was calm
			within = min(2*m.within, movesWithinMost)
		}
		*m = moves{since: now, within: within}
	}
	m.n++
	return m.n <= maxMoves
}
