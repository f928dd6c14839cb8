package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// awaitTold waits until a client was told that a user has a status like this,
// as the latest.
func awaitTold(t *testing.T, told *wire.Teller, userID, what string, like func(protocol.Status) bool) {
	t.Helper()
	servicetest.Eventually(t, wire.Soon, "to be told that "+userID+" is "+what, func() bool {
		s, ok := told.Last()[userID]
		return ok && like(s)
	})
}

func hasType(want protocol.StatusType) func(protocol.Status) bool {
	return func(s protocol.Status) bool { return s.StatusType == want }
}

func hasText(want string) func(protocol.Status) bool {
	return func(s protocol.Status) bool { return s.CustomStatus == want }
}

// TestDaily_TwoDevices: what a user says on one device the other one hears,
// and others hear it too. The user is ONLINE until the last device is gone.
func TestDaily_TwoDevices(t *testing.T) {
	kit := servicetest.Start(t)
	phone, laptop, friend := wire.NewClient(t, kit.Connect(t), client.Options{}), wire.NewClient(t, kit.Connect(t), client.Options{}), wire.NewClient(t, kit.Connect(t), client.Options{})
	toldLaptop, toldFriend := wire.Listen(laptop), wire.Listen(friend)
	wire.Subscribe(t, laptop, "alice")
	wire.Subscribe(t, friend, "alice", "bob")
	awaitTold(t, toldFriend, "alice", "UNLOGINED", hasType(protocol.Unlogined))

	onPhone := wire.LoginClient(t, phone, "alice", client.LoginOptions{Device: "pixel", Platform: "android"})
	onLaptop := wire.LoginClient(t, laptop, "alice", client.LoginOptions{Device: "thinkpad", Platform: "linux"})
	said, err := onPhone.SetSelfStatus(t.Context(), "in a <meeting> & busy")
	if err != nil || said.CustomStatus != "in a <meeting> & busy" {
		t.Fatalf("SetSelfStatus: got %+v, %v", said, err)
	}
	awaitTold(t, toldLaptop, "alice", "in a meeting", hasText(said.CustomStatus))
	awaitTold(t, toldFriend, "alice", "in a meeting", hasText(said.CustomStatus))

	got, err := friend.GetUserStatus(t.Context(), []string{"alice"}, client.Detail(), client.Fresh())
	if err != nil || !slices.Equal(got.SuccessUserList[0].Platforms, []string{"android", "linux"}) {
		t.Errorf("GetUserStatus with Detail: got %+v, %v", got, err)
	}
	own, err := onLaptop.Status(t.Context())
	if err != nil || len(own.Sessions) != 2 || own.Sessions[0].Device != "pixel" || !own.Sessions[1].Bound {
		t.Errorf("Status: got %+v, %v", own, err)
	}

	if err := onPhone.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s := wire.Truth(t, kit.Connect(t), []string{"alice"})["alice"]; s.StatusType != protocol.Online || s.CustomStatus != said.CustomStatus {
		t.Errorf("with one device left: got %+v", s)
	}
	if err := onLaptop.Close(t.Context()); err != nil {
		t.Error(err)
	}
	awaitTold(t, toldFriend, "alice", "UNLOGINED", hasType(protocol.Unlogined))
	if _, err := onPhone.SetSelfStatus(t.Context(), "late"); !errors.Is(err, client.ErrSessionClosed) {
		t.Errorf("SetSelfStatus of a closed session: got %v", err)
	}
}

// TestDaily_NewLoginReplacesDevice: the earlier session learns of it and stays away.
func TestDaily_NewLoginReplacesDevice(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	first := wire.LoginClient(t, wire.NewClient(t, kit.Connect(t), client.Options{}), "alice", client.LoginOptions{Device: "pixel", TTL: protocol.MinTTL})
	second := wire.LoginClient(t, wire.NewClient(t, kit.Connect(t), client.Options{}), "alice", client.LoginOptions{Device: "pixel"})
	select { // it learns with its next renewal
	case <-first.Done():
	case <-time.After(wire.Soon):
		t.Fatalf("the replaced session did not end within %v", wire.Soon)
	}
	if !errors.Is(first.Err(), protocol.ErrSessionReplaced) {
		t.Errorf("Err of the replaced session: got %v", first.Err())
	}
	own, err := second.Status(t.Context())
	if err != nil || len(own.Sessions) != 1 || own.Sessions[0].SessionID != second.ID() {
		t.Errorf("sessions: got %+v, %v", own.Sessions, err)
	}
}

