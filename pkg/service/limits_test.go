package service_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var wire = protocol.NewSubjects("")

func userSubject(t testing.TB, user, op string) string {
	t.Helper()
	subject, err := wire.User(user, op)
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

// limited connects to a service with limits. Limits that are 0 have their defaults.
func limited(t *testing.T, l service.Limits) *nats.Conn {
	t.Helper()
	return servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Limits = l })).Connect(t)
}

func text(s string) protocol.SetRequest { return protocol.SetRequest{CustomStatus: &s} }

// is reports whether a request was refused with an error.
func is(e, want *protocol.Error) bool { return e != nil && errors.Is(e, want) }

// TestLimits_UserChanges: the 21st change is refused, says when to try again, and changes nothing.
// Other users and queries are not affected.
func TestLimits_UserChanges(t *testing.T) {
	t.Parallel()
	nc := limited(t, service.Limits{})
	// A minute's worth in one moment, by all the requests that count.
	ops := []struct {
		op   string
		body any
	}{
		{protocol.OpLogin, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600}},
		{protocol.OpSet, text("x")},
		{protocol.OpLogout, protocol.LogoutRequest{SessionID: "none"}},
		{protocol.OpSet, protocol.SetRequest{}}, // which is refused, and counts
		{protocol.OpRenew, protocol.RenewRequest{SessionID: "s", Idle: protocol.Ptr(true)}},
		{protocol.OpRenew, protocol.RenewRequest{SessionID: "s", Idle: protocol.Ptr(false)}},
	}
	var mu sync.Mutex
	passed, renewed, refused := 0, 0, map[string]int{}
	var wait time.Duration
	send := func(op string, body any) {
		sent := time.Now()
		e := request(t, nc, userSubject(t, "alice", op), body, nil)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case is(e, protocol.ErrRateLimited):
		case op == protocol.OpRenew: // which counts where it changes something, and no answer says that
			renewed++
			return
		default:
			passed++
			return
		}
		refused[op]++
		// The next is allowed 250 ms after this one arrived. A later one may have been the first.
		if most := 250 + time.Since(sent).Milliseconds(); e.Code != 429 || e.RetryAfterMs < 1 || int64(e.RetryAfterMs) > most {
			t.Errorf("%s: got %+v, want 429 and at most %d ms", op, e, most)
		}
		wait = e.RetryAfter()
	}
	begun := time.Now()
	send(ops[0].op, ops[0].body) // so that the others find the session
	send(ops[1].op, ops[1].body)
	var wg sync.WaitGroup
	for i := 2; i < 120; i++ { // all at once, or a busy machine takes longer than the rate
		wg.Go(func() { send(ops[i%len(ops)].op, ops[i%len(ops)].body) })
	}
	wg.Wait()
	// 20, and those that came back meanwhile: four a second. Renewals have some of them.
	most := 21 + int(4*time.Since(begun).Seconds())
	if passed+renewed < 20 || passed > most || len(refused) != 4 {
		t.Errorf("%d changes and %d renewals of 120 passed, want 20 or more, and at most %d changes; refused were %v, want some of each kind", passed, renewed, most, refused)
	}
	if e := request(t, nc, userSubject(t, "bob", protocol.OpSet), text("x"), nil); e != nil {
		t.Errorf("somebody else: %v", e)
	}
	var got protocol.OwnStatusReply
	if e := request(t, nc, userSubject(t, "alice", protocol.OpStatus), struct{}{}, &got); e != nil {
		t.Errorf("a query: %v", e)
	}
	if got.Status.StatusType != protocol.Online || got.Status.CustomStatus != "x" {
		t.Errorf("after refusals: %+v", got.Status)
	}
	servicetest.Eventually(t, 20*time.Second, "a change after the wait to pass", func() bool {
		time.Sleep(wait) // what the refusal said
		e := request(t, nc, userSubject(t, "alice", protocol.OpSet), text("y"), nil)
		if e != nil {
			wait = e.RetryAfter()
		}
		return e == nil
	})
}

