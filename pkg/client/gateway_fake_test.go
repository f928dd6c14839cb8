package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// fakeLease is a fake whose answers to a gateway a test says: what a real
// service does only on a bad day.
type fakeLease struct{ *fake }

func newFakeLease(t *testing.T) *fakeLease {
	t.Helper()
	return &fakeLease{newFake(t)}
}

// answers makes applies be answered so, from the next one on: the last for ever.
// nil is as the service would.
func (f *fakeLease) answers(list ...error) {
	var mu sync.Mutex
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		if r.Op != "gateway.apply" {
			return next()
		}
		mu.Lock()
		err := list[0]
		if len(list) > 1 {
			list = list[1:]
		}
		mu.Unlock()
		if err != nil {
			return nil, err
		}
		return next()
	})
}

// logged are the applies that came, answered or not: "1 login:alice" and so on.
func (f *fakeLease) logged() (log []string) {
	for _, r := range asked[protocol.ApplyRequest](f.fake, "gateway.apply") {
		line := fmt.Sprint(r.Seq)
		for _, o := range r.Ops {
			line += " " + o.Op + ":" + o.UserID
		}
		log = append(log, line)
	}
	return log
}

func (f *fakeLease) opens() []protocol.OpenRequest {
	return asked[protocol.OpenRequest](f.fake, "gateway.open")
}

func (f *fakeLease) open(opts client.GatewayOptions) *client.Gateway {
	f.t.Helper()
	c, _, _ := f.connect(client.Options{Timeout: time.Second})
	return openGateway(f.t, c, "gw1", opts)
}

// openNarrow opens a gateway that may have one apply under way, as with an earlier version of the
// service.
func (f *fakeLease) openNarrow(c *client.Client, opts client.GatewayOptions) *client.Gateway {
	f.t.Helper()
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, err := next()
		if lease, ok := reply.(protocol.LeaseReply); ok {
			lease.Window = 0
			reply = lease
		}
		return reply, err
	})
	return openGateway(f.t, c, "gw1", opts)
}

func (f *fakeLease) narrow(opts client.GatewayOptions) *client.Gateway {
	f.t.Helper()
	c, _, _ := f.connect(client.Options{Timeout: time.Second})
	return f.openNarrow(c, opts)
}

func (f *fakeLease) wantLog(want ...string) {
	f.t.Helper()
	if got := f.logged(); !slices.Equal(got, want) {
		f.t.Errorf("applies: got %q, want %q", got, want)
	}
}

// The same request, with the same seq, is sent until it is answered.
func TestGatewayRetriesUnchanged(t *testing.T) {
	f := newFakeLease(t)
	g := f.open(client.GatewayOptions{})
	f.answers(clienttest.ErrNoAnswer, protocol.ErrUnavailable, protocol.ErrOverloaded, protocol.ErrOutcomeUnknown, nil)
	must(t, g.SetStatus(testContext(t), "alice", "hello"))
	must(t, g.Login(testContext(t), "alice", "s1", client.GatewayLogin{}))
	f.wantLog("1 set:alice", "1 set:alice", "1 set:alice", "1 set:alice", "1 set:alice", "2 login:alice")
}

// What the lost lease may have done is repeated on the next one, but for a text.
func TestGatewayRepeatsOnTheNextLease(t *testing.T) {
	f := newFakeLease(t)
	g := f.open(client.GatewayOptions{})
	ctx := testContext(t)
	must(t, g.Login(ctx, "alice", "s1", client.GatewayLogin{}))
	f.answers(protocol.ErrLeaseNotFound, nil)
	must(t, g.SetStatus(ctx, "alice", "surely not done"))

	f.answers(clienttest.ErrNoAnswer, protocol.ErrLeaseNotFound, nil)
	if err := g.SetStatus(ctx, "alice", "perhaps done"); !errors.Is(err, protocol.ErrOutcomeUnknown) {
		t.Errorf("SetStatus: got %v, want %v", err, protocol.ErrOutcomeUnknown)
	}
	eventually(t, "alice is logged in again", func() bool { return len(f.logged()) == 7 })
	f.answers(clienttest.ErrNoAnswer, protocol.ErrLeaseNotFound, nil)
	must(t, g.Login(ctx, "bob", "s1", client.GatewayLogin{}))
	f.answers(clienttest.ErrNoAnswer, protocol.ErrLeaseNotFound, nil)
	must(t, g.Logout(ctx, "bob", "s1"))
	f.wantLog("1 login:alice",
		"2 set:alice", "1 login:alice", "2 set:alice",
		"3 set:alice", "3 set:alice", "1 login:alice",
		"2 login:bob", "2 login:bob", "1 login:alice", "2 login:bob",
		"3 logout:bob", "3 logout:bob", "1 login:alice", "2 login:bob logout:bob")
	processes := map[string]bool{}
	for _, o := range f.opens() {
		processes[o.Process] = true
	}
	if len(processes) != 5 {
		t.Errorf("%d leases had %d processes, want one each", 5, len(processes))
	}
}

