package service_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats-server/v2/server"
)

// TestVitals: an instance tells how it is doing, and what it tells is so.
func TestVitals(t *testing.T) {
	t.Parallel()
	k := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace, c.SnapshotEntries = 7*time.Second, 3 }),
		servicetest.WithBroker(func(c *broker.Config) { c.SyncAlways, c.PingInterval, c.PingMax = true, 9*time.Second, 4 }))
	nc := k.Connect(t)
	set, _ := subjects.User("alice", protocol.OpSet)
	must[protocol.ChangeReply](t, nc, set, protocol.SetRequest{CustomStatus: protocol.Ptr("x")})
	_ = request(t, nc, subjects.Get(), "text", nil) // is refused

	var reply protocol.InstanceReply
	servicetest.Eventually(t, waitFor, "all to be known", func() bool {
		reply = protocol.InstanceReply{}
		if err := json.Unmarshal(ask(t, nc, subjects.Instances(), "{}"), &reply); err != nil {
			t.Fatal(err)
		}
		v := reply.Vitals
		return v != nil && v.Snapshot != nil && v.Journal != nil && v.Server != nil
	})
	v := reply.Vitals
	if off := time.Since(v.Clock.Time()); off < -time.Minute || off > time.Minute || v.UptimeSeconds <= 0 || v.UptimeSeconds > waitFor.Seconds()+60 {
		t.Errorf("got the clock %v and %v s since the start", v.Clock, v.UptimeSeconds)
	}
	if v.Position == 0 || v.LagSeconds < 0 || v.Format == 0 || v.Format > v.MaxFormat || !v.SystemAccount || v.Impaired != "" || v.Mismatches != 0 {
		t.Errorf("got %+v", v)
	}
	if v.Refusals["invalid_request"] != 1 || v.Rules["grace"] != "7s" || v.Rules["max-sessions"] != "32" {
		t.Errorf("got the refusals %v and the rules %v", v.Refusals, v.Rules)
	}
	if x := v.Snapshot; x.Position == 0 || x.Position > v.Position || x.Bytes == 0 || math.Abs(x.AgeSeconds) > waitFor.Seconds()+60 {
		t.Errorf("got the snapshot %+v at position %d", x, v.Position)
	}
	if x := v.Journal; x.First == 0 || x.Last < x.First || x.Bytes == 0 || x.Replicas != 1 {
		t.Errorf("got the journal %+v", x)
	}
	x := *v.Server
	if x.DiskBytes == 0 || x.FreeBytes > x.DiskBytes {
		t.Errorf("got the disk %d of %d", x.FreeBytes, x.DiskBytes)
	}
	x.FreeBytes, x.DiskBytes = 0, 0
	if want := (protocol.ServerVitals{Version: server.VERSION, SyncAlways: true, PingIntervalSeconds: 9, PingMax: 4}); x != want {
		t.Errorf("got the server %+v, want %+v", x, want)
	}

	reply = protocol.InstanceReply{}
	if err := json.Unmarshal(ask(t, nc, subjects.Instances(), `{"limit":1}`), &reply); err != nil || reply.Vitals != nil || len(reply.Page) != 1 {
		t.Errorf("with a page: got %+v, %v, want no vitals", reply, err)
	}
}

// TestVitals_NoServer: on a NATS server elsewhere there is nothing to tell of it.
func TestVitals_NoServer(t *testing.T) {
	t.Parallel()
	k := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.System = nil }))
	var reply protocol.InstanceReply
	if err := json.Unmarshal(ask(t, k.Connect(t), subjects.Instances(), "{}"), &reply); err != nil {
		t.Fatal(err)
	}
	if v := reply.Vitals; v == nil || v.Server != nil || v.SystemAccount {
		t.Errorf("got %+v", v)
	}
}

// TestVitals_Reload: an instance tells the rules that it was given last.
func TestVitals_Reload(t *testing.T) {
	t.Parallel()
	k := servicetest.Start(t)
	nc := k.Connect(t)
	rules := func() map[string]string {
		var reply protocol.InstanceReply
		if err := json.Unmarshal(ask(t, nc, subjects.Instances(), "{}"), &reply); err != nil || reply.Vitals == nil {
			t.Fatalf("got %+v, %v", reply, err)
		}
		return reply.Vitals.Rules
	}
	for name, want := range map[string]string{"grace": "5s", "max-grace": "1m0s", "retention": "168h0m0s", "custom-status-policy": "session", "friend-notifications": "false", "max-sessions": "32"} {
		if got := rules()[name]; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	changed := service.Config{Clients: nc, Journal: nc, Grace: 9 * time.Second, CustomStatusPolicy: service.PolicyPersistent}
	changed.Limits.SessionsPerUser = 8
	if err := k.Instances[0].Service.Reload(changed); err != nil {
		t.Fatal(err)
	}
	if got := rules(); got["grace"] != "9s" || got["custom-status-policy"] != "persistent" || got["max-sessions"] != "8" {
		t.Errorf("after a reload: got %v", got)
	}
}
