package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// The tests in this file run against the real service.

func withGrace(d time.Duration) servicetest.Option {
	return servicetest.WithService(func(c *service.Config) { c.Grace = d })
}

// dial returns a client on a connection of its own, by way of a cable.
func dial(t testing.TB, kit *servicetest.Kit, more ...nats.Option) (*client.Client, *cable) {
	t.Helper()
	cb := &cable{}
	nc := kit.Connect(t, append([]nats.Option{nats.SetCustomDialer(cb)}, more...)...)
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, cb
}

func openGateway(t testing.TB, c *client.Client, id string, opts client.GatewayOptions) *client.Gateway {
	t.Helper()
	g, err := c.OpenGateway(t.Context(), id, opts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// events are the public events, in order.
type events struct {
	t  *testing.T
	ch chan *nats.Msg
}

func watchEvents(t *testing.T, kit *servicetest.Kit) *events {
	t.Helper()
	e := &events{t: t, ch: make(chan *nats.Msg, 1<<16)}
	nc := kit.Connect(t)
	_, err := nc.ChanSubscribe(protocol.NewSubjects("").AnyEvent(), e.ch)
	must(t, err)
	must(t, nc.Flush())
	return e
}

// until returns the events up to the first of that user, or of anybody, in that
// status, as "alice ONLINE login".
func (e *events) until(userID string, status protocol.StatusType) (list []string) {
	e.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case m := <-e.ch:
			var ev protocol.Event
			must(e.t, protocol.Unmarshal(m.Data, &ev))
			list = append(list, fmt.Sprint(ev.UserID, " ", ev.StatusType, " ", ev.Cause))
			if (userID == "" || ev.UserID == userID) && ev.StatusType == status {
				return list
			}
		case <-deadline:
			e.t.Fatalf("%s did not become %v; events: %v", userID, status, list)
		}
	}
}

// now returns the events of what is done already: all that come before one of
// a user made for this.
func (e *events) now(g *client.Gateway) []string {
	e.t.Helper()
	mark := fmt.Sprint("mark", marks.Add(1))
	must(e.t, g.Login(e.t.Context(), mark, "s", client.GatewayLogin{}))
	list := e.until(mark, protocol.Online)
	return list[:len(list)-1]
}

var marks atomic.Int64

func wantEvents(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
}

// statuses returns what users are, freshly, as "alice ONLINE text".
func statuses(t testing.TB, c *client.Client, ids ...string) (list []string) {
	t.Helper()
	r, err := c.GetUserStatus(t.Context(), ids, client.Fresh())
	must(t, err)
	for _, s := range r.SuccessUserList {
		list = append(list, fmt.Sprint(s.UserID, " ", s.StatusType, " ", s.CustomStatus))
	}
	return list
}

func wantStatuses(t *testing.T, c *client.Client, want ...string) {
	t.Helper()
	var ids []string
	for _, w := range want {
		id, _, _ := strings.Cut(w, " ")
		ids = append(ids, id)
	}
	if got := statuses(t, c, ids...); !slices.Equal(got, want) {
		t.Errorf("statuses: got %q, want %q", got, want)
	}
}

// requests hears a gateway's requests besides the service, which only a server
// of StartOverNATS permits.
func requests(t *testing.T, kit *servicetest.Kit, gateway, op string) (heard <-chan *nats.Msg) {
	t.Helper()
	ch := make(chan *nats.Msg, 1<<16)
	nc := kit.Connect(t)
	subject, err := protocol.NewSubjects("").Gateway(gateway, op)
	must(t, err)
	_, err = nc.ChanSubscribe(subject, ch)
	must(t, err)
	must(t, nc.Flush())
	return ch
}