// So it is with the first request of a lease, after which the next lease cannot be
// told from the lost one by its seq.
func TestGatewayLosesTheLeaseWithItsFirstRequest(t *testing.T) {
	f := newFakeLease(t)
	c, _, cable := f.connect(client.Options{})
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, err := next()
		if r.Op == "gateway.apply" {
			f.Intercept(nil)
			cable.Cut()
		}
		return reply, err
	})
	set := make(chan error, 1)
	go func() { set <- g.SetStatus(testContext(t), "alice", "perhaps done") }()
	eventually(t, "done", func() bool { return f.Status("alice").CustomStatus == "perhaps done" })
	eventually(t, "cut off", func() bool { return !c.State().Live })
	body, err := protocol.Marshal(protocol.CloseRequest{Process: f.opens()[0].Process})
	must(t, err)
	_, err = f.Connect().Request("presence.v1.gateway.gw1.close", body, 10*time.Second)
	must(t, err)
	f.set("alice", "set since")
	cable.Mend()
	if err := <-set; !errors.Is(err, protocol.ErrOutcomeUnknown) {
		t.Errorf("SetStatus: got %v, want %v", err, protocol.ErrOutcomeUnknown)
	}
	if got := f.Status("alice").CustomStatus; got != "set since" {
		t.Errorf("the text is %q, want that of somebody else", got)
	}
}

// An answer that cannot be goes to the callers, and everyone to another lease.
func TestGatewayStartsOverAfterADefect(t *testing.T) {
	for _, defect := range []*protocol.Error{protocol.ErrOutOfOrder, protocol.ErrInternal, protocol.ErrRequestTooLarge} {
		f := newFakeLease(t)
		g := f.open(client.GatewayOptions{})
		ctx := testContext(t)
		must(t, g.Login(ctx, "alice", "s1", client.GatewayLogin{}))
		f.answers(defect, nil)
		if err := g.Login(ctx, "bob", "s1", client.GatewayLogin{}); !errors.Is(err, defect) || errors.Is(err, protocol.ErrOutcomeUnknown) {
			t.Errorf("Login: got %v, want %v", err, defect)
		}
		eventually(t, "the first lease is closed", func() bool { return f.count("gateway.close") == 1 })
		must(t, g.SetStatus(ctx, "alice", "hello"))
		f.wantLog("1 login:alice", "2 login:bob", "1 login:alice", "2 set:alice")
		if closed := asked[protocol.CloseRequest](f.fake, "gateway.close"); closed[0].Process != f.opens()[0].Process {
			t.Errorf("closed %v, want the first of %v", closed, f.opens())
		}
		if g.Sessions() != 1 {
			t.Errorf("%d sessions, want 1", g.Sessions())
		}
	}
}

// A caller whose context ends leaves a change that is not sent undone, if it is
// one that may be; everything else is done.
func TestGatewayContextEndsWhileWaiting(t *testing.T) {
	f := newFakeLease(t)
	g := f.narrow(client.GatewayOptions{})
	must(t, g.Login(testContext(t), "alice", "s1", client.GatewayLogin{}))
	f.answers(clienttest.ErrNoAnswer)
	ctx, cancel := context.WithCancel(testContext(t))
	sent := make(chan error)
	go func() { sent <- g.Login(ctx, "bob", "s1", client.GatewayLogin{}) }()
	eventually(t, "bob's login is sent", func() bool { return len(f.logged()) > 1 })

	var calls sync.WaitGroup
	for _, tt := range []struct {
		what    string
		unknown bool // whether it will be done
		call    func() error
	}{
		{"Login", false, func() error { return g.Login(ctx, "carol", "s1", client.GatewayLogin{}) }},
		{"SetStatus", false, func() error { return g.SetStatus(ctx, "carol", "hello") }},
		{"SetIdle", true, func() error { return g.SetIdle(ctx, "alice", "s1", true) }},
		{"Logout", true, func() error { return g.Logout(ctx, "alice", "s1") }},
		{"Lost", true, func() error { return g.Lost(ctx, "dave", "s1") }},
	} {
		waiting := client.Waiting(g)
		calls.Go(func() {
			if err := tt.call(); !errors.Is(err, context.Canceled) || errors.Is(err, protocol.ErrOutcomeUnknown) != tt.unknown {
				t.Errorf("%s: got %v; may be done: want %v", tt.what, err, tt.unknown)
			}
		})
		eventually(t, tt.what+" waits", func() bool { return client.Waiting(g) > waiting })
	}
	cancel()
	calls.Wait()
	if err := <-sent; !errors.Is(err, context.Canceled) || !errors.Is(err, protocol.ErrOutcomeUnknown) {
		t.Errorf("Login that was sent: got %v", err)
	}
	f.answers(nil)
	eventually(t, "the rest is done", func() bool {
		log := f.logged()
		return log[len(log)-1] == "3 idle:alice logout:alice lost:dave"
	})
	eventually(t, "bob alone is held", func() bool { return g.Sessions() == 1 })
	if err := g.Login(ctx, "erin", "s1", client.GatewayLogin{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: got %v", err)
	}
}

func TestGatewayIsBounded(t *testing.T) {
	f := newFakeLease(t)
	g := f.narrow(client.GatewayOptions{MaxWaiting: 3})
	f.answers(clienttest.ErrNoAnswer)
	results := make(chan error, 10)
	call := func() { results <- g.Lost(testContext(t), "alice", "s1") }
	go call()
	eventually(t, "one is sent", func() bool { return len(f.logged()) == 1 })
	for range 3 {
		go call()
	}
	eventually(t, "three wait", func() bool { return client.Waiting(g) == 3 })
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	err := g.Lost(ctx, "bob", "s1")
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, protocol.ErrOutcomeUnknown) {
		t.Errorf("without room: got %v, want that nothing was done", err)
	}
	go call() // waits for room
	f.answers(nil)
	for range 5 {
		must(t, <-results)
	}
	if slices.ContainsFunc(f.logged(), func(s string) bool { return strings.Contains(s, "lost:bob") }) {
		t.Error("what found no room was done")
	}
}