// TestLimits_ContactReads: a read of contacts is no change. Only so many of one user's reads may
// wait. Users without waiting reads are not refused.
func TestLimits_ContactReads(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Limits.UserChanges = 1 }))
	nc := kit.Connect(t)
	contacts := userSubject(t, "alice", protocol.OpContacts)
	if e := request(t, nc, contacts, protocol.ContactsRequest{Add: []string{"bob"}}, nil); e != nil {
		t.Fatal(e)
	}
	for i := range 50 {
		m, err := nc.Request(contacts, []byte([]string{"{}", " {}\n"}[i%2]), waitFor)
		if err != nil || m.Header.Get(protocol.ErrorHeader) != "" {
			t.Fatalf("read %d: %+v, %v", i, m, err)
		}
	}
	refused := 0
	for _, body := range []string{`{"add":["carol"]}`, `{"add":[]}`, `{"add":1}`} {
		if e := request(t, nc, contacts, json.RawMessage(body), nil); is(e, protocol.ErrRateLimited) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("a second change at once passed")
	}

	release := kit.Instances[0].Service.Occupy("alice")
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for range service.ContactReads + 1 {
		if err := nc.PublishRequest(contacts, replies.Subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	m, err := replies.NextMsg(waitFor)
	if err != nil || !strings.HasPrefix(m.Header.Get(protocol.ErrorHeader), "overloaded: 8 reads") {
		t.Errorf("one too many: got %+v, %v", m, err)
	}
	release()
	for range service.ContactReads {
		if m, err := replies.NextMsg(waitFor); err != nil || m.Header.Get(protocol.ErrorHeader) != "" {
			t.Errorf("one that waited: got %+v, %v", m, err)
		}
	}
	if e := request(t, nc, contacts, struct{}{}, nil); e != nil {
		t.Errorf("after them: %v", e)
	}
}

// TestLimits_RenewalsAreNotLimitedAway: a user who changes as fast as possible keeps the sessions:
// by renewals with and without a change of idle, and by more of them than are answered. So does a
// gateway.
func TestLimits_RenewalsAreNotLimitedAway(t *testing.T) {
	t.Parallel()
	nc := limited(t, service.Limits{UserRenewals: 30, UserChanges: 5, GatewayOps: 200})
	for _, session := range []string{"plain", "idling"} {
		if e := request(t, nc, userSubject(t, "alice", protocol.OpLogin), protocol.LoginRequest{SessionID: session, TTLSeconds: 5}, nil); e != nil {
			t.Fatal(e)
		}
	}
	open, _ := wire.Gateway("gw", protocol.OpOpen)
	renew, _ := wire.Gateway("gw", protocol.OpRenew)
	apply, _ := wire.Gateway("gw", protocol.OpApply)
	if e := request(t, nc, open, protocol.OpenRequest{Process: "p", TTLSeconds: 5}, nil); e != nil {
		t.Fatal(e)
	}
	if e := request(t, nc, apply, protocol.ApplyRequest{Process: "p", Seq: 1, Ops: []protocol.Op{{Op: protocol.OpKindLogin, UserID: "guest", SessionID: "s"}}}, nil); e != nil {
		t.Fatal(e)
	}
	var mu sync.Mutex
	limited := map[string]int{}
	send := func(what, subject string, body any) {
		e := request(t, nc, subject, body, nil)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case is(e, protocol.ErrRateLimited):
			limited[what]++
		case e != nil:
			t.Errorf("%s: %v", what, e)
		}
	}
	// Longer than the TTL, and until the limits are reached: a busy machine sends slowly.
	begun := time.Now()
	for time.Since(begun) < 8*time.Second || len(limited) < 4 && time.Since(begun) < waitFor {
		var wg sync.WaitGroup
		for i := range 10 { // at once, so that they exceed six a second on any machine
			idle := i%2 == 0
			wg.Go(func() { send("set", userSubject(t, "alice", protocol.OpSet), text(fmt.Sprint(idle))) })
			wg.Go(func() {
				send("renewal", userSubject(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: "plain"})
			})
			wg.Go(func() {
				send("idle", userSubject(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: "idling", Idle: &idle})
			})
			wg.Go(func() { send("gateway's renewal", renew, protocol.LeaseRequest{Process: "p"}) })
		}
		wg.Wait()
		time.Sleep(50 * time.Millisecond)
	}
	if len(limited) != 4 {
		t.Errorf("rate_limited: %v, want some of each kind", limited)
	}
	for _, user := range []string{"alice", "guest"} {
		var got protocol.OwnStatusReply
		if e := request(t, nc, userSubject(t, user, protocol.OpStatus), struct{}{}, &got); e != nil {
			t.Fatal(e)
		}
		for _, s := range got.Sessions {
			if !s.Live {
				t.Errorf("session %s of %s was lost", s.SessionID, user)
			}
		}
	}
}

