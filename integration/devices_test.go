package integration

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// TestDevices_AllAreTold: whatever one device does, and whatever happens to one,
// both devices of a user are told; others are told only what they may see.
func TestDevices_AllAreTold(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = 200 * time.Millisecond }))
	phone, laptop, others := kit.Connect(t), kit.Connect(t), kit.Connect(t)
	self, _ := wire.Subjects.Self("alice")
	devices := []*wire.Recorder{wire.Record(t, phone, self), wire.Record(t, laptop, self)}
	public := wire.Record(t, others, wire.Subjects.AnyEvent())

	// told waits until both devices were told of something.
	last := map[string]protocol.SelfEvent{}
	told := func(what string, holds func(protocol.SelfEvent) bool) {
		t.Helper()
		for _, r := range devices {
			servicetest.Eventually(t, wire.Soon, "both devices to be told of "+what, func() bool {
				return slices.ContainsFunc(selfEvents(t, r), func(e protocol.SelfEvent) bool {
					if !holds(e) {
						return false
					}
					last[what] = e
					return true
				})
			})
		}
	}
	sessions := func(n int, holds func([]protocol.Session) bool) func(protocol.SelfEvent) bool {
		return func(e protocol.SelfEvent) bool {
			return e.Type == protocol.SelfSessions && len(e.Sessions) == n && e.Revision > 0 && e.Epoch != "" && holds(e.Sessions)
		}
	}
	status := func(holds func(protocol.Status) bool) func(protocol.SelfEvent) bool {
		return func(e protocol.SelfEvent) bool {
			return e.Type == protocol.SelfStatus && e.Status != nil && holds(*e.Status)
		}
	}

	wire.Login(t, phone, "alice", protocol.LoginRequest{SessionID: "s1", Device: "pixel", Platform: "android", TTLSeconds: 3600})
	told("the login", status(func(s protocol.Status) bool { return s.StatusType == protocol.Online }))
	wire.Login(t, laptop, "alice", protocol.LoginRequest{SessionID: "s2", Platform: "linux", TTLSeconds: 3600, Connection: wire.BoundTo(laptop)})
	told("the second session", sessions(2, func(s []protocol.Session) bool { return s[1].SessionID == "s2" && s[1].Live && s[1].Bound }))
	wire.Login(t, laptop, "alice", protocol.LoginRequest{SessionID: "s3", Platform: "linux", TTLSeconds: 3600})
	st := wire.Must[protocol.GetReply](t, others, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}, Fresh: true, Detail: true}).SuccessUserList[0]
	if !slices.Equal(st.Platforms, []string{"android", "linux"}) {
		t.Errorf("platforms: got %v, want each once, sorted", st.Platforms)
	}
	if st := wire.Fresh(t, others, "alice")[0]; st.Platforms != nil {
		t.Errorf("platforms without detail: got %v", st.Platforms)
	}

	wire.SetText(t, laptop, "alice", "at lunch")
	told("the text", status(func(s protocol.Status) bool { return s.CustomStatus == "at lunch" }))
	wire.Must[protocol.ChangeReply](t, phone, wire.To(protocol.OpRenew, "alice"), protocol.RenewRequest{SessionID: "s1", Idle: protocol.Ptr(true)})
	told("an idle session", sessions(3, func(s []protocol.Session) bool { return s[0].Idle }))
	wire.Must[protocol.ChangeReply](t, phone, wire.To(protocol.OpSet, "alice"), protocol.SetRequest{Availability: protocol.Ptr(protocol.Invisible), AvailabilityExpiresInSeconds: protocol.Ptr[int64](3600)})
	told("what is set", func(e protocol.SelfEvent) bool {
		a := e.Availability
		return e.Type == protocol.SelfAvailability && a != nil && a.Lasting == protocol.Available && a.Override == protocol.Invisible && a.OverrideExpiresAt != 0
	})
	told("being invisible", status(func(s protocol.Status) bool { return s.Availability == protocol.Invisible }))
	wire.SetText(t, laptop, "alice", "hidden")
	told("the text of the invisible", status(func(s protocol.Status) bool { return s.CustomStatus == "hidden" }))
	wire.Must[protocol.ContactsReply](t, phone, wire.To(protocol.OpContacts, "alice"), protocol.ContactsRequest{Add: []string{"bob"}})
	told("the contacts", func(e protocol.SelfEvent) bool {
		return e.Type == protocol.SelfContacts && slices.Equal(e.Added, []string{"bob"}) && e.Version > 0
	})
	wire.Must[protocol.KickReply](t, others, wire.Subjects.Kick(), protocol.KickRequest{UserID: "alice", SessionID: "s1"})
	told("the kick", func(e protocol.SelfEvent) bool {
		return e.Type == protocol.SelfKicked && e.SessionID == "s1" && e.Reason == protocol.EndKicked
	})
	wire.Login(t, phone, "alice", protocol.LoginRequest{SessionID: "s4", Device: "pixel", Platform: "android", TTLSeconds: 3600})
	wire.Login(t, phone, "alice", protocol.LoginRequest{SessionID: "s5", Device: "pixel", Platform: "android", TTLSeconds: 3600})
	told("the replacement", func(e protocol.SelfEvent) bool {
		return e.Type == protocol.SelfKicked && e.SessionID == "s4" && e.Reason == protocol.EndReplaced
	})

	if e := last["the text of the invisible"]; e.Status.Revision <= last["being invisible"].Status.Revision {
		t.Errorf("the owner's revisions do not rise: %d, then %d", last["being invisible"].Status.Revision, e.Status.Revision)
	}
	for _, r := range devices {
		for _, e := range selfEvents(t, r) {
			if e.Type == protocol.SelfStatus && e.Cause == "" || e.Type != protocol.SelfContacts && e.Epoch == "" {
				t.Errorf("told without a cause or an epoch: %+v", e)
			}
		}
	}
	public.Await(t, wire.Soon, "alice", protocol.Offline)
	heard := public.Events(t, "alice")
	if n := len(heard); n != 3 || heard[1].CustomStatus != "at lunch" || heard[2].StatusType != protocol.Offline {
		t.Errorf("others were told %+v, want the login, the text, and that she is OFFLINE", heard)
	}
}

// selfEvents returns a user's own events in the order of arrival.
func selfEvents(t testing.TB, r *wire.Recorder) (list []protocol.SelfEvent) {
	t.Helper()
	for _, m := range r.All() {
		var e protocol.SelfEvent
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatalf("event on %s: %v: %s", m.Subject, err, m.Data)
		}
		list = append(list, e)
	}
	return list
}