func TestGatewayRenews(t *testing.T) {
	f := newFakeLease(t)
	f.SetTTL(time.Second)
	g := f.open(client.GatewayOptions{TTL: 5 * time.Second, Unbound: true})
	renewals := func() int { return f.count("gateway.renew") }
	eventually(t, "two renewals", func() bool { return renewals() >= 2 })
	// While they fail, changes are made all the same.
	f.Fail("gateway.renew", clienttest.ErrNoAnswer)
	before := renewals()
	eventually(t, "two that fail", func() bool { return renewals() >= before+2 })
	must(t, g.Login(testContext(t), "alice", "s1", client.GatewayLogin{}))
	f.Fail("gateway.renew", protocol.ErrLeaseNotFound)
	eventually(t, "a login", func() bool { return slices.Contains(f.logged()[1:], "1 login:alice") })
	if o := f.opens()[0]; o.Connection != nil || o.TTLSeconds != 5 {
		t.Errorf("opened with %+v", o)
	}
}

// A service that does not answer, or a broker that is away, holds nobody up
// for longer than the context says.
func TestGatewayCloseIsBounded(t *testing.T) {
	for _, name := range []string{"silent service", "no connection"} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLease(t)
			c, _, cable := f.connect(client.Options{Timeout: 100 * time.Millisecond})
			g := f.openNarrow(c, client.GatewayOptions{})
			f.answers(clienttest.ErrNoAnswer)
			results := make(chan error, 2)
			go func() { results <- g.Login(testContext(t), "alice", "s1", client.GatewayLogin{}) }()
			eventually(t, "alice's login is sent", func() bool { return len(f.logged()) > 0 })
			go func() { results <- g.Login(testContext(t), "bob", "s1", client.GatewayLogin{}) }()
			eventually(t, "bob's waits", func() bool { return client.Waiting(g) == 1 })
			if name == "no connection" {
				cable.Cut()
			}
			ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
			defer cancel()
			if err := g.Close(ctx, client.LogoutSessions); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Close: %v, want that the deadline passed", err)
			}
			unknown := 0
			for range 2 {
				err := <-results
				if !errors.Is(err, client.ErrGatewayClosed) {
					t.Errorf("Login: %v, want that the gateway is closed", err)
				}
				if errors.Is(err, protocol.ErrOutcomeUnknown) {
					unknown++
				}
			}
			if unknown != 1 {
				t.Errorf("%d logins may have been done, want the one that was sent", unknown)
			}
			<-g.Done()
			cable.Mend()
		})
	}
}

func TestClosedConnectionEndsGateway(t *testing.T) {
	f := newFakeLease(t)
	c, nc, _ := f.connect(client.Options{})
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	nc.Close()
	<-g.Done()
	if err := g.Login(testContext(t), "alice", "s1", client.GatewayLogin{}); !errors.Is(err, nats.ErrConnectionClosed) || !errors.Is(g.Err(), nats.ErrConnectionClosed) {
		t.Errorf("Login: %v; ended with %v", err, g.Err())
	}
	must(t, g.Close(testContext(t), client.LoseSessions))
}
