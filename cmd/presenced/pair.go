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

	"presence/cmd/internal/natsurl"

	"github.com/nats-io/nats.go"
)

// pair keeps presenced's two connections in the clients' account on the same server of a
// cluster: the one for requests, and the one for answers and events. An answer can be lost
// if it leaves by another server than its request came by. The service sends none there,
// and the connection for answers would be of no use.
//
// The connection for answers is made to the server of the other. When one is lost, it
// tries to come back to the server of the other. If that fails it takes any server, and
// the connection for answers follows.
type pair struct {
	requests, answers side

	mu    sync.Mutex // guards the rest
	moves moves
}

// moves count how often the connection for answers was made to follow, since a moment and
// for a time.
type moves struct {
	since  time.Time
	within time.Duration
	n      int
}

const (
	// pairWait is the pause before another attempt at the wanted server.
	pairWait = 250 * time.Millisecond
	// ownTries is how often the connection for answers tries its old server. Meanwhile
	// the connection for requests may be made again.
	ownTries = 4
	// maxMoves bounds how often the connection for answers is made to follow in
	// movesWithin. It may never get to the wanted server: behind a load balancer, or if
	// that server takes no more connections. While it moves no requests are taken. So
	// each time that the bound was reached the time doubles, up to movesWithinMost.
	maxMoves        = 5
	movesWithin     = time.Minute
	movesWithinMost = time.Hour
)

// side is one of the two connections. at is its server, nil while it is lost; last is the
// server that it had last.
type side struct {
	at, last atomic.Pointer[place]
	tries    atomic.Int64 // attempts since it was lost
}

// place is a server: its host in the pool of nats.go, its address, and its ID.
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

// requestOptions are the options of the connection for requests, which is made first.
func (p *pair) requestOptions() []nats.Option {
	return []nats.Option{nats.ReconnectToServer(func(pool []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
		n := p.requests.tries.Add(1) - 1
		return p.toOther(pool, p.answers.at.Load(), n)
	})}
}

// answerOptions are the options of the connection for answers. nats.go calls the chooser
// with the connection locked: it must not call a method of either connection.
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
		// A name can stand for several servers: pairDialer dials the one of the other.
		nats.SkipHostLookup(),
		nats.SetCustomDialer(pairDialer{p}),
	}
}

// toOther chooses the server of the other connection. At each third attempt it leaves the
// choice to nats.go, because the wanted server may take no other connection.
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

// first puts the URL of the server of the connection for requests before the other URLs.
func (p *pair) first(urls string) string {
	at := p.requests.at.Load()
	if at == nil {
		return urls
	}
	list := strings.Split(urls, ",")
	i := slices.IndexFunc(list, func(text string) bool {
		u, err := natsurl.Parse(text)
		return err == nil && natsurl.Host(u[0]) == at.host
	})
	if i > 0 {
		list[0], list[i] = list[i], list[0]
	}
	return strings.Join(list, ",")
}

// pairDialer dials the address of the other connection, if it is asked for the name by
// which that connection was made.
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

// run keeps track of both connections until ctx is done.
func (p *pair) run(ctx context.Context, requests, answers *nats.Conn) {
	follow := func(nc *nats.Conn, s *side) {
		changes := nc.StatusChanged()
		defer nc.RemoveStatusListener(changes)
		ticker := time.NewTicker(lookEvery) // for a change that was not reported
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
					s.set(nil) // at once: while it is being made again it cannot be asked
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

// align makes the connection for answers follow if the two are on different servers.
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
	p.answers.set(nil) // until follow sees its new server
	_ = answers.ForceReconnect()
}

// more counts one more move, and reports whether it is allowed.
func (m *moves) more(now time.Time) bool {
	if lasted := now.Sub(m.since); lasted > m.within {
		within := movesWithin
		if m.n > maxMoves && lasted <= 2*m.within { // otherwise it was calm since
			within = min(2*m.within, movesWithinMost)
		}
		*m = moves{since: now, within: within}
	}
	m.n++
	return m.n <= maxMoves
}