// TestLimits_GatewayOps: a gateway over its rate is refused. Nothing is done, and its seq is not
// used up. After the time that it was told, it is served. Its users and other gateways are not
// affected.
func TestLimits_GatewayOps(t *testing.T) {
	t.Parallel()
	nc := limited(t, service.Limits{GatewayOps: 200})
	ops := func(n int) (ops []protocol.Op) {
		for i := range n {
			ops = append(ops, protocol.Op{Op: protocol.OpKindSet, UserID: "alice", CustomStatus: protocol.Ptr(fmt.Sprint("text ", i))})
		}
		return ops
	}
	subject := func(gateway, op string) string {
		s, err := wire.Gateway(gateway, op)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, gw := range []string{"one", "two"} {
		if e := request(t, nc, subject(gw, protocol.OpOpen), protocol.OpenRequest{Process: "p"}, nil); e != nil {
			t.Fatal(e)
		}
	}
	if e := request(t, nc, subject("one", protocol.OpApply), protocol.ApplyRequest{Process: "p", Seq: 1, Ops: ops(990)}, nil); e != nil {
		t.Fatalf("990 of 1,000 ops: %v", e)
	}
	next := protocol.ApplyRequest{Process: "p", Seq: 2, Ops: ops(500)}
	e := request(t, nc, subject("one", protocol.OpApply), next, nil)
	if !is(e, protocol.ErrRateLimited) || e.RetryAfter() <= 0 || e.RetryAfter() > 2500*time.Millisecond {
		t.Fatalf("500 more: got %+v, want rate_limited for at most 2.5 s", e)
	}
	if e := request(t, nc, subject("two", protocol.OpApply), protocol.ApplyRequest{Process: "p", Seq: 1, Ops: ops(10)}, nil); e != nil {
		t.Errorf("another gateway: %v", e)
	}
	if e := request(t, nc, userSubject(t, "alice", protocol.OpSet), text("own"), nil); e != nil {
		t.Errorf("the user: %v", e)
	}
	servicetest.Eventually(t, 20*time.Second, "the same request to be done", func() bool {
		time.Sleep(e.RetryAfter()) // what the refusal said
		var reply protocol.ApplyReply
		if e = request(t, nc, subject("one", protocol.OpApply), next, &reply); e != nil {
			return false
		}
		if reply.Applied != 500 {
			t.Errorf("got %+v, want 500 ops applied", reply)
		}
		return true
	})
}

// TestLimits_AppliesOfAGateway: a gateway that does not wait for its answers is refused beyond
// GatewayApplies. Each request is answered, and it can go on afterwards.
func TestLimits_AppliesOfAGateway(t *testing.T) {
	t.Parallel()
	nc := limited(t, service.Limits{GatewayApplies: 2})
	open, _ := wire.Gateway("gw", protocol.OpOpen)
	apply, _ := wire.Gateway("gw", protocol.OpApply)
	if e := request(t, nc, open, protocol.OpenRequest{Process: "p"}, nil); e != nil {
		t.Fatal(e)
	}
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	ops := make([]protocol.Op, 500)
	for i := range ops {
		ops[i] = protocol.Op{Op: protocol.OpKindSet, UserID: fmt.Sprint("user", i), CustomStatus: protocol.Ptr("x")}
	}
	overloaded := 0
	const sent = 200
	for i := range sent {
		data, _ := protocol.Marshal(protocol.ApplyRequest{Process: "p", Seq: uint64(i + 1), Ops: ops})
		if err := nc.PublishRequest(apply, answers.Subject, data); err != nil {
			t.Fatal(err)
		}
	}
	for range sent {
		m, err := answers.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatalf("not everything was answered: %v", err)
		}
		switch name, _, _ := strings.Cut(m.Header.Get(protocol.ErrorHeader), ":"); name {
		case "overloaded":
			overloaded++
		case "", "out_of_order":
		default:
			t.Errorf("got %s", m.Data)
		}
	}
	if overloaded == 0 {
		t.Error("none of 200 at a time was refused")
	}
	if e := request(t, nc, apply, protocol.ApplyRequest{Process: "p", Seq: 1000, Ops: ops[:1]}, nil); !is(e, protocol.ErrOutOfOrder) {
		t.Errorf("afterwards: got %v, want it to be looked at", e)
	}
}

