package service_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

// waitFor bounds waits that no timer of the contract bounds.
const waitFor = 45 * time.Second

// request sends a request and reads the reply into reply, unless that is nil, or
// returns the error of the wire.
func request(t testing.TB, nc *nats.Conn, subject string, body, reply any) *protocol.Error {
	t.Helper()
	data, err := protocol.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(subject, data, 20*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if m.Header.Get(protocol.ErrorCodeHeader) != "" {
		e := new(protocol.Error)
		if err := json.Unmarshal(m.Data, e); err != nil {
			t.Fatalf("%s: %v: %s", subject, err, m.Data)
		}
		return e
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(m.Data, reply); err != nil {
		t.Fatalf("%s: %v: %s", subject, err, m.Data)
	}
	return nil
}

func gatewayRequest(t testing.TB, nc *nats.Conn, gateway, op string, body, reply any) *protocol.Error {
	t.Helper()
	subject, err := protocol.NewSubjects("").Gateway(gateway, op)
	if err != nil {
		t.Fatal(err)
	}
	return request(t, nc, subject, body, reply)
}

func get(t testing.TB, nc *nats.Conn, ids ...string) []protocol.Status {
	t.Helper()
	var reply protocol.GetReply
	if err := request(t, nc, protocol.NewSubjects("").Get(), protocol.GetRequest{UserIDList: ids, Fresh: true}, &reply); err != nil {
		t.Fatal(err)
	}
	return reply.SuccessUserList
}

// TestGateway_Apply: ops are done in order, and a failed one does not stop the others. The last
// request gets the same answer when it is repeated (PROTOCOL 4.7).
func TestGateway_Apply(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	apply := protocol.ApplyRequest{Process: "p1", Seq: 1, Ops: []protocol.Op{
		{Op: "login", UserID: "alice", SessionID: "s1", Platform: "web"},
		{Op: "login", UserID: "", SessionID: "s1"},
		{Op: "dance", UserID: "bob", SessionID: "s1"},
		{Op: "set", UserID: "alice", CustomStatus: protocol.Ptr("hello")},
		{Op: "logout", UserID: "carol", SessionID: "s1"},
		{Op: "login", UserID: "bob"},
	}}
	var reply protocol.ApplyReply
	if err := gatewayRequest(t, nc, "gw1", "apply", apply, &reply); err == nil || err.Name != protocol.ErrLeaseNotFound.Name {
		t.Fatalf("apply before open: got %v, want %v", err, protocol.ErrLeaseNotFound)
	}
	var lease protocol.LeaseReply
	if err := gatewayRequest(t, nc, "gw1", "open", protocol.OpenRequest{Process: "p1"}, &lease); err != nil {
		t.Fatal(err)
	}
	if lease.TTLSeconds != 30 || lease.GraceSeconds != 5 || lease.Seq != 0 {
		t.Errorf("open: got %+v", lease)
	}
	for range 2 { // the second is the repetition
		if err := gatewayRequest(t, nc, "gw1", "apply", apply, &reply); err != nil {
			t.Fatal(err)
		}
		var failed []string
		for _, f := range reply.Failures {
			failed = append(failed, fmt.Sprint(f.Index, f.Name))
		}
		want := "[1invalid_user_id 2invalid_request 4session_not_found 5invalid_request]"
		if reply.Applied != 2 || fmt.Sprint(failed) != want {
			t.Errorf("apply: applied %d, failures %v, want 2 and %s", reply.Applied, failed, want)
		}
	}
	st := get(t, nc, "alice")[0]
	if st.StatusType != protocol.Online || st.CustomStatus != "hello" || st.Revision != reply.Revision {
		t.Errorf("alice: got %+v, want ONLINE with the text at revision %d", st, reply.Revision)
	}
	// A seq that was used for another request is refused.
	other := protocol.ApplyRequest{Process: "p1", Seq: 1, Ops: []protocol.Op{{Op: "logout", UserID: "alice", SessionID: "s1"}}}
	if err := gatewayRequest(t, nc, "gw1", "apply", other, &reply); err == nil || err.Name != protocol.ErrOutOfOrder.Name {
		t.Errorf("another request of the same seq: %+v, %v, want %v", reply, err, protocol.ErrOutOfOrder)
	}
	other.Seq = 3
	if err := gatewayRequest(t, nc, "gw1", "apply", other, &reply); err == nil || err.Name != protocol.ErrOutOfOrder.Name {
		t.Errorf("a seq too far ahead: got %v, want %v", err, protocol.ErrOutOfOrder)
	}
}

// TestG10_GatewayBadInput: a wrong request of a gateway gets an error that says what is wrong, and
// changes nothing.
func TestG10_GatewayBadInput(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	var lease protocol.LeaseReply
	if err := gatewayRequest(t, nc, "gw1", "open", protocol.OpenRequest{Process: "p1"}, &lease); err != nil {
		t.Fatal(err)
	}
	tooMany := make([]protocol.Op, protocol.MaxOpsPerApply+1)
	for i := range tooMany {
		tooMany[i] = protocol.Op{Op: "login", UserID: "alice", SessionID: fmt.Sprint(i)}
	}
	for _, c := range []struct {
		what, op string
		body     any
		want     *protocol.Error
	}{
		{"no process", "open", map[string]any{}, protocol.ErrInvalidRequest},
		{"a process with a dot", "open", map[string]any{"process": "a.b"}, protocol.ErrInvalidRequest},
		{"a short TTL", "open", map[string]any{"process": "p1", "ttlSeconds": 4}, protocol.ErrInvalidRequest},
		{"a server ID that is a wildcard", "open", map[string]any{"process": "p1", "connection": map[string]any{"serverID": ">", "clientID": 1}}, protocol.ErrInvalidRequest},
		{"no ops", "apply", protocol.ApplyRequest{Process: "p1", Seq: 1}, protocol.ErrInvalidRequest},
		{"no seq", "apply", protocol.ApplyRequest{Process: "p1", Ops: tooMany[:1]}, protocol.ErrOutOfOrder},
		{"1001 ops", "apply", protocol.ApplyRequest{Process: "p1", Seq: 1, Ops: tooMany}, protocol.ErrTooManyUsers},
		{"ops of a wrong type", "apply", map[string]any{"process": "p1", "seq": 1, "ops": []any{1}}, protocol.ErrInvalidRequest},
		{"another process", "renew", protocol.LeaseRequest{Process: "p2"}, protocol.ErrLeaseNotFound},
		{"no process", "renew", map[string]any{}, protocol.ErrInvalidRequest},
		{"no process", "close", map[string]any{}, protocol.ErrInvalidRequest},
	} {
		var reply json.RawMessage
		if err := gatewayRequest(t, nc, "gw1", c.op, c.body, &reply); err == nil || err.Name != c.want.Name || err.Code != c.want.Code {
			t.Errorf("%s with %s: got %v (%s), want %v", c.op, c.what, err, reply, c.want)
		}
	}
	if st := get(t, nc, "alice")[0]; st.Revision != 0 {
		t.Errorf("alice was changed: %+v", st)
	}
}

// TestG10_GatewayManyFailures: the reply to an apply that is committed always fits.
func TestG10_GatewayManyFailures(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	var lease protocol.LeaseReply
	if err := gatewayRequest(t, nc, "gw1", "open", protocol.OpenRequest{Process: "p1"}, &lease); err != nil {
		t.Fatal(err)
	}
	apply := protocol.ApplyRequest{Process: "p1", Seq: 1}
	for i := range protocol.MaxOpsPerApply {
		id := fmt.Sprintf("%03d%s", i, strings.Repeat("\\", protocol.MaxUserIDBytes-3))
		apply.Ops = append(apply.Ops, protocol.Op{Op: "logout", UserID: id, SessionID: "s"})
	}
	var reply protocol.ApplyReply
	if err := gatewayRequest(t, nc, "gw1", "apply", apply, &reply); err != nil || len(reply.Failures) != protocol.MaxOpsPerApply {
		t.Errorf("apply: got %d failures, %v, want %d", len(reply.Failures), err, protocol.MaxOpsPerApply)
	}
}

// TestG05_GatewayKilled: a gateway's connection closes. Its sessions are lost a grace later, all of
// them by one change. The service answers while they are announced.
func TestG05_GatewayKilled(t *testing.T) {
	const users = 10_000
	grace := time.Second
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = grace }))
	watcher, gw := kit.Connect(t), kit.Connect(t)
	client, err := gw.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	open := protocol.OpenRequest{Process: "p1", Connection: &protocol.Connection{ServerID: gw.ConnectedServerId(), ClientID: client}}
	var lease protocol.LeaseReply
	if err := gatewayRequest(t, gw, "gw1", "open", open, &lease); err != nil {
		t.Fatal(err)
	}
	loginMany(t, gw, "gw1", "p1", users)

	events := make(chan *nats.Msg, 4*users)
	if _, err := watcher.ChanSubscribe(protocol.NewSubjects("").AnyEvent(), events); err != nil {
		t.Fatal(err)
	}
	if err := watcher.Flush(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	gw.Close()
	told, revisions := map[string]bool{}, map[uint64]bool{}
	deadline := time.After(30 * time.Second)
	var first time.Duration
	for len(told) < users {
		select {
		case m := <-events:
			var ev protocol.Event
			if err := json.Unmarshal(m.Data, &ev); err != nil {
				t.Fatal(err)
			}
			if ev.StatusType == protocol.Offline {
				if first == 0 {
					first = time.Since(begun)
				}
				told[ev.UserID], revisions[ev.Revision] = true, true
			}
		case <-deadline:
			t.Fatalf("%d of %d users were told of", len(told), users)
		}
		if len(told) == users/2 {
			get(t, watcher, "u1") // answers in the middle of it
		}
	}
	last := time.Since(begun)
	t.Logf("first told after %v, last after %v", first, last)
	if len(revisions) != 1 {
		t.Errorf("they were lost as %d changes, want 1", len(revisions))
	}
	// G5: grace + 1 s; the machine is shared, so three times that.
	if first < grace || first > 3*(grace+time.Second) {
		t.Errorf("first told after %v, want %v to %v", first, grace, grace+time.Second)
	}
}

// loginMany logs in users u0, u1, … through a gateway.
func loginMany(t testing.TB, nc *nats.Conn, gateway, process string, users int) {
	t.Helper()
	for seq := 1; (seq-1)*500 < users; seq++ {
		apply := protocol.ApplyRequest{Process: process, Seq: uint64(seq)}
		for i := (seq - 1) * 500; i < min(seq*500, users); i++ {
			apply.Ops = append(apply.Ops, protocol.Op{Op: "login", UserID: fmt.Sprintf("u%d", i), SessionID: "s"})
		}
		var reply protocol.ApplyReply
		if err := gatewayRequest(t, nc, gateway, "apply", apply, &reply); err != nil {
			t.Fatal(err)
		}
		if reply.Applied != len(apply.Ops) {
			t.Fatalf("applied %d of %d: %v", reply.Applied, len(apply.Ops), reply.Failures)
		}
	}
}
