package service_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// must sends a request that must be accepted.
func must[Reply any](t testing.TB, nc *nats.Conn, subject string, body any) (reply Reply) {
	t.Helper()
	if err := request(t, nc, subject, body, &reply); err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return reply
}

// refused sends a request that has to be refused.
func refused(t testing.TB, nc *nats.Conn, subject string, body any, want *protocol.Error) {
	t.Helper()
	var reply any
	if err := request(t, nc, subject, body, &reply); err == nil || err.Name != want.Name {
		t.Errorf("%s: got %v (%v), want %s", subject, err, reply, want.Name)
	}
}

// to is the subject of a request about a user.
func to(t testing.TB, user, op string) string {
	t.Helper()
	subject, err := subjects.User(user, op)
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

func login(t testing.TB, nc *nats.Conn, user string, body protocol.LoginRequest) protocol.LoginReply {
	t.Helper()
	return must[protocol.LoginReply](t, nc, to(t, user, protocol.OpLogin), body)
}

func setAvailability(t testing.TB, nc *nats.Conn, user string, a protocol.Availability) {
	t.Helper()
	must[protocol.ChangeReply](t, nc, to(t, user, protocol.OpSet), protocol.SetRequest{Availability: &a})
}

// TestStats: users and sessions are counted as they are shown, refusals by name.
func TestStats(t *testing.T) {
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Limits.CustomStatusBytes = 100 }))
	nc := kit.Connect(t)
	for user, platform := range map[string]string{"alice": "web", "bob": "web", "carol": "linux", "dave": "web"} {
		login(t, nc, user, protocol.LoginRequest{SessionID: "s1", Platform: platform})
	}
	setAvailability(t, nc, "dave", protocol.Invisible)
	must[protocol.ChangeReply](t, nc, to(t, "carol", protocol.OpLogout), protocol.LogoutRequest{SessionID: "s1"})
	refused(t, nc, to(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: "s2"}, protocol.ErrSessionNotFound)
	refused(t, nc, to(t, "alice", protocol.OpRenew), protocol.RenewRequest{}, protocol.ErrInvalidRequest)
	refused(t, nc, subjects.Explain(), protocol.UserRequest{}, protocol.ErrInvalidUserID)
	refused(t, nc, subjects.Get(), protocol.GetRequest{}, protocol.ErrInvalidRequest)

	got := must[protocol.StatsReply](t, nc, subjects.Stats(), struct{}{})
	if want := (protocol.UserCounts{Online: 2, Offline: 1, Unlogined: 1}); got.Users != want {
		t.Errorf("users: got %+v, want %+v", got.Users, want)
	}
	if want := map[string]int{"web": 2}; !reflect.DeepEqual(got.Sessions, want) {
		t.Errorf("sessions: got %v, want %v", got.Sessions, want)
	}
	if got.Leases != 3 || got.Gateways != 0 {
		t.Errorf("got %d leases and %d gateways, want 3 and 0", got.Leases, got.Gateways)
	}
	if want := map[string]uint64{"session_not_found": 1, "invalid_request": 2, "invalid_user_id": 1}; !reflect.DeepEqual(got.Refusals, want) {
		t.Errorf("refusals: got %v, want %v", got.Refusals, want)
	}
	if got.Limits["max-custom-status"] != 100 {
		t.Errorf("limits: got %v, want max-custom-status 100", got.Limits)
	}
	if len(got.Instances) != 1 || !got.Instances[0].Answering || got.Instances[0].Format == 0 {
		t.Errorf("instances: got %+v, want the one that answers", got.Instances)
	}
	if got.Revision == 0 || got.Epoch == "" || got.Stale {
		t.Errorf("got revision %d, epoch %q, stale %t", got.Revision, got.Epoch, got.Stale)
	}
}

// TestExplain: an operator is told the truth about an invisible user, in sentences. The state
// machine's scenarios test the sentences.
func TestExplain(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s1", Platform: "web"})
	setAvailability(t, nc, "alice", protocol.Invisible)
	got := must[protocol.ExplainReply](t, nc, subjects.Explain(), protocol.UserRequest{UserID: "alice"})
	if got.Owner.StatusType != protocol.Online || got.Public.StatusType != protocol.Offline {
		t.Errorf("got owner %v and public %v, want ONLINE and OFFLINE", got.Owner, got.Public)
	}
	if why := strings.Join(got.Why, "\n"); !strings.Contains(why, "ONLINE: session s1 (web) is live") || !strings.Contains(why, "everybody else sees OFFLINE: the user is invisible") {
		t.Errorf("why: got\n%s", why)
	}
	if len(got.Sessions) != 1 || got.Sessions[0].EndsInSeconds <= 0 || got.Sessions[0].EndsInSeconds > 30 {
		t.Errorf("sessions: got %+v", got.Sessions)
	}
	if got := must[protocol.ExplainReply](t, nc, subjects.Explain(), protocol.UserRequest{UserID: "nobody"}); len(got.Why) != 1 || got.Public.Revision != 0 || got.Sessions == nil || got.Ended == nil {
		t.Errorf("nobody: got %+v", got)
	}
}