// endLease closes the lease that a gateway opened last, behind its back.
func endLease(t *testing.T, kit *servicetest.Kit, gateway string, opens <-chan *nats.Msg) {
	t.Helper()
	var open protocol.OpenRequest
	must(t, protocol.Unmarshal(next(t, opens).Data, &open))
	subject, err := protocol.NewSubjects("").Gateway(gateway, protocol.OpClose)
	must(t, err)
	body, err := protocol.Marshal(protocol.CloseRequest{Process: open.Process})
	must(t, err)
	m, err := kit.Connect(t).Request(subject, body, 20*time.Second)
	if err != nil || m.Header.Get(protocol.ErrorHeader) != "" {
		t.Fatalf("closing the lease: %v %s", err, m.Data)
	}
}

func next(t *testing.T, ch <-chan *nats.Msg) *nats.Msg {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message came")
		return nil
	}
}

func TestGateway(t *testing.T) {
	servicetest.CheckLeaks(t)
	kit := servicetest.Start(t)
	c, _ := dial(t, kit)
	ctx := testContext(t)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})

	must(t, g.Login(ctx, "alice", "s1", client.GatewayLogin{Device: "pixel-8", Platform: "android", Idle: true}))
	must(t, g.Login(ctx, "bob", "s1", client.GatewayLogin{}))
	must(t, g.Login(ctx, "carol", "s1", client.GatewayLogin{}))
	must(t, g.SetStatus(ctx, "alice", "hello \"you\"", client.ExpiresIn(time.Hour), client.IfSession("s1")))
	must(t, g.SetIdle(ctx, "alice", "s1", false))
	own, err := c.OwnStatus(ctx, "alice")
	must(t, err)
	if s := own.Sessions[0]; s.Gateway != "gw1" || s.Device != "pixel-8" || s.Platform != "android" || s.Idle || own.Status.CustomStatusExpiresAt == 0 {
		t.Errorf("alice: %+v", own)
	}
	must(t, g.Logout(ctx, "bob", "s1"))
	must(t, g.Lost(ctx, "carol", "s1"))
	wantStatuses(t, c, `alice ONLINE hello "you"`, "bob UNLOGINED ", "carol OFFLINE ")
	if g.Sessions() != 1 || g.ID() != "gw1" || g.Err() != nil {
		t.Errorf("%d sessions of %q, ended with %v", g.Sessions(), g.ID(), g.Err())
	}

	// What is not there is logged out, and lost; anything else says so.
	must(t, g.Logout(ctx, "bob", "s1"))
	must(t, g.Lost(ctx, "nobody", "s1"))
	for _, tt := range []struct {
		what string
		got  error
		want error
	}{
		{"SetIdle of a session that is not there", g.SetIdle(ctx, "bob", "s1", true), protocol.ErrSessionNotFound},
		{"SetStatus if there is another revision", g.SetStatus(ctx, "alice", "x", client.IfRevision(1)), protocol.ErrRevisionConflict},
		{"SetStatus if there is another session", g.SetStatus(ctx, "alice", "x", client.IfSession("s2")), protocol.ErrSessionNotFound},
		{"SetStatus, long", g.SetStatus(ctx, "alice", strings.Repeat("x", 5000)), protocol.ErrCustomStatusTooLong},
		{"SetStatus, too long for this service", g.SetStatus(ctx, "alice", strings.Repeat("x", 513)), protocol.ErrCustomStatusTooLong},
		{"Login without a user", g.Login(ctx, "", "s1", client.GatewayLogin{}), protocol.ErrInvalidUserID},
		{"Login with a bad platform", g.Login(ctx, "bob", "s1", client.GatewayLogin{Platform: "Win"}), protocol.ErrInvalidRequest},
		{"Login without a session", g.Login(ctx, "bob", "", client.GatewayLogin{}), protocol.ErrInvalidRequest},
		{"Logout of a bad session", g.Logout(ctx, "bob", "a.b"), protocol.ErrInvalidRequest},
	} {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.what, tt.got, tt.want)
		}
	}
	if _, err := c.OpenGateway(ctx, "a.b", client.GatewayOptions{}); !errors.Is(err, protocol.ErrInvalidRequest) {
		t.Errorf("a bad ID: %v", err)
	}
	if _, err := c.OpenGateway(ctx, "gw1", client.GatewayOptions{TTL: time.Second}); !errors.Is(err, protocol.ErrInvalidRequest) {
		t.Errorf("a short TTL: %v", err)
	}

	for range 2 {
		must(t, g.Close(ctx, client.LoseSessions))
	}
	<-g.Done()
	if err := g.Login(ctx, "alice", "s1", client.GatewayLogin{}); !errors.Is(err, client.ErrGatewayClosed) || !errors.Is(g.Err(), client.ErrGatewayClosed) {
		t.Errorf("Login once closed: %v; ended with %v", err, g.Err())
	}
	wantStatuses(t, c, "alice OFFLINE ")
	kit.Stop(t)
}

