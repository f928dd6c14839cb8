package client_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// impatient has the connection looked at often.
var impatient = client.Options{Probe: 400 * time.Millisecond, Timeout: 200 * time.Millisecond}

// A network that forgets connections says nothing: neither to the client nor to the broker.
func TestConnectionForgottenByTheNetwork(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, nc, cable := f.connect(impatient)
	o := observe(c)
	ctx := testContext(t)
	s := login(t, c, client.LoginOptions{})
	g, err := c.OpenGateway(ctx, "gw", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, c, "bob")

	before, _ := f.lastLogin()
	opens := f.count("gateway.open")
	cable.Silence()
	f.set("bob", "unheard")
	eventually(t, "bob, over another connection", shows(c, "bob", "unheard"))
	eventually(t, "bound to another connection", func() bool {
		now, _ := f.lastLogin()
		return now.SessionID == s.ID() && now.Connection.ClientID != before.Connection.ClientID
	})
	eventually(t, "the gateway's lease is bound again", func() bool { return f.count("gateway.open") > opens })
	if err := g.Login(ctx, "carol", "s", client.GatewayLogin{}); err != nil {
		t.Errorf("by the gateway: %v", err)
	}
	// A state that lasted for a moment only need not be told.
	if !o.wasBlind(client.Disconnected) && !o.wasBlind(client.Resyncing) || s.Err() != nil || nc.Stats().Reconnects != 1 {
		t.Errorf("states %v, session %v, %d reconnects", o.states, s.Err(), nc.Stats().Reconnects)
	}
}

// The broker answers by itself: that the service is away does not cost the connection.
func TestConnectionStaysWhileTheServiceIsAway(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.SetTTL(time.Second)
	c, nc, _ := f.connect(impatient)
	login(t, c, client.LoginOptions{})
	f.Fail(protocol.OpRenew, clienttest.ErrNoAnswer)
	eventually(t, "renewals without an answer", func() bool { return f.count(protocol.OpRenew) >= 6 })
	f.Leave()
	out := nc.Stats().OutMsgs
	eventually(t, "requests that nobody takes", func() bool { return nc.Stats().OutMsgs >= out+6 })
	if n := nc.Stats().Reconnects; n != 0 {
		t.Errorf("%d reconnects, want none", n)
	}
}

// Who shares the connection with somebody else may not want it replaced.
func TestConnectionProbeSwitchedOff(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.SetTTL(time.Second)
	c, nc, cable := f.connect(client.Options{Probe: -1, Timeout: 50 * time.Millisecond})
	login(t, c, client.LoginOptions{})
	cable.Silence()
	_, err := c.GetUserStatus(testContext(t), []string{"bob"})
	if err == nil || nc.Stats().Reconnects != 0 || !nc.IsConnected() {
		t.Errorf("over a dead connection: %v, %d reconnects", err, nc.Stats().Reconnects)
	}
}

// nats.go gives up after the second refusal unless it is told not to.
func TestConnectionRefusedForAWhile(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var refusals counter
	nc := f.Connect(nats.ReconnectErrHandler(func(*nats.Conn, error) {}), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrAuthorization) {
			refusals.add()
		}
	}))
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := login(t, c, client.LoginOptions{})
	subscribe(t, c, "bob")
	_, logins := f.lastLogin()
	f.Refuse()
	eventually(t, "several refusals", func() bool { return refusals.get() >= 5 })
	f.set("bob", "meanwhile")
	f.Admit()
	eventually(t, "bob", shows(c, "bob", "meanwhile"))
	eventually(t, "logged in again", func() bool { _, n := f.lastLogin(); return n > logins })
	if s.Err() != nil {
		t.Errorf("the session has ended: %v", s.Err())
	}
}

// Without those options it is over, and everybody is told, with the reason.
func TestConnectionGivenUp(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var log lockedBuffer
	nc := f.Connect(nats.MaxReconnects(60), func(o *nats.Options) error { o.IgnoreAuthErrorAbort = false; return nil })
	c, err := client.New(nc, client.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := log.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "MaxReconnects(-1) IgnoreAuthErrorAbort()") {
		t.Errorf("New says %q, want a warning of what is missing", s)
	}
	s := login(t, c, client.LoginOptions{})
	subscribe(t, c, "bob")
	f.Refuse()
	<-s.Done()
	eventually(t, "the watcher is told", func() bool { return c.State().Reason == client.Closed })
	for what, err := range map[string]error{"the session": s.Err(), "the state": c.State().Err} {
		if !errors.Is(err, nats.ErrConnectionClosed) || !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: got %v, want closed and why", what, err)
		}
	}
}

// The error handler that was there is called as before, by however many Clients.
func TestErrorHandlerIsChained(t *testing.T) {
	t.Parallel()
	f := newFakeWith(t, clienttest.Options{DenySubscribe: []string{"secret"}})
	var calls counter
	nc := f.Connect(nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { calls.add() }))
	for range 3 {
		c, err := client.New(nc, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for want := 1; want <= 2; want++ {
		if _, err := nc.SubscribeSync("secret"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "told", func() bool { return calls.get() >= want })
	}
	if n := calls.get(); n != 2 {
		t.Errorf("told %d times of 2 errors", n)
	}
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add()     { c.mu.Lock(); c.n++; c.mu.Unlock() }
func (c *counter) get() int { c.mu.Lock(); defer c.mu.Unlock(); return c.n }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A server in lame duck mode tells nobody of clients that die: leave it, and renew at once.
func TestLameDuckServerIsLeft(t *testing.T) {
	t.Parallel()
	old, other := startTCP(t), startTCP(t)
	broken := make(chan error, 1)
	nc, err := nats.Connect(old.ClientURL(), append(client.ConnectOptions(), nats.DontRandomize(), nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
		broken <- err
	}), func(o *nats.Options) error { o.Servers = []string{old.ClientURL(), other.ClientURL()}; return nil })...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go old.LameDuckShutdown()
	if err := <-broken; err != nil {
		t.Errorf("the connection ended by the server: %v, want by the client", err)
	}
	eventually(t, "the other server", func() bool { return nc.ConnectedServerId() == other.ID() })
}

func TestLameDuckRenewsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	login(t, c, client.LoginOptions{})
	if _, err := c.OpenGateway(testContext(t), "gw", client.GatewayOptions{}); err != nil {
		t.Fatal(err)
	}
	client.LameDuck(nc) // there is no other server
	eventually(t, "a renewal", func() bool { return f.count(protocol.OpRenew) > 0 })
	eventually(t, "a gateway's renewal", func() bool { return f.count("gateway.renew") > 0 })
	if n := nc.Stats().Reconnects; n != 0 {
		t.Errorf("%d reconnects, want none", n)
	}
}

func startTCP(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return srv
}
