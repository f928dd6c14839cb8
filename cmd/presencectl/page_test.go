package main

import (
	"strings"
	"testing"
	"time"

	"presence/pkg/protocol"
)

func wantPage(t *testing.T, name string, page [][][]string, want string) {
	t.Helper()
	var b strings.Builder
	if err := writePage(&b, page...); err != nil {
		t.Fatal(err)
	}
	if got := "\n" + b.String(); got != want {
		t.Errorf("%s: got %s\nwant %s", name, got, want)
	}
}

func TestStatsPage(t *testing.T) {
	wantPage(t, "stats", statsPage(protocol.StatsReply{
		Users:    protocol.UserCounts{Online: 3, Offline: 2, Unlogined: 1},
		Sessions: map[string]int{"android": 1, "web": 3, "mac": 1},
		Leases:   7, Gateways: 1,
		Instances: []protocol.InstanceStats{
			{Writer: "presence-1:1=2E4=2E0:5f3a9c0e1b2d4f67", Host: "presence-1", Version: "1.4.0", SilentMs: 250, Owes: 2, Format: 1, Answering: true},
			{Writer: "w22", SilentMs: 61_000, Format: 1},
		},
		Limits:   map[string]int64{"max-custom-status": 512, "rate": 20},
		Refusals: map[string]uint64{"invalid_request": 4},
		Revision: 339521537, Epoch: "e1", AsOf: at(0),
	}), `
users     3 online, 2 offline, 1 unlogined
sessions  5 live: web 3, android 1, mac 1
leases    7: sessions, lost ones included, and 1 gateway
journal   revision 339521537 of epoch e1, as of `+clock(now, time.Now())+`
answered  by presence-1/5f3a9c0e

INSTANCE             VERSION  SEEN    PENDING  FORMAT
presence-1/5f3a9c0e  1.4.0    0s ago  2        1
w22                  -        1m ago  0        1

LIMIT              VALUE
max-custom-status  512
rate               20

REFUSED          TIMES
invalid_request  4
`)
	wantPage(t, "stats of nothing", statsPage(protocol.StatsReply{Epoch: "e1"}), `
users     0 online, 0 offline, 0 unlogined
sessions  none live
leases    0: sessions, lost ones included, and 0 gateways
journal   revision 0 of epoch e1
answered  -
`)
}

func TestExplainPage(t *testing.T) {
	alice := protocol.Status{UserID: "alice", StatusType: protocol.Online, Availability: protocol.Busy,
		CustomStatus: "in a meeting", CustomStatusExpiresAt: at(time.Hour), Revision: 339521537, UpdatedAt: at(-2 * time.Minute)}
	wantPage(t, "explain", explainPage(protocol.ExplainReply{
		Public: alice, Owner: alice,
		Why:          []string{"a session is live", "an override says busy"},
		Availability: protocol.AvailabilitySettings{Lasting: protocol.Available, Override: protocol.Busy, OverrideExpiresAt: at(time.Hour)},
		Sessions: []protocol.SessionDetail{
			{Session: protocol.Session{SessionID: "s1", Platform: "web", Device: "laptop", Live: true, TTLSeconds: 30, GraceSeconds: 20, LoginAt: at(-time.Hour)},
				EndsInSeconds: 12.5, Connection: &protocol.Connection{ServerID: "NABC", ClientID: 12}, ClosedSeconds: 1.25},
			{Session: protocol.Session{SessionID: "s2", Platform: "ios", Live: true, Idle: true, Gateway: "gw1", LoginAt: at(-time.Minute)},
				EndsInSeconds: -3, Process: "p1"},
			{Session: protocol.Session{SessionID: "s3", Platform: "web", LoginAt: at(-2 * time.Hour), LostAt: at(-time.Hour)}, EndsInSeconds: 600_000},
		},
		Ended:  []protocol.EndedSession{{SessionID: "s0", Reason: protocol.EndReplaced, RememberedForSeconds: 3600}},
		OwedBy: "presence-1:1=2E4=2E0:5f3a9c0e1b2d4f67",
	}, now), `
alice is ONLINE busy "in a meeting", because
  a session is live
  an override says busy

availability  busy, which ends in 1h; then available
text          "in a meeting", which is cleared in 1h
changed       2m ago, revision 339521537
announcing    not known to be done; it is with instance presence-1/5f3a9c0e

session s1
  live; logged in 1h ago, lost in 13s
  platform web, device "laptop"
  held by renewals, ttl 30s; connection 12 of server NABC, grace 20s, closed 1s
    ago
session s2
  live, idle; logged in 1m ago, lost in 0s unless it is renewed
  platform ios
  held by gateway gw1, process p1
session s3
  lost 1h ago; logged in 2h ago, forgotten in 7d
  platform web

ENDED SESSION  BECAUSE   REFUSED FOR
s0             replaced  1h
`)

	// Who is invisible looks different to everybody else.
	owner := alice
	owner.CustomStatus = "👩\u200d💻"
	owner.Availability = protocol.Invisible
	wantPage(t, "explain of an invisible user", explainPage(protocol.ExplainReply{
		Public: protocol.Status{UserID: "alice", StatusType: protocol.Offline, LastSeenAt: at(-time.Minute), Revision: 1, UpdatedAt: at(-time.Minute)},
		Owner:  owner, Why: []string{"invisible by the lasting value"},
		Availability: protocol.AvailabilitySettings{Lasting: protocol.Invisible},
	}, now), `
alice is OFFLINE to everybody else
and ONLINE invisible "👩‍💻" to alice, because
  invisible by the lasting value

availability  invisible
text          "👩‍💻", which is cleared in 1h
last seen     1m ago
changed       1m ago, revision 1
`)
	wantPage(t, "explain of nobody", explainPage(protocol.ExplainReply{
		Public: protocol.Status{UserID: "x\x1b[2J", StatusType: protocol.Unlogined}, Owner: protocol.Status{UserID: "x\x1b[2J", StatusType: protocol.Unlogined},
		Why: []string{"nothing is known"}, Availability: protocol.AvailabilitySettings{Lasting: protocol.Available}, ForgottenInSeconds: 60,
	}, now), `
x�[2J is UNLOGINED, because
  nothing is known

availability  available
forgotten     in 1m if nothing happens
`)
}