// TestDaily_TextExpires at its time, and tells so.
func TestDaily_TextExpires(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	c := wire.NewClient(t, kit.Connect(t), client.Options{})
	events := wire.Record(t, kit.Connect(t), wire.Subjects.AnyEvent())
	told := wire.Listen(c)
	wire.Subscribe(t, c, "alice")
	s := wire.LoginClient(t, c, "alice", client.LoginOptions{})
	began := time.Now()
	set, err := s.SetSelfStatus(t.Context(), "for a second", client.ExpiresIn(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if in := set.CustomStatusExpiresAt.Time().Sub(set.UpdatedAt.Time()); in != time.Second {
		t.Errorf("customStatusExpiresAt is %v after updatedAt, want 1s", in)
	}
	awaitTold(t, told, "alice", "without a text", func(s protocol.Status) bool { return s.Revision > set.Revision && s.CustomStatus == "" })
	list := events.Events(t, "alice")
	last := list[len(list)-1]
	if last.Cause != protocol.CauseExpired || last.StatusType != protocol.Online || last.CustomStatusExpiresAt != 0 || last.PreviousRevision != set.Revision {
		t.Errorf("event: got %+v", last.Event)
	}
	if took := last.At.Sub(began); took < time.Second {
		t.Errorf("the text expired after %v", took)
	}
}

// TestDaily_TextAndLogout: by policy the text goes with the last session, or stays.
func TestDaily_TextAndLogout(t *testing.T) {
	for policy, want := range map[string]string{service.PolicySession: "", service.PolicyPersistent: "on holiday"} {
		t.Run(policy, func(t *testing.T) {
			kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.CustomStatusPolicy = policy }))
			c := wire.NewClient(t, kit.Connect(t), client.Options{})
			s := wire.LoginClient(t, c, "alice", client.LoginOptions{})
			if _, err := s.SetSelfStatus(t.Context(), "on holiday"); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := c.GetUserStatus(t.Context(), []string{"alice"}) // the client reads its own writes
			if err != nil {
				t.Fatal(err)
			}
			if a := got.SuccessUserList[0]; a.StatusType != protocol.Unlogined || a.CustomStatus != want || a.LastSeenAt == 0 {
				t.Errorf("after the logout: got %+v, want UNLOGINED with the text %q", a, want)
			}
			// A text may be set in every statusType.
			if set, err := c.SetSelfStatus(t.Context(), "alice", "gone fishing"); err != nil || set.CustomStatus != "gone fishing" || set.StatusType != protocol.Unlogined {
				t.Errorf("SetSelfStatus without a session: got %+v, %v", set, err)
			}
		})
	}
}

// TestDaily_SettingTheSameIsNoChange: neither an event nor a revision.
func TestDaily_SettingTheSameIsNoChange(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	events := wire.Record(t, kit.Connect(t), wire.Subjects.AnyEvent())
	first := wire.SetText(t, nc, "alice", "hello")
	again := wire.SetText(t, nc, "alice", "hello")
	if again.Status.Revision != first.Status.Revision || again.Revision <= first.Revision {
		t.Errorf("set of the same: got %+v after %+v", again, first)
	}
	last := wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, "alice"), protocol.SetRequest{CustomStatus: protocol.Ptr("bye"), IfRevision: &first.Status.Revision})
	servicetest.Eventually(t, wire.Soon, "the last event", func() bool { return events.Has(wire.Subjects.Prefix()+".status.alice", "bye") })
	list := events.Events(t, "alice")
	if len(list) != 2 || list[1].PreviousRevision != first.Status.Revision || list[1].Revision != last.Status.Revision {
		t.Errorf("events: got %+v, want two", list)
	}
}

