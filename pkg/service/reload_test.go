package service_test

import (
	"strings"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// inForce asks for the limits that are in force.
func inForce(t *testing.T, k *servicetest.Kit) map[string]int64 {
	t.Helper()
	var reply protocol.StatsReply
	if e := request(t, k.Connect(t), wire.Stats(), struct{}{}, &reply); e != nil {
		t.Fatal(e)
	}
	return reply.Limits
}

// TestReload: limits and rules change in a service that runs, and what a user has used of an
// allowance stays used.
func TestReload(t *testing.T) {
	t.Parallel()
	var cfg service.Config
	k := servicetest.Start(t, servicetest.WithService(func(c *service.Config) {
		c.Limits = service.Limits{UserChanges: 4, CustomStatusBytes: 10}
		cfg = *c
	}))
	nc := k.Connect(t)
	set := func(user, s string) *protocol.Error {
		return request(t, nc, userSubject(t, user, protocol.OpSet), text(s), nil)
	}
	reload := func(change func(*service.Config)) {
		t.Helper()
		change(&cfg)
		if err := k.Instances[0].Service.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		set("alice", "x")
	}
	if e := set("alice", "x"); !is(e, protocol.ErrRateLimited) {
		t.Fatalf("the fifth of four changes: got %v", e)
	}
	reload(func(c *service.Config) { c.Limits.UserChanges = 1000 })
	var e *protocol.Error
	servicetest.Eventually(t, waitFor, "the higher limit to let alice in", func() bool { e = set("alice", "x"); return e == nil })
	for range 100 {
		if e := set("bob", "x"); e != nil {
			t.Fatalf("bob is refused below the higher limit: %v", e)
		}
	}
	reload(func(c *service.Config) { c.Limits.UserChanges = service.Unlimited })
	for range 1200 {
		if e := set("bob", "x"); e != nil {
			t.Fatalf("bob is refused without a limit: %v", e)
		}
	}
	reload(func(c *service.Config) { c.Limits.UserChanges = 1 })
	if a, b := set("carol", "x"), set("carol", "x"); a != nil || !is(b, protocol.ErrRateLimited) {
		t.Errorf("one change is allowed: got %v and %v", a, b)
	}

	if e := set("dave", strings.Repeat("x", 11)); !is(e, protocol.ErrCustomStatusTooLong) {
		t.Errorf("11 bytes of 10: got %v", e)
	}
	reload(func(c *service.Config) {
		c.Limits = service.Limits{UserChanges: service.Unlimited, CustomStatusBytes: 11, BodyBytes: 1000, WaitingChanges: 9, WaitingBytes: 9000, QueryBytes: 32 << 20, PendingBytes: 1 << 20, SessionsPerUser: 5}
	})
	if e := set("dave", strings.Repeat("x", 11)); e != nil {
		t.Errorf("11 bytes of 11: got %v", e)
	}
	servicetest.Eventually(t, waitFor, "the limit that goes through the journal", func() bool { return inForce(t, k)["max-sessions"] == 5 })
	for name, want := range map[string]int64{"max-custom-status": 11, "max-body": 1000, "waiting-changes": 9, "query-bytes": 32 << 20, "user-changes": -1} {
		if got := inForce(t, k)[name]; got != want {
			t.Errorf("%s: stats says %d, want %d", name, got, want)
		}
	}
	if e := request(t, nc, wire.Get(), protocol.GetRequest{UserIDList: []string{strings.Repeat("x", 1000)}}, nil); !is(e, protocol.ErrRequestTooLarge) {
		t.Errorf("a body over 1,000 bytes: got %v", e)
	}
	reload(func(c *service.Config) { c.MaxGrace = 2 * time.Second })
	servicetest.Eventually(t, waitFor, "the longest grace to be in force", func() bool {
		var lease protocol.LeaseReply
		e := request(t, nc, userSubject(t, "erin", protocol.OpLogin), protocol.LoginRequest{SessionID: "s", TTLSeconds: 90, GraceSeconds: 60}, &lease)
		return e == nil && lease.GraceSeconds == 5 // --grace is longer than 2 s
	})
}

// TestReload_Wrong: of a configuration that is wrong nothing is taken.
func TestReload_Wrong(t *testing.T) {
	t.Parallel()
	var cfg service.Config
	k := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { cfg = *c }))
	before := inForce(t, k)
	cfg.Limits.BodyBytes, cfg.Limits.QueryBytes = 500, -7
	if err := k.Instances[0].Service.Reload(cfg); err == nil || !strings.Contains(err.Error(), "query-bytes must be") {
		t.Errorf("got %v, want what is wrong", err)
	}
	if after := inForce(t, k); after["max-body"] != before["max-body"] || after["query-bytes"] != before["query-bytes"] {
		t.Errorf("the limits have changed: %v", after)
	}
}

// TestReload_LaterInstance: an instance that reloads other things leaves the rules of one that
// started later in force.
func TestReload_LaterInstance(t *testing.T) {
	t.Parallel()
	var cfg service.Config
	k := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { cfg = *c }))
	k.AddInstance(t, servicetest.WithService(func(c *service.Config) { c.Limits.SessionsPerUser = 7 }))
	servicetest.Eventually(t, waitFor, "the later rules", func() bool { return inForce(t, k)["max-sessions"] == 7 })
	cfg.Limits.BodyBytes = 500
	if err := k.Instances[0].Service.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	// The rules would go into the journal at the next tick. Entries come once a second.
	at := func() uint64 { return k.Instances[0].Service.Figures().Position }
	before := at()
	servicetest.Eventually(t, waitFor, "two more entries", func() bool { return at() >= before+2 })
	if got := inForce(t, k)["max-sessions"]; got != 7 {
		t.Errorf("max-sessions is %d, want that of the instance that started later, 7", got)
	}
}
