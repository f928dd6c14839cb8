package integration

import (
	"reflect"
	"testing"
	"time"

	"presence/integration/internal/wire"
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
		wire.Login(t, nc, id, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
	}
	set := func(id string, lasting protocol.Availability, seconds int64) protocol.Status {
		t.Helper()
		wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, id), protocol.SetRequest{Availability: &lasting})
		return wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, id), protocol.SetRequest{
			CustomStatus: protocol.Ptr("until then"), ExpiresInSeconds: &seconds,
			Availability: protocol.Ptr(protocol.DND), AvailabilityExpiresInSeconds: &seconds,
		}).Status
	}
	long := set("long", protocol.Away, days366)
	short := set("short", protocol.Busy, 2)
	kit.Stop(t)
	servicetest.Eventually(t, wire.Soon, "the moment", func() bool { return time.Now().After(short.CustomStatusExpiresAt.Time().Add(time.Second)) })
	kit.Server.Restart(t)
	servicetest.Eventually(t, wire.Soon, "the client to reconnect", nc.IsConnected)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent(), wire.Subjects.AnySelf())
	kit.Instances = nil
	kit.AddInstance(t)

	reply := wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"short", "long"}}) // not fresh
	if st := reply.SuccessUserList[0]; st.CustomStatus != "" || st.CustomStatusExpiresAt != 0 || st.Availability != protocol.Busy {
		t.Errorf("after the moment: got %+v, want no text, and busy", st)
	}
	if st := reply.SuccessUserList[1]; st.CustomStatus != long.CustomStatus || st.CustomStatusExpiresAt != long.CustomStatusExpiresAt || st.Availability != protocol.DND || st.Revision != long.Revision {
		t.Errorf("a year before the moment: got %+v, want %+v", st, long)
	}
	own := wire.Must[protocol.OwnStatusReply](t, nc, wire.To(protocol.OpStatus, "long"), "{}").Availability
	if own.Lasting != protocol.Away || own.Override != protocol.DND || own.OverrideExpiresAt != long.CustomStatusExpiresAt {
		t.Errorf("what is set: got %+v, want dnd over away until %v", own, long.CustomStatusExpiresAt)
	}
	servicetest.Eventually(t, wire.Soon, "the end to be announced", func() bool {
		list := events.Events(t, "short")
		return len(list) == 1 && list[0].Cause == protocol.CauseExpired && list[0].PreviousRevision == short.Revision
	})
	self, _ := wire.Subjects.Self("short")
	servicetest.Eventually(t, wire.Soon, "the owner to be told what is set", func() bool {
		return events.Has(self, `"type":"availability","availability":{"lasting":"busy"}`)
	})
	if len(events.Events(t, "long")) > 0 {
		t.Errorf("announced of a moment a year ahead: %+v", events.Events(t, "long"))
	}
}

// TestExpiry_Timer: a moment a year ahead does not keep the service from the next
// one, nor from being idle: a wait that overflowed would be over at once.
func TestExpiry_Timer(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
	set := func(id string, seconds int64) protocol.Status {
		t.Helper()
		return wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, id), protocol.SetRequest{CustomStatus: protocol.Ptr("x"), ExpiresInSeconds: &seconds}).Status
	}
	far := set("far", days366)
	if year := far.CustomStatusExpiresAt - far.UpdatedAt; year != days366*1000 {
		t.Errorf("a year ahead are %d ms, want %d", year, days366*1000)
	}
	const entries = 4096 // revisions of one entry of the journal
	before := wire.Must[protocol.StatsReply](t, nc, wire.Subjects.Stats(), "{}")
	var after protocol.StatsReply
	servicetest.Eventually(t, wire.Soon, "five seconds of the journal", func() bool {
		after = wire.Must[protocol.StatsReply](t, nc, wire.Subjects.Stats(), "{}")
		return after.AsOf.Time().Sub(before.AsOf.Time()) >= 5*time.Second
	})
	if n := (after.Revision - before.Revision) / entries; n > 12 {
		t.Errorf("idle for %v: %d entries were appended, want one a second", after.AsOf.Time().Sub(before.AsOf.Time()), n)
	}
	near := set("near", 1)
	servicetest.Eventually(t, wire.Soon, "the near text to end", func() bool { return len(events.Events(t, "near")) == 2 })
	end := events.Events(t, "near")[1]
	if late := end.UpdatedAt - near.CustomStatusExpiresAt; end.Cause != protocol.CauseExpired || late < 0 || late > 5000 {
		t.Errorf("it ended %d ms late: %+v", late, end)
	}
	if st := wire.Fresh(t, nc, "far")[0]; !reflect.DeepEqual(st, far) {
		t.Errorf("the far text: got %+v, want %+v", st, far)
	}
}