// TestDaily_FireAndForget: a request without a reply subject is done all the same.
func TestDaily_FireAndForget(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
	for _, request := range []struct {
		op, body string
		like     func(protocol.Status) bool
	}{
		{protocol.OpLogin, `{"sessionID":"s","ttlSeconds":5}`, hasType(protocol.Online)},
		{protocol.OpSet, `{"customStatus":"hello"}`, hasText("hello")},
		{"", "", hasType(protocol.Offline)}, // by its TTL
		{protocol.OpRenew, `{"sessionID":"s"}`, hasType(protocol.Online)},
		{protocol.OpLogout, `{"all":true}`, hasType(protocol.Unlogined)},
	} {
		if request.op != "" {
			if err := nc.Publish(wire.To(request.op, "alice"), []byte(request.body)); err != nil {
				t.Fatal(err)
			}
		}
		servicetest.Eventually(t, wire.Soon, "the event of "+request.op, func() bool {
			list := events.Events(t, "alice")
			return len(list) > 0 && request.like(list[len(list)-1].Status)
		})
	}
}

// TestDaily_WatchMany watches 1,000 users and some who cannot be, and stops.
func TestDaily_WatchMany(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	c := wire.NewClient(t, kit.Connect(t), client.Options{})
	told := wire.Listen(c)
	users := wire.Names("user ", 1000)
	failures, err := c.SubscribeUserStatus(t.Context(), append([]string{"", "a\nb"}, users...))
	if err != nil || len(failures) != 2 || failures[0].UserID != "" || !errors.Is(failures[1].Err(), protocol.ErrInvalidUserID) {
		t.Errorf("SubscribeUserStatus: got %+v, %v, want two failures", failures, err)
	}
	servicetest.Eventually(t, wire.Soon, "to be told of all", func() bool { return len(told.Last()) == len(users) })

	nc := kit.Connect(t)
	for _, id := range users {
		wire.Login(t, nc, id, protocol.LoginRequest{TTLSeconds: 3600})
	}
	servicetest.Eventually(t, wire.Soon, "all to be ONLINE", func() bool {
		last := told.Last()
		return !slices.ContainsFunc(users, func(id string) bool { return last[id].StatusType != protocol.Online })
	})
	if s, ok := c.Watched(users[999]); !ok || s.StatusType != protocol.Online {
		t.Errorf("Watched(%q): got %+v, %v", users[999], s, ok)
	}

	if _, err := c.UnsubscribeUserStatus(t.Context(), users[1:]...); err != nil {
		t.Fatal(err)
	}
	before := len(told.All())
	for _, id := range users {
		wire.SetText(t, nc, id, "anybody there?")
	}
	wire.SetText(t, nc, users[0], "the last")
	awaitTold(t, told, users[0], "at the end", hasText("the last"))
	for _, s := range told.All()[before:] {
		if s.UserID != users[0] {
			t.Errorf("told of a user who is not watched any more: %+v", s)
		}
	}
	if s, ok := c.Watched(users[1]); ok || s.StatusType != protocol.Unknown {
		t.Errorf("Watched of a user who is not: got %+v, %v", s, ok)
	}
}

// TestDaily_GetMany: a get of more users than fit in one request is answered
// as if they had.
func TestDaily_GetMany(t *testing.T) {
	kit := servicetest.Start(t)
	c := wire.NewClient(t, kit.Connect(t), client.Options{})
	users := wire.Names("u", 1200)
	wire.SetText(t, kit.Connect(t), users[1199], "the last one")
	long := strings.Repeat("x", 129)
	got, err := c.GetUserStatus(t.Context(), slices.Concat(users[:600], []string{"", "u7", long}, users[600:], []string{"", "u0"}), client.Fresh())
	if err != nil {
		t.Fatal(err)
	}
	if ids := wire.UserIDs(got.SuccessUserList); !slices.Equal(ids, users) {
		t.Errorf("successUserList: got %d users, want %d in the order asked, each once", len(ids), len(users))
	} else if last := got.SuccessUserList[1199]; last.CustomStatus != "the last one" {
		t.Errorf("the last user: got %+v", last)
	}
	if f := got.FailureUserList; len(f) != 2 || f[0].UserID != "" || f[1].UserID != long || !errors.Is(f[0].Err(), protocol.ErrInvalidUserID) {
		t.Errorf("failureUserList: got %+v", f)
	}
	if got.Revision == 0 || got.Epoch == "" || got.AsOf == 0 || got.Stale {
		t.Errorf("the result is as of: got %d %q %v %v", got.Revision, got.Epoch, got.AsOf, got.Stale)
	}
}

