package service_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/servicetest"
	"presence/pkg/service/verify"
)

// TestG14_ForeignMessages: the journal's stream has messages that presenced did not write. The
// instances go on and hold the same, and a verification finds no difference.
func TestG14_ForeignMessages(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	kit.AddInstance(t)
	setText(t, kit, "alice", "before")
	nc := kit.ConnectAs(t, broker.Journal)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), journal.DefaultStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Subjects = append(cfg.Subjects, "elsewhere")
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := js.Publish(t.Context(), "elsewhere", []byte(`{"not":"an entry"}`)); err != nil {
			t.Fatal(err)
		}
		setText(t, kit, "alice", "after")
	}
	report, err := verify.Run(t.Context(), verify.Config{Clients: kit.Connect(t), Journal: nc})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Differences) > 0 || len(report.Instances) != 2 {
		t.Errorf("Run: got %+v, want no difference of two instances", report)
	}
}