// What many goroutines call at the same time travels together, and each gets
// the answer to its own.
func TestGatewayPacks(t *testing.T) {
	const callers, rounds = 200, 20
	kit := servicetest.StartOverNATS(t)
	c, _ := dial(t, kit)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	heard := requests(t, kit, "gw1", protocol.OpApply)
	ctx := testContext(t)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			user := fmt.Sprint("user", i)
			for round := range rounds {
				session := fmt.Sprint("s", round)
				if err := g.Login(ctx, user, session, client.GatewayLogin{}); err != nil {
					t.Errorf("Login: %v", err)
				}
				if err := g.SetStatus(ctx, user, session, client.IfSession(session)); err != nil {
					t.Errorf("SetStatus: %v", err)
				}
				if err := g.SetIdle(ctx, user, "other", true); !errors.Is(err, protocol.ErrSessionNotFound) {
					t.Errorf("SetIdle of another session: %v", err)
				}
				if round == rounds-1 && i%2 == 0 {
					continue
				}
				if err := g.Logout(ctx, user, session); err != nil {
					t.Errorf("Logout: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if g.Sessions() != callers/2 {
		t.Errorf("%d sessions, want %d", g.Sessions(), callers/2)
	}
	wantStatuses(t, c, "user0 ONLINE s19", "user1 UNLOGINED ", "user198 ONLINE s19", "user199 UNLOGINED ")

	ops, seq := 0, uint64(0)
	for ops < callers*(4*rounds)-callers/2 {
		var apply protocol.ApplyRequest
		must(t, protocol.Unmarshal(next(t, heard).Data, &apply))
		if apply.Seq != seq+1 || len(apply.Ops) > protocol.MaxOpsPerApply {
			t.Fatalf("request %d of %d ops after %d", apply.Seq, len(apply.Ops), seq)
		}
		ops, seq = ops+len(apply.Ops), apply.Seq
	}
	if t.Logf("%d ops in %d requests", ops, seq); ops/int(seq) < callers/4 {
		t.Errorf("%d ops took %d requests", ops, seq)
	}
}

// Long texts do not make a request larger than the service takes.
func TestGatewayBoundsRequests(t *testing.T) {
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Limits.CustomStatusBytes = 4096 }))
	c, _ := dial(t, kit)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	ctx := testContext(t)
	text := strings.Repeat(`"`, 4096)
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			if err := g.SetStatus(ctx, fmt.Sprint("user", i), text); err != nil {
				t.Errorf("SetStatus: %v", err)
			}
		})
	}
	wg.Wait()
}

// A request that was done and whose answer was lost is not done again.
func TestGatewayRepeatsAfterALostAnswer(t *testing.T) {
	kit := servicetest.Start(t)
	dialer := &deafDialer{}
	c, _ := dial(t, kit, nats.SetCustomDialer(dialer))
	e := watchEvents(t, kit)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	ctx := testContext(t)
	must(t, g.Login(ctx, "alice", "s1", client.GatewayLogin{}))
	for _, text := range []string{"one", "two"} {
		own, err := c.OwnStatus(ctx, "alice")
		must(t, err)
		dialer.deafTo.Store(`{"applied"`)
		// A second time it would be a conflict.
		if err := g.SetStatus(ctx, "alice", text, client.IfRevision(own.Status.Revision)); err != nil {
			t.Errorf("SetStatus: %v", err)
		}
		if dialer.deafTo.Load() != "" {
			t.Error("no answer was lost")
		}
	}
	wantEvents(t, e.now(g), "alice ONLINE login", "alice ONLINE set", "alice ONLINE set")
	wantStatuses(t, c, "alice ONLINE two")
}