// TestErase_Unknown: an erased user is at once like one that was never seen, and the erasure is
// announced. A second erasure changes and announces nothing.
func TestErase_Unknown(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	subjects := protocol.NewSubjects("")
	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s1"})
	login(t, nc, "bob", protocol.LoginRequest{SessionID: "s1"})
	must[protocol.ChangeReply](t, nc, to(t, "alice", protocol.OpSet), protocol.SetRequest{CustomStatus: protocol.Ptr("hello")})
	events, err := nc.SubscribeSync("presence.v1.status.alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		reply := must[protocol.KickReply](t, nc, subjects.Erase(), protocol.UserRequest{UserID: "alice"})
		if ended := len(reply.Ended); ended != 1 && i == 0 || ended != 0 && i > 0 {
			t.Errorf("erasure %d ended %q", i+1, reply.Ended)
		}
		if st := get(t, nc, "alice")[0]; st.StatusType != protocol.Unlogined || st.Revision != 0 || st.UpdatedAt != 0 {
			t.Errorf("get after erasure %d: %+v, want one never seen", i+1, st)
		}
		for _, st := range must[protocol.ListReply](t, nc, subjects.List(), protocol.ListRequest{}).Users {
			if st.UserID == "alice" {
				t.Errorf("list after erasure %d names %+v", i+1, st)
			}
		}
	}
	refused(t, nc, to(t, "alice", protocol.OpLogin), protocol.LoginRequest{SessionID: "s1"}, protocol.ErrSessionReplaced)
	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s2"})
	waitForMessage(t, events, `"cause":"erased"`)
	if m := waitForMessage(t, events, `"cause":"`); !strings.Contains(string(m.Data), `"cause":"login"`) {
		t.Errorf("after the erasure: told %s, want the next login", m.Data)
	}
}

// TestGateway_TTL: an open and a close of a lease answer its TTL, and a session that the
// gateway holds shows it.
func TestGateway_TTL(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	do := func(op string, body, reply any) {
		t.Helper()
		if err := gatewayRequest(t, nc, "gw1", op, body, reply); err != nil {
			t.Fatal(err)
		}
	}
	var lease protocol.LeaseReply
	do("open", protocol.OpenRequest{Process: "p1", TTLSeconds: 40}, &lease)
	do("apply", protocol.ApplyRequest{Process: "p1", Seq: 1, Ops: []protocol.Op{{Op: "login", UserID: "alice", SessionID: "s1"}}}, &protocol.ApplyReply{})
	own := must[protocol.OwnStatusReply](t, nc, to(t, "alice", protocol.OpStatus), struct{}{})
	if len(own.Sessions) != 1 || own.Sessions[0].TTLSeconds != 40 || own.Sessions[0].Gateway != "gw1" {
		t.Errorf("the session that the gateway holds: %+v, want a TTL of 40 s", own.Sessions)
	}
	lease = protocol.LeaseReply{}
	do("close", protocol.CloseRequest{Process: "p1"}, &lease)
	if lease.TTLSeconds != 40 {
		t.Errorf("close: %+v, want a TTL of 40 s", lease)
	}
}

// TestG08_KickedStaysOut: a kicked session cannot come back under its ID, and its client is told
// so. Kicking a session that does not exist is no error.
func TestG08_KickedStaysOut(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	self, err := nc.SubscribeSync("presence.v1.self.alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"s1", "s2"} {
		login(t, nc, "alice", protocol.LoginRequest{SessionID: id})
	}
	if got := must[protocol.KickReply](t, nc, subjects.Kick(), protocol.KickRequest{UserID: "alice", SessionID: "s1"}); !reflect.DeepEqual(got.Ended, []string{"s1"}) {
		t.Errorf("kick of s1: ended %v", got.Ended)
	}
	refused(t, nc, to(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: "s1"}, protocol.ErrSessionReplaced)
	refused(t, nc, to(t, "alice", protocol.OpLogin), protocol.LoginRequest{SessionID: "s1"}, protocol.ErrSessionReplaced)
	waitForMessage(t, self, `"type":"kicked"`, `"sessionID":"s1"`, `"reason":"kicked"`)
	if st := get(t, nc, "alice")[0]; st.StatusType != protocol.Online {
		t.Errorf("alice, with s2 left: got %v, want ONLINE", st)
	}
	if got := must[protocol.KickReply](t, nc, subjects.Kick(), protocol.KickRequest{UserID: "alice"}); !reflect.DeepEqual(got.Ended, []string{"s2"}) {
		t.Errorf("kick of all: ended %v", got.Ended)
	}
	if st := get(t, nc, "alice")[0]; st.StatusType != protocol.Unlogined {
		t.Errorf("alice, kicked: got %v, want UNLOGINED", st)
	}
	for _, user := range []string{"alice", "nobody"} {
		if got := must[protocol.KickReply](t, nc, subjects.Kick(), protocol.KickRequest{UserID: user}); got.Ended == nil || len(got.Ended) != 0 || got.Revision == 0 {
			t.Errorf("kick of what is not there: got %+v, want an empty list and a revision", got)
		}
	}
}

