package service_test

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// slowRoute forwards TCP connections and holds back what is sent.
type slowRoute struct {
	listener net.Listener
	target   string
	delay    time.Duration
	pumps    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   []net.Conn
}

func startSlowRoute(t *testing.T, target string, delay time.Duration) *slowRoute {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &slowRoute{listener: listener, target: target, delay: delay}
	r.pumps.Go(r.accept)
	t.Cleanup(func() {
		listener.Close()
		r.mu.Lock()
		r.closed = true
		for _, c := range r.open {
			c.Close()
		}
		r.mu.Unlock()
		r.pumps.Wait()
	})
	return r
}

func (r *slowRoute) accept() {
	for {
		from, err := r.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", r.target)
		if err != nil {
			from.Close()
			continue
		}
		r.mu.Lock()
		if r.closed {
			from.Close()
			to.Close()
		}
		r.open = append(r.open, from, to)
		r.mu.Unlock()
		r.pump(from, to)
		r.pump(to, from)
	}
}

// pump copies in order, each piece after the delay.
func (r *slowRoute) pump(from, to net.Conn) {
	type piece struct {
		at   time.Time
		data []byte
	}
	pieces := make(chan piece, 1024)
	r.pumps.Go(func() {
		defer close(pieces)
		for {
			data := make([]byte, 32<<10)
			n, err := from.Read(data)
			if err != nil {
				return
			}
			pieces <- piece{time.Now(), data[:n]}
		}
	})
	r.pumps.Go(func() {
		defer from.Close()
		defer to.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.at.Add(r.delay)))
			if _, err := to.Write(p.data); err != nil {
				for range pieces { // so that the reader ends
				}
				return
			}
		}
	})
}

// startPair starts two servers of one cluster with a slow route between them, and
// returns where clients connect.
func startPair(t *testing.T, delay time.Duration) (urls [2]string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cluster := listener.Addr().String() // free when it is closed
	listener.Close()
	route := startSlowRoute(t, cluster, delay)
	for i := range urls {
		listen, routes := cluster, ""
		if i == 1 {
			listen, routes = "127.0.0.1:-1", fmt.Sprintf("%q", "nats-route://"+route.listener.Addr().String())
		}
		server, err := broker.StartForeign(fmt.Sprintf(`
server_name: s%d
accounts { APP { users: [ { user: a, password: p } ] } }
no_auth_user: a
cluster { name: pair, listen: %q, routes: [ %s ], no_advertise: true }
`, i, listen, routes), "127.0.0.1:0", t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Shutdown)
		urls[i] = server.ClientURL()
	}
	echo, asking := connectTo(t, urls[0]), connectTo(t, urls[1])
	if _, err := echo.Subscribe("echo", func(m *nats.Msg) { m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, waitFor, "the servers to be one cluster", func() bool {
		_, err := asking.Request("echo", nil, time.Second)
		return err == nil
	})
	return urls
}

func connectTo(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(10*time.Millisecond), nats.IgnoreDiscoveredServers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// move makes a connection reconnect to another server.
func move(t *testing.T, nc *nats.Conn, url string) {
	t.Helper()
	was := nc.ConnectedServerId()
	if err := nc.SetServerPool([]string{url}); err != nil {
		t.Fatal(err)
	}
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, waitFor, "the connection to have moved", func() bool {
		id := nc.ConnectedServerId()
		return id != "" && id != was
	})
}

// TestReplies_SlowRoute: the first request of a connection is answered, whichever servers the
// connections for requests and for answers are on. If the answer left by another server than the
// request came by, it would be lost: that server does not know the new inbox yet.
func TestReplies_SlowRoute(t *testing.T) {
	t.Parallel()
	urls := startPair(t, 50*time.Millisecond)
	journal := servicetest.StartNATS(t)
	clients, answers := connectTo(t, urls[0]), connectTo(t, urls[1])
	s := run(t, journal, func(c *service.Config) { c.Clients, c.Answers, c.System = clients, answers, nil })
	awaitHealth(t, s, "")
	firstRequests := func(where string, url string) {
		t.Helper()
		// What the servers know of the service's subscriptions goes over the route too.
		servicetest.Eventually(t, waitFor, "requests to arrive", func() bool {
			_, err := connectTo(t, url).Request("$SRV.PING.presence", nil, time.Second)
			return err == nil
		})
		const all = 15
		lost := 0
		for range all {
			nc := connectTo(t, url)
			if _, err := nc.Request(subjects.Get(), []byte(`{"userIDList":["alice"]}`), 2*time.Second); err != nil {
				lost++
			}
			nc.Close()
		}
		if lost > 0 {
			t.Errorf("%s: %d of %d first requests got no answer", where, lost, all)
		}
	}
	firstRequests("requests by one server, answers by the other", urls[0])
	move(t, answers, urls[0])
	awaitHealth(t, s, "")
	firstRequests("both by one server", urls[0])
	move(t, clients, urls[1])
	awaitHealth(t, s, "")
	firstRequests("after a move of the connection for requests", urls[1])
}