// TestDaily_LongTexts: the statuses of 500 users do not fit into one reply when
// their texts are long and escaped. Nobody who asks or watches has to know.
func TestDaily_LongTexts(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), wire.Names("u", 500)
	for _, id := range users {
		wire.SetText(t, nc, id, strings.Repeat(`\`, protocol.MaxCustomStatusBytes))
	}
	c := wire.NewClient(t, kit.Connect(t), client.Options{})
	if got, err := c.GetUserStatus(t.Context(), users); err != nil || len(got.SuccessUserList) != len(users) {
		t.Errorf("GetUserStatus: got %d users, %v", len(got.SuccessUserList), err)
	}
	if failures, err := c.SubscribeUserStatus(t.Context(), users); err != nil || len(failures) > 0 {
		t.Errorf("SubscribeUserStatus: got %+v, %v", failures, err)
	}
}

// TestDaily_Discovery: the service is a NATS micro service, and what it says
// of itself is true.
func TestDaily_Discovery(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	ping := wire.Must[micro.Ping](t, nc, "$SRV.PING.presence", "")
	info := wire.Must[micro.Info](t, nc, "$SRV.INFO.presence."+ping.ID, "")
	if ping.Name != protocol.ServiceName || info.ID != ping.ID || info.Version == "" {
		t.Errorf("PING and INFO: got %+v and %+v", ping, info)
	}
	var served []string
	for _, e := range info.Endpoints {
		served = append(served, e.Subject)
	}
	for _, o := range ops {
		if !slices.Contains(served, wire.Subjects.AnyUser(o.op)) {
			t.Errorf("INFO: %s is not among %q", wire.Subjects.AnyUser(o.op), served)
		}
	}

	for i := range 5 {
		wire.SetText(t, nc, "alice", fmt.Sprint(i))
	}
	for range 3 {
		wire.Refused(t, nc, wire.To(protocol.OpSet, "alice"), "{}", protocol.ErrInvalidRequest)
	}
	wire.Refused(t, nc, wire.To(protocol.OpSet, "alice"), `{"customStatus":"x","ifRevision":1}`, protocol.ErrRevisionConflict)
	wire.Fresh(t, nc, "alice")
	wire.Fresh(t, nc, "alice")

	want := service.EndpointStats{Requests: 9, Errors: 4, ErrorsByName: map[string]uint64{"invalid_request": 3, "revision_conflict": 1}}
	servicetest.Eventually(t, wire.Soon, "the figures to be true", func() bool {
		set, get := stats(t, nc, wire.Subjects.AnyUser(protocol.OpSet)), stats(t, nc, wire.Subjects.Get())
		return set.Requests == want.Requests && set.Errors == want.Errors && set.AverageMs > 0 &&
			fmt.Sprint(set.ErrorsByName) == fmt.Sprint(want.ErrorsByName) && get.Requests == 2 && get.Errors == 0
	})
}

// stats sums the figures of all endpoints on a subject.
func stats(t *testing.T, nc *nats.Conn, subject string) (sum service.EndpointStats) {
	t.Helper()
	sum.ErrorsByName = map[string]uint64{}
	for _, e := range wire.Must[micro.Stats](t, nc, "$SRV.STATS.presence", "").Endpoints {
		if e.Subject != subject {
			continue
		}
		var s service.EndpointStats
		if err := json.Unmarshal(e.Data, &s); err != nil {
			t.Fatal(err)
		}
		sum.Requests += s.Requests
		sum.Errors += s.Errors
		sum.AverageMs = max(sum.AverageMs, s.AverageMs)
		for name, n := range s.ErrorsByName {
			sum.ErrorsByName[name] += n
		}
	}
	return sum
}