// TestList_OthersDoNotWait: putting a million users in order takes seconds. Only lists wait for
// that, however many there are.
func TestList_OthersDoNotWait(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s1"})
	const lists = 20
	answers, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	release := kit.Instances[0].Service.OccupyOrders()
	for range lists {
		if err := nc.PublishRequest(subjects.List(), answers.Subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if st := get(t, nc, "alice")[0]; st.StatusType != protocol.Online {
		t.Errorf("got %+v", st)
	}
	must[protocol.ExplainReply](t, nc, subjects.Explain(), protocol.UserRequest{UserID: "alice"})
	for i := range 200 { // which every worker has some of
		must[protocol.ContactsReply](t, nc, to(t, fmt.Sprint("user", i), protocol.OpContacts), protocol.ContactsRequest{})
	}
	if n, _, _ := answers.Pending(); n > 0 {
		t.Errorf("%d lists were answered before the users were in order", n)
	}
	release()
	for range lists {
		m, err := answers.NextMsg(waitFor)
		if err != nil || !strings.Contains(string(m.Data), `"userID":"alice"`) {
			t.Fatalf("list: got %v, %v", m, err)
		}
	}
}

// waitForMessage waits for a message that contains all of some texts.
func waitForMessage(t testing.TB, sub *nats.Subscription, parts ...string) *nats.Msg {
	t.Helper()
	var found *nats.Msg
	servicetest.Eventually(t, waitFor, "a message with "+strings.Join(parts, " "), func() bool {
		for {
			m, err := sub.NextMsg(0)
			if err != nil {
				return false
			}
			all := true
			for _, part := range parts {
				all = all && strings.Contains(string(m.Data), part)
			}
			if all {
				found = m
				return true
			}
		}
	})
	return found
}

// TestList: pages are in the order of the users' tokens, and each user is on one page. A statusType
// selects users.
func TestList(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	for _, user := range []string{"bob", "al", "alice", "al ice", "Bob", "al=ice", "é", "_"} {
		login(t, nc, user, protocol.LoginRequest{SessionID: "s1"})
	}
	setAvailability(t, nc, "bob", protocol.Invisible)
	setAvailability(t, nc, "never-seen", protocol.Invisible)
	for _, c := range []struct {
		statusType protocol.StatusType
		limit      int
	}{{0, 500}, {0, 0}, {0, 1}, {0, 3}, {protocol.Online, 2}, {protocol.Offline, 2}, {protocol.Unlogined, 2}} {
		var got []string
		pages := 0
		for request, begun := (protocol.ListRequest{StatusType: c.statusType, Limit: c.limit}), false; request.Cursor != "" || !begun; begun = true {
			reply := must[protocol.ListReply](t, nc, subjects.List(), request)
			for _, st := range reply.Users {
				got = append(got, st.UserID)
				if c.statusType != 0 && st.StatusType != c.statusType {
					t.Errorf("listed as %v: %+v", c.statusType, st)
				}
			}
			if reply.Users == nil || reply.Revision == 0 || reply.Epoch == "" || reply.Stale {
				t.Errorf("list: got %+v", reply)
			}
			request.Cursor, pages = reply.Cursor, pages+1
		}
		want := []string{"Bob", "_", "al", "al=20ice", "al=3Dice", "alice", "bob", "=C3=A9"}
		slices.Sort(want)
		switch c.statusType {
		case protocol.Online:
			want = slices.DeleteFunc(want, func(token string) bool { return token == "bob" })
		case protocol.Offline:
			want = []string{"bob"}
		case protocol.Unlogined:
			want = nil
		}
		for i, id := range got {
			got[i], _ = protocol.EncodeToken(id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("list of type %v by %d: got %q, want %q", c.statusType, c.limit, got, want)
		}
		if c.limit == 1 && pages != len(want) {
			t.Errorf("list by 1: got %d pages, want %d", pages, len(want))
		}
	}
}
