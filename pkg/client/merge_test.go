package client // white box: the decision itself, without NATS and time

import (
	"testing"

	"presence/pkg/protocol"
)

func TestMerge(t *testing.T) {
	type step struct {
		kind     string // "event", or "snapshot" as of asOf
		revision uint64
		asOf     uint64
		tells    bool
	}
	event := func(revision uint64, tells bool) step { return step{"event", revision, revision, tells} }
	snapshot := func(revision, asOf uint64, tells bool) step { return step{"snapshot", revision, asOf, tells} }

	for _, tt := range []struct {
		name  string
		steps []step
		want  uint64 // revision of the status in the end
	}{
		{"a user never seen, in an empty journal", []step{snapshot(0, 0, true)}, 0},
		{"the first snapshot is told, the same again is not", []step{snapshot(5, 9, true), snapshot(5, 9, false), snapshot(5, 20, false)}, 5},
		{"a change is told once", []step{snapshot(5, 9, true), event(10, true), event(10, false)}, 10},
		{"an event that the snapshot includes", []step{snapshot(5, 9, true), event(5, false), event(9, false)}, 5},
		{"a late event", []step{snapshot(5, 9, true), event(12, true), event(10, false)}, 12},
		{"an event before the snapshot waits for it", []step{event(10, false), snapshot(5, 9, true)}, 10},
		{"a snapshot newer than the event before it", []step{event(10, false), snapshot(12, 15, true)}, 12},
		{"a snapshot that overtook the event of its change", []step{snapshot(5, 9, true), snapshot(12, 15, true), event(12, false)}, 12},
		{"a snapshot of an instance that lags", []step{snapshot(5, 9, true), event(12, true), snapshot(5, 11, false)}, 12},
		{"a change that was never announced", []step{snapshot(5, 9, true), snapshot(7, 11, true)}, 7},
		{"a user who was forgotten", []step{snapshot(5, 9, true), snapshot(0, 30, true)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var k known
			for i, s := range tt.steps {
				status := protocol.Status{UserID: "u", Revision: s.revision}
				var tells bool
				if s.kind == "event" {
					tells = k.event(status)
				} else {
					tells = k.snapshot(status, s.asOf)
				}
				if tells != s.tells {
					t.Errorf("step %d, %+v: tells = %v", i, s, tells)
				}
			}
			if k.status.Revision != tt.want {
				t.Errorf("in the end: revision %d, want %d", k.status.Revision, tt.want)
			}
		})
	}
}