// TestLimits_Sizes: limits below those of the contract hold. A size that is equal to its limit is
// allowed.
func TestLimits_Sizes(t *testing.T) {
	t.Parallel()
	nc := limited(t, service.Limits{CustomStatusBytes: 5, BodyBytes: 100, UsersPerGet: 3, OpsPerApply: 1})
	open, _ := wire.Gateway("gw", protocol.OpOpen)
	apply, _ := wire.Gateway("gw", protocol.OpApply)
	if e := request(t, nc, open, protocol.OpenRequest{Process: "p"}, nil); e != nil {
		t.Fatal(e)
	}
	lost := protocol.Op{Op: protocol.OpKindLost, UserID: "a", SessionID: "b"}
	padded := func(n int) json.RawMessage {
		head, tail := `{"customStatus":"x","unknown":"`, `"}`
		return json.RawMessage(head + strings.Repeat("x", n-len(head)-len(tail)) + tail)
	}
	set := userSubject(t, "alice", protocol.OpSet)
	for _, row := range []struct {
		what, subject string
		body          any
		want          *protocol.Error
	}{
		{"a text of 5 bytes", set, text("12345"), nil},
		{"a text of 6 bytes", set, text("123456"), protocol.ErrCustomStatusTooLong},
		{"a body of 100 bytes", set, padded(100), nil},
		{"a body of 101 bytes", set, padded(101), protocol.ErrRequestTooLarge},
		{"3 users", wire.Get(), protocol.GetRequest{UserIDList: []string{"a", "b", "c"}}, nil},
		{"4 users", wire.Get(), protocol.GetRequest{UserIDList: []string{"a", "b", "c", "d"}}, protocol.ErrTooManyUsers},
		{"1 op", apply, protocol.ApplyRequest{Process: "p", Seq: 1, Ops: []protocol.Op{lost}}, nil},
		{"2 ops", apply, json.RawMessage(`{"process":"p","seq":2,"ops":[{"op":"x"},{"op":"x"}]}`), protocol.ErrTooManyUsers},
	} {
		e := request(t, nc, row.subject, row.body, nil)
		if (e == nil) != (row.want == nil) || e != nil && !is(e, row.want) {
			t.Errorf("%s: got %v, want %v", row.what, e, row.want)
		}
	}
	var stats protocol.StatsReply
	if e := request(t, nc, wire.Stats(), struct{}{}, &stats); e != nil {
		t.Fatal(e)
	}
	if want := (map[string]uint64{"custom_status_too_long": 1, "request_too_large": 1, "too_many_users": 2}); !maps.Equal(stats.Refusals, want) {
		t.Errorf("refusals: got %v, want %v", stats.Refusals, want)
	}
	for name, want := range map[string]int64{"max-custom-status": 5, "user-changes": 20, "gateway-ops": 100_000, "max-contacts": 2000} {
		if got := stats.Limits[name]; got != want {
			t.Errorf("limit %s: got %d, want %d", name, got, want)
		}
	}
}