// cable is a dialer whose connections can be cut.
type cable struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (c *cable) Dial(network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := net.Dial(network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// deafDialer makes connections that break, once, when they are about to read
// the text deafTo.
type deafDialer struct{ deafTo atomic.Value }

type deafConn struct {
	net.Conn
	d *deafDialer
}

func (d *deafDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return &deafConn{conn, d}, err
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if text, _ := c.d.deafTo.Load().(string); text != "" && bytes.Contains(b[:n], []byte(text)) {
		c.d.deafTo.Store("")
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// A reconnect within the grace is seen by nobody, and changes called meanwhile
// are done.
func TestGatewaySurvivesAReconnect(t *testing.T) {
	kit := servicetest.Start(t, withGrace(2*time.Second))
	c, cable := dial(t, kit)
	canary, canaryCable := dial(t, kit)
	e := watchEvents(t, kit)
	ctx := testContext(t)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	for i := range 10 {
		must(t, g.Login(ctx, fmt.Sprint("user", i), "s1", client.GatewayLogin{}))
	}
	must(t, openGateway(t, canary, "gw2", client.GatewayOptions{}).Login(ctx, "canary", "s1", client.GatewayLogin{}))
	e.until("canary", protocol.Online)

	cable.cut()
	canaryCable.cut() // when this one is lost, the grace of the other is over too
	done := make(chan error, 1)
	go func() { done <- g.SetStatus(ctx, "user0", "back") }()
	cable.mend()
	must(t, <-done)
	list := e.until("canary", protocol.Offline)
	canaryCable.mend()
	list = append(list, e.now(g)...)
	wantEvents(t, list, "user0 ONLINE set", "canary OFFLINE lost")
	if g.Sessions() != 11 {
		t.Errorf("%d sessions, want 10 and the mark's", g.Sessions())
	}
}

// After an outage that outlasts the grace everyone is logged in again, and
// what was called meanwhile is done: nobody is shown ONLINE who has left.
func TestGatewayLogsInAgainAfterALostLease(t *testing.T) {
	const users = 1200 // more than one request takes
	kit := servicetest.Start(t, withGrace(100*time.Millisecond))
	c, cable := dial(t, kit)
	other, _ := dial(t, kit)
	e := watchEvents(t, kit)
	ctx := testContext(t)
	ended := make(chan string, 10)
	var g *client.Gateway
	g = openGateway(t, c, "gw1", client.GatewayOptions{OnSessionEnded: func(userID, sessionID string, err error) {
		if !errors.Is(err, protocol.ErrSessionReplaced) {
			t.Errorf("%s ended with %v", userID, err)
		}
		if err := g.Logout(ctx, userID, sessionID); err != nil { // a callback may
			t.Errorf("Logout of what ended: %v", err)
		}
		ended <- userID + " " + sessionID
	}})
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			if err := g.Login(ctx, fmt.Sprint("user", i), "s1", client.GatewayLogin{Device: "phone", Platform: "ios", Idle: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	e.now(g)

	cable.cut()
	for lost := 0; lost < users+1; lost++ { // the mark's too
		e.until("", protocol.Offline)
	}
	s, err := other.Login(ctx, "user7", client.LoginOptions{SessionID: "s2", Device: "phone"})
	must(t, err)
	e.until("user7", protocol.Online)
	results := make(chan error, 10)
	call := func(f func() error) { wg.Go(func() { results <- f() }) }
	call(func() error { return g.Logout(ctx, "user0", "s1") })
	call(func() error { return g.Lost(ctx, "user1", "s1") })
	call(func() error { return g.SetIdle(ctx, "user2", "s1", false) })
	call(func() error { return g.SetStatus(ctx, "user3", "here", client.IfSession("s1")) })
	call(func() error { return g.Login(ctx, "new", "s1", client.GatewayLogin{}) })
	eventually(t, "all wait", func() bool { return client.Waiting(g) == 5 })
	cable.mend()
	wg.Wait()
	for range 5 {
		must(t, <-results)
	}
	if got := <-ended; got != "user7 s1" {
		t.Errorf("ended: %s", got)
	}
	told := map[string][]string{}
	for _, ev := range e.now(g) {
		userID, what, _ := strings.Cut(ev, " ")
		told[userID] = append(told[userID], what)
	}
	for userID, want := range map[string]string{"user0": "[UNLOGINED logout]", "user1": "[]", "user7": "[]", "new": "[ONLINE login]", "user1199": "[ONLINE login]"} {
		if got := fmt.Sprint(told[userID]); got != want {
			t.Errorf("events of %s: got %s, want %s", userID, got, want)
		}
	}
	// Logged in idle, as it was held, and then not: under load one event for both.
	if got := fmt.Sprint(told["user2"]); got != "[ONLINE login ONLINE set]" && got != "[ONLINE set]" {
		t.Errorf("events of user2: got %s", got)
	}
	if len(told) != users-2+2 { // all but users 1 and 7; the new one, and the first mark
		t.Errorf("events of %d users", len(told))
	}
	wantStatuses(t, c, "user0 UNLOGINED ", "user1 OFFLINE ", "user2 ONLINE ", "user3 ONLINE here", "user7 ONLINE ", "new ONLINE ", "user1199 ONLINE ")
	for user, idle := range map[string]bool{"user2": false, "user1199": true} {
		own, err := c.OwnStatus(ctx, user)
		must(t, err)
		if s := own.Sessions[0]; s.Idle != idle || s.Device != "phone" || s.Platform != "ios" || s.Gateway != "gw1" {
			t.Errorf("%s was logged in again as %+v", user, s)
		}
	}
	if s.Err() != nil {
		t.Errorf("the session elsewhere has ended: %v", s.Err())
	}
}

// The lease is gone and nothing but an answer tells.
func TestGatewayLogsInAgainWhenTold(t *testing.T) {
	kit := servicetest.StartOverNATS(t)
	opens := requests(t, kit, "gw1", protocol.OpOpen)
	c, _ := dial(t, kit)
	e := watchEvents(t, kit)
	ctx := testContext(t)
	g := openGateway(t, c, "gw1", client.GatewayOptions{TTL: 5 * time.Second})
	must(t, g.Login(ctx, "alice", "s1", client.GatewayLogin{}))
	must(t, g.Login(ctx, "bob", "s1", client.GatewayLogin{}))

	must(t, g.SetIdle(ctx, "alice", "s1", true))
	for range 2 { // by an apply
		endLease(t, kit, "gw1", opens)
		must(t, g.SetStatus(ctx, "alice", "back", client.IfSession("s1")))
		wantStatuses(t, c, "alice ONLINE back", "bob ONLINE ")
		own, err := c.OwnStatus(ctx, "alice")
		must(t, err)
		if !own.Sessions[0].Idle {
			t.Error("alice is not idle any more")
		}
	}
	e.now(g)
	endLease(t, kit, "gw1", opens) // by a renewal
	e.until("alice", protocol.Offline)
	e.until("alice", protocol.Online)
	if g.Sessions() != 3 {
		t.Errorf("%d sessions, want 2 and the mark's", g.Sessions())
	}
	// As if logged out by hand between two leases: only what is held is
	// logged in again.
	must(t, c.LogoutAll(ctx, "bob"))
	if err := g.SetIdle(ctx, "bob", "s1", true); !errors.Is(err, protocol.ErrSessionNotFound) {
		t.Errorf("SetIdle of a session logged out elsewhere: %v", err)
	}
	endLease(t, kit, "gw1", opens)
	must(t, g.Login(ctx, "carol", "s1", client.GatewayLogin{}))
	wantStatuses(t, c, "alice ONLINE ", "bob UNLOGINED ", "carol ONLINE ")
}

// A session that goes from one gateway to another is noticed by nobody.
func TestGatewayHandover(t *testing.T) {
	kit := servicetest.Start(t, withGrace(2*time.Second))
	c, cable := dial(t, kit)
	c2, _ := dial(t, kit)
	e := watchEvents(t, kit)
	ctx := testContext(t)
	g, g2 := openGateway(t, c, "gw1", client.GatewayOptions{}), openGateway(t, c2, "gw2", client.GatewayOptions{})
	for _, user := range []string{"alice", "bob", "carol"} {
		must(t, g.Login(ctx, user, "s1", client.GatewayLogin{}))
	}
	must(t, g2.Login(ctx, "alice", "s1", client.GatewayLogin{}))
	must(t, g.Logout(ctx, "alice", "s1"))
	must(t, g2.Login(ctx, "bob", "s1", client.GatewayLogin{}))
	must(t, g.Lost(ctx, "bob", "s1"))
	// Its process is restarted: the users come to another within the grace.
	must(t, g.Close(ctx, client.LeaveSessions))
	cable.cut()
	must(t, g2.Login(ctx, "carol", "s1", client.GatewayLogin{}))
	wantEvents(t, e.now(g2), "alice ONLINE login", "bob ONLINE login", "carol ONLINE login")
	if g.Sessions() != 0 || g2.Sessions() != 4 {
		t.Errorf("%d and %d sessions", g.Sessions(), g2.Sessions())
	}
}

func TestGatewayClose(t *testing.T) {
	kit := servicetest.Start(t)
	for _, tt := range []struct {
		end  client.GatewayEnd
		want string
	}{{client.LoseSessions, "OFFLINE"}, {client.LogoutSessions, "UNLOGINED"}, {client.LeaveSessions, "ONLINE"}} {
		c, _ := dial(t, kit)
		g := openGateway(t, c, "gw1", client.GatewayOptions{})
		must(t, g.Login(testContext(t), "alice"+tt.want, "s1", client.GatewayLogin{}))
		must(t, g.Close(testContext(t), tt.end))
		wantStatuses(t, c, "alice"+tt.want+" "+tt.want+" ")
	}
	c, _ := dial(t, kit)
	c2, _ := dial(t, kit)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	must(t, g.Login(testContext(t), "alice", "s1", client.GatewayLogin{}))
	must(t, c.Close())
	<-g.Done()
	wantStatuses(t, c2, "alice OFFLINE ")
	if _, err := c.OpenGateway(testContext(t), "gw1", client.GatewayOptions{}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("OpenGateway on a closed client: %v", err)
	}
}

// An outage of the server and of the service, under load: every change is done
// once, and nobody goes offline.
func TestGatewaySurvivesARestart(t *testing.T) {
	const callers = 20
	kit := servicetest.StartOverNATS(t)
	c, _ := dial(t, kit)
	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	restarted := make(chan struct{})
	for i := range callers {
		wg.Go(func() {
			user := fmt.Sprint("user", i)
			if err := g.Login(ctx, user, "s1", client.GatewayLogin{}); err != nil {
				t.Errorf("Login: %v", err)
			}
			for round, more := 0, 5; more > 0; round++ {
				if err := g.SetStatus(ctx, user, fmt.Sprint(round), client.IfSession("s1")); err != nil {
					t.Errorf("SetStatus: %v", err)
					return
				}
				done.Add(1)
				select {
				case <-restarted:
					more--
				default:
				}
			}
		})
	}
	eventually(t, "some are done", func() bool { return done.Load() > 100 })
	kit.Restart(t)
	close(restarted)
	wg.Wait()
	r, err := c.GetUserStatus(ctx, []string{"user0", "user19"}, client.Fresh())
	must(t, err)
	for _, s := range r.SuccessUserList {
		if s.StatusType != protocol.Online {
			t.Errorf("%+v", s)
		}
	}
	must(t, c.Close()) // before the service
}
