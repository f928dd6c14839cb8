package integration

import (
	"reflect"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

const days366 = 366 * 24 * 3600 // seconds, the furthest moment there is

// TestExpiry_WhileTheServiceIsDown: what ends while nobody runs has ended when the
// service answers again, and is announced; what is a year ahead stays, to the
// millisecond. (State machine: testdata/scenarios/expiry.txt.)
func TestExpiry_WhileTheServiceIsDown(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	for _, id := range []string{"short", "long"} {
		login(t, nc, id, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
	}
	set := func(id string, lasting protocol.Availability, seconds int64) protocol.Status {
		t.Helper()
		must[protocol.ChangeReply](t, nc, to(protocol.OpSet, id), protocol.SetRequest{Availability: &lasting})
		return must[protocol.ChangeReply](t, nc, to(protocol.OpSet, id), protocol.SetRequest{
			CustomStatus: protocol.Ptr("until then"), ExpiresInSeconds: &seconds,
			Availability: protocol.Ptr(protocol.DND), AvailabilityExpiresInSeconds: &seconds,
		}).Status
	}
	long := set("long", protocol.Away, days366)
	short := set("short", protocol.Busy, 2)
	kit.Stop(t)
	servicetest.Eventually(t, soon, "the moment", func() bool { return time.Now().After(short.CustomStatusExpiresAt.Time().Add(time.Second)) })
	kit.Server.Restart(t)
	servicetest.Eventually(t, soon, "the client to reconnect", nc.IsConnected)
	events := record(t, nc, subjects.AnyEvent(), subjects.AnySelf())
	kit.Instances = nil
	kit.AddInstance(t)

	reply := must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"short", "long"}}) // not fresh
	if st := reply.SuccessUserList[0]; st.CustomStatus != "" || st.CustomStatusExpiresAt != 0 || st.Availability != protocol.Busy {
		t.Errorf("after the moment: got %+v, want no text, and busy", st)
	}
	if st := reply.SuccessUserList[1]; st.CustomStatus != long.CustomStatus || st.CustomStatusExpiresAt != long.CustomStatusExpiresAt || st.Availability != protocol.DND || st.Revision != long.Revision {
		t.Errorf("a year before the moment: got %+v, want %+v", st, long)
	}
	own := must[protocol.OwnStatusReply](t, nc, to(protocol.OpStatus, "long"), "{}").Availability
	if own.Lasting != protocol.Away || own.Override != protocol.DND || own.OverrideExpiresAt != long.CustomStatusExpiresAt {
		t.Errorf("what is set: got %+v, want dnd over away until %v", own, long.CustomStatusExpiresAt)
	}
	servicetest.Eventually(t, soon, "the end to be announced", func() bool {
		list := events.events(t, "short")
		return len(list) == 1 && list[0].Cause == protocol.CauseExpired && list[0].PreviousRevision == short.Revision
	})
	self, _ := subjects.Self("short")
	servicetest.Eventually(t, soon, "the owner to be told what is set", func() bool {
		return events.has(self, `"type":"availability","availability":{"lasting":"busy"}`)
	})
	if len(events.events(t, "long")) > 0 {
		t.Errorf("announced of a moment a year ahead: %+v", events.events(t, "long"))
	}
}

// TestExpiry_Timer: a moment a year ahead does not keep the service from the next
// one, nor from being idle: a wait that overflowed would be over at once.
func TestExpiry_Timer(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	events := record(t, nc, subjects.AnyEvent())
	set := func(id string, seconds int64) protocol.Status {
		t.Helper()
		return must[protocol.ChangeReply](t, nc, to(protocol.OpSet, id), protocol.SetRequest{CustomStatus: protocol.Ptr("x"), ExpiresInSeconds: &seconds}).Status
	}
	far := set("far", days366)
	if year := far.CustomStatusExpiresAt - far.UpdatedAt; year != days366*1000 {
		t.Errorf("a year ahead are %d ms, want %d", year, days366*1000)
	}
	const entries = 4096 // revisions of one entry of the journal
	before := must[protocol.StatsReply](t, nc, subjects.Stats(), "{}")
	var after protocol.StatsReply
	servicetest.Eventually(t, soon, "five seconds of the journal", func() bool {
		after = must[protocol.StatsReply](t, nc, subjects.Stats(), "{}")
		return after.AsOf.Time().Sub(before.AsOf.Time()) >= 5*time.Second
	})
	if n := (after.Revision - before.Revision) / entries; n > 12 {
		t.Errorf("idle for %v: %d entries were appended, want one a second", after.AsOf.Time().Sub(before.AsOf.Time()), n)
	}
	near := set("near", 1)
	servicetest.Eventually(t, soon, "the near text to end", func() bool { return len(events.events(t, "near")) == 2 })
	end := events.events(t, "near")[1]
	if late := end.UpdatedAt - near.CustomStatusExpiresAt; end.Cause != protocol.CauseExpired || late < 0 || late > 5000 {
		t.Errorf("it ended %d ms late: %+v", late, end)
	}
	if st := fresh(t, nc, "far")[0]; !reflect.DeepEqual(st, far) {
		t.Errorf("the far text: got %+v, want %+v", st, far)
	}
}