// TestLimits_SessionsPerUser: one number is in force for all instances: that of the one that
// started last, whatever the others were given. stats shows it.
func TestLimits_SessionsPerUser(t *testing.T) {
	t.Parallel()
	allow := func(n int) servicetest.Option {
		return servicetest.WithService(func(c *service.Config) { c.Limits.SessionsPerUser = n })
	}
	kit := servicetest.Start(t, allow(2))
	nc := kit.Connect(t)
	login := func(session string) *protocol.Error {
		return request(t, nc, userSubject(t, "alice", protocol.OpLogin), protocol.LoginRequest{SessionID: session, TTLSeconds: 3600}, nil)
	}
	wantShown := func(want int64, instances int) {
		t.Helper()
		seen := map[string]bool{}
		servicetest.Eventually(t, waitFor, fmt.Sprintf("%d instances to show %d sessions", instances, want), func() bool {
			stats := must[protocol.StatsReply](t, nc, wire.Stats(), struct{}{})
			for _, i := range stats.Instances {
				if i.Answering {
					seen[i.Writer] = stats.Limits["max-sessions"] == want
				}
			}
			return len(seen) == instances && !slices.Contains(slices.Collect(maps.Values(seen)), false)
		})
	}
	wantShown(2, 1)
	for _, session := range []string{"s1", "s2"} {
		if e := login(session); e != nil {
			t.Fatal(e)
		}
	}
	if e := login("s3"); !is(e, protocol.ErrTooManySessions) {
		t.Errorf("the third of 2: got %v", e)
	}
	kit.AddInstance(t, allow(3))
	wantShown(3, 2)
	if e := login("s3"); e != nil {
		t.Errorf("the third of 3, whoever answers: %v", e)
	}
	kit.AddInstance(t, allow(1))
	wantShown(1, 3)
	if e := login("s4"); !is(e, protocol.ErrTooManySessions) {
		t.Errorf("the fourth of 1: got %v", e)
	}
	if own := must[protocol.OwnStatusReply](t, nc, userSubject(t, "alice", protocol.OpStatus), struct{}{}); len(own.Sessions) != 3 {
		t.Errorf("%d sessions are left of 3 when fewer are allowed", len(own.Sessions))
	}
	servicetest.Eventually(t, waitFor, "all instances to hold the same state", func() bool {
		at := map[uint64]uint64{}
		for _, i := range kit.Instances {
			position, digest := i.Service.Digest()
			at[position] = digest
		}
		return len(at) == 1
	})
	for _, i := range kit.Instances {
		if n := i.Service.Figures().Mismatches; n > 0 {
			t.Errorf("%d digests differed", n)
		}
	}
}

