package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// startServers starts a cluster of somebody else's in this process, without JetStream.
func startServers(t *testing.T, n int) (servers []*broker.Broker, urls string) {
	t.Helper()
	var routes, list []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // so that all differ
		routes = append(routes, "nats-route://"+l.Addr().String())
		l.Close()
	}
	for i, route := range routes {
		s, err := broker.StartForeign(fmt.Sprintf(`
server_name: s%d
accounts { APP { users: [ { user: a, password: p } ] } }
no_auth_user: a
cluster { name: pair, listen: %q, routes: [ "%s" ] }
`, i, strings.TrimPrefix(route, "nats-route://"), strings.Join(routes, `", "`)), "127.0.0.1:0", t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Shutdown)
		servers, list = append(servers, s), append(list, s.ClientURL())
	}
	return servers, strings.Join(list, ",")
}

func together(c *connections) bool {
	id := c.clients.ConnectedServerId()
	return id != "" && id == c.answers.ConnectedServerId()
}

// TestPair: the connections for requests and for answers are on one server of a
// cluster from the start, and again after either is lost, and after their server is.
func TestPair(t *testing.T) {
	t.Parallel()
	servers, urls := startServers(t, 3)
	cfg := config{natsURL: urls}
	var c *connections
	for range 10 {
		c = &connections{links: newLinks()}
		defer c.close()
		if err := c.enterClients(cfg, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if !together(c) {
			t.Errorf("at the start: requests by %s, answers by %s", c.clients.ConnectedServerName(), c.answers.ConnectedServerName())
		}
	}
	apart := func(what string, lose func()) {
		t.Helper()
		before := c.clients.Stats().Reconnects + c.answers.Stats().Reconnects
		lose()
		servicetest.Eventually(t, waitFor, "the two to be together after "+what, func() bool {
			return together(c) && c.clients.Stats().Reconnects+c.answers.Stats().Reconnects > before
		})
	}
	for range 3 {
		apart("the connection for requests was lost", func() { c.clients.ForceReconnect() })
		apart("the connection for answers was lost", func() { c.answers.ForceReconnect() })
	}
	apart("their server was stopped", func() {
		for _, s := range servers {
			if s.Name() == c.clients.ConnectedServerName() {
				s.Shutdown()
				return
			}
		}
	})
}

// TestPair_Choice: each connection prefers the server of the other, and does not insist
// on one that does not take it.
func TestPair_Choice(t *testing.T) {
	t.Parallel()
	var pool []nats.Server
	for _, host := range []string{"a:4222", "b:4222"} {
		pool = append(pool, nats.Server{URL: &url.URL{Scheme: "nats", Host: host}})
	}
	choose := func(opts []nats.Option) string {
		var o nats.Options
		for _, opt := range opts {
			if err := opt(&o); err != nil {
				t.Fatal(err)
			}
		}
		s, wait := o.ReconnectToServerCB(pool, nats.ServerInfo{})
		switch {
		case s == nil:
			return "any"
		case wait > 0:
			return s.URL.Host + " in a moment"
		}
		return s.URL.Host
	}
	a, elsewhere := &place{host: "a:4222"}, &place{host: "c:4222"}
	for what, x := range map[string]struct {
		requests, answers *place // where they are
		last              *place // where answers were
		of                func(*pair) []nats.Option
		want              string
	}{
		"requests follow":                   {nil, a, nil, (*pair).requestOptions, "a:4222, a:4222 in a moment, any, a:4222 in a moment"},
		"requests alone":                    {nil, nil, nil, (*pair).requestOptions, "any, any, any, any"},
		"answers follow":                    {a, nil, nil, (*pair).answerOptions, "a:4222, a:4222 in a moment, any, a:4222 in a moment"},
		"answers wait where they were":      {nil, nil, a, (*pair).answerOptions, "a:4222 in a moment, a:4222 in a moment, a:4222 in a moment, a:4222 in a moment, any"},
		"answers, of a server not known":    {elsewhere, nil, a, (*pair).answerOptions, "any, any"},
		"answers that never were connected": {nil, nil, nil, (*pair).answerOptions, "any, any"},
	} {
		p := &pair{}
		p.requests.at.Store(x.requests)
		p.answers.at.Store(x.answers)
		p.answers.last.Store(x.last)
		opts := x.of(p)
		var got []string
		for range strings.Count(x.want, ",") + 1 {
			got = append(got, choose(opts))
		}
		if text := strings.Join(got, ", "); text != x.want {
			t.Errorf("%s: got %s, want %s", what, text, x.want)
		}
	}
}

// TestPair_Urls: the server of the connection for requests is tried first, however it
// was written.
func TestPair_Urls(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ at, urls, want string }{
		{"b:4222", "nats://u:p@a:4222,nats://u:p@b:4222", "nats://u:p@b:4222,nats://u:p@a:4222"},
		{"b:4222", "a,b,c", "b,a,c"},
		{"b:4222", "nats://a, tls://b", " tls://b,nats://a"},
		{"d:4222", "a,b", "a,b"},
		{"[::1]:4222", "a,nats://[::1]", "nats://[::1],a"},
	} {
		p := &pair{}
		p.requests.set(&place{host: x.at})
		if got := p.first(x.urls); got != x.want {
			t.Errorf("%s of %s: got %q, want %q", x.at, x.urls, got, x.want)
		}
	}
}

// TestPair_Dial: where a name stands for several servers, the address that the other
// connection got is dialed.
func TestPair_Dial(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := &pair{}
	p.requests.set(&place{host: "nats.invalid:4222", address: l.Addr().String()})
	begun := time.Now()
	c, err := pairDialer{p}.Dial("tcp", "nats.invalid:4222")
	if err != nil {
		t.Fatalf("Dial: %v after %v", err, time.Since(begun))
	}
	c.Close()
	if c, err := (pairDialer{p}).Dial("tcp", "other.invalid:4222"); err == nil {
		c.Close()
		t.Error("another name was dialed at that address too")
	}
}

// TestPair_NeverTogether: where the connection for answers cannot get to the server that is
// wanted, it is made to follow more and more seldom. After a calm time it is again at once.
func TestPair_NeverTogether(t *testing.T) {
	t.Parallel()
	var m moves
	now, count := time.Now(), 0
	apart := func(d time.Duration) (followed int) {
		for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
			if m.more(now) {
				followed++
			}
		}
		return followed
	}
	if count = apart(30 * time.Second); count != maxMoves {
		t.Errorf("followed %d times in 30 s, want %d", count, maxMoves)
	}
	if apart(2 * time.Hour); apart(24*time.Hour) > 25*maxMoves {
		t.Error("it goes on to follow more than a few times an hour")
	}
	now = now.Add(2*movesWithinMost + time.Second)
	if apart(time.Second); m.within != movesWithin {
		t.Errorf("after a calm time they are counted within %v, want %v", m.within, movesWithin)
	}
}