// TestLimits_SessionsPerUser_EarlierVersion: another number than the default would stop an instance
// of an earlier version. So it does not come into force until that one is upgraded.
func TestLimits_SessionsPerUser_EarlierVersion(t *testing.T) {
	t.Parallel()
	srv := servicetest.StartBroker(t)
	js, err := jetstream.New(srv.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PRESENCE_JOURNAL", Subjects: []string{"PRESENCE_JOURNAL.entries"}, Discard: jetstream.DiscardNew, DenyDelete: true}); err != nil {
		t.Fatal(err)
	}
	earlier := entry.Header{Epoch: "E", Generation: 1, Instance: "earlier", MaxFormat: 1}
	publish := func(commands ...entry.Command) {
		t.Helper()
		earlier.Sequence++
		data, err := entry.Append(nil, &entry.Entry{Header: earlier, Commands: commands})
		if err == nil {
			_, err = js.Publish(t.Context(), "PRESENCE_JOURNAL.entries", data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	publish(entry.Command{Kind: entry.Configure, Params: &entry.Params{Grace: 5000, Retention: 60_000}})
	srv.StartInstance(t, func(c *service.Config) { c.Limits.SessionsPerUser = 33 })
	nc := srv.Connect(t)
	allowed := func() int64 {
		return must[protocol.StatsReply](t, nc, wire.Stats(), struct{}{}).Limits["max-sessions"]
	}
	if n := allowed(); n != protocol.MaxSessionsPerUser {
		t.Errorf("beside an earlier version %d sessions are allowed", n)
	}
	facts := must[protocol.InstanceReply](t, nc, wire.Instances(), struct{}{}).Facts
	if earlier.LeaseClock, err = strconv.ParseInt(facts["lease clock"], 10, 64); err != nil {
		t.Fatal(err)
	}
	earlier.MaxFormat = entry.Format // upgraded, and the first in the table: so it is the one that raises
	publish(entry.Command{Kind: entry.SetFormat, Seq: entry.Format})
	servicetest.Eventually(t, waitFor, "33 to be in force", func() bool { return allowed() == 33 })
}

// TestLimits_OutOfBounds: limits that make no sense are refused before anything starts.
func TestLimits_OutOfBounds(t *testing.T) {
	nc := servicetest.StartBroker(t).Connect(t)
	for _, l := range new(service.Limits).List() {
		for _, bad := range []int{l.Min - 1, l.Max + 1, -2} {
			var limits service.Limits
			for _, x := range limits.List() {
				if x.Name == l.Name {
					*x.Value = bad
				}
			}
			if bad == 0 { // stands for the default
				continue
			}
			_, err := service.New(service.Config{Clients: nc, Journal: nc, Limits: limits})
			if err == nil || !strings.Contains(err.Error(), l.Name) {
				t.Errorf("%s = %d: got %v, want an error that names it", l.Name, bad, err)
			}
		}
	}
}

// TestLimits_OverloadedRenewals: a renewal that is refused because too many changes wait extends its
// lease all the same. Its answer does not say that nothing was done (PROTOCOL 6).
func TestLimits_OverloadedRenewals(t *testing.T) {
	t.Parallel()
	nc := limited(t, service.Limits{WaitingChanges: 1, UserChanges: service.Unlimited, UserRenewals: service.Unlimited})
	for _, session := range []string{"plain", "idling"} {
		login(t, nc, "alice", protocol.LoginRequest{SessionID: session, TTLSeconds: 3600})
	}
	var mu sync.Mutex
	refused := map[string]int{}
	renew := func(session string, idle *bool) {
		e := request(t, nc, to(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: session, Idle: idle}, nil)
		if e == nil {
			return
		}
		if !is(e, protocol.ErrOverloaded) || !strings.Contains(e.Message, "the lease is renewed") {
			t.Errorf("a renewal of %s: got %v, want overloaded, and that the lease is renewed", session, e)
		}
		mu.Lock()
		defer mu.Unlock()
		refused[session]++
	}
	servicetest.Eventually(t, waitFor, "renewals of both kinds to be refused", func() bool {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { request(t, nc, to(t, fmt.Sprint("user", i), protocol.OpSet), text(fmt.Sprint(i)), nil) })
			wg.Go(func() { renew("plain", nil) })
			wg.Go(func() { renew("idling", protocol.Ptr(i%2 == 0)) })
		}
		wg.Wait()
		return len(refused) == 2
	})
}
