package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// admin is an operator's JetStream, with a function that changes the settings of a stream.
func admin(t *testing.T, kit *servicetest.Kit) (jetstream.JetStream, func(stream string, change func(*jetstream.StreamConfig))) {
	t.Helper()
	js, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	return js, func(stream string, change func(*jetstream.StreamConfig)) {
		t.Helper()
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		change(&cfg)
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContacts_BucketDeleted: the contacts' bucket is deleted under a running instance. The bucket
// is made anew, and requests are answered soon.
func TestContacts_BucketDeleted(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	js, _ := admin(t, kit)
	before := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"bob"}})
	if err := js.DeleteStream(t.Context(), "KV_PRESENCE_CONTACTS"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if got := contactsOf(t, nc, "alice", protocol.ContactsRequest{}); got.Version != 0 || len(got.Contacts) > 0 {
		t.Errorf("got %+v, want none", got)
	}
	if got := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"carol"}}); got.Version <= before.Version || len(got.Contacts) != 1 {
		t.Errorf("got %+v, want carol alone, at a version above %d", got, before.Version)
	}
	if took := time.Since(begun); took > protocol.OutcomeWithin {
		t.Errorf("to be answered took %v", took)
	}
	awaitHealth(t, kit.Instances[0].Service, "")
}

// TestG01_JournalMadeAnewByHand: the journal's stream is deleted and made anew under two running
// instances. Both end. One that is started with NewEpoch has what was acknowledged. So has another
// one that starts after it, from the journal and the snapshots alone.
func TestG01_JournalMadeAnewByHand(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	kit.AddInstance(t)
	js, _ := admin(t, kit)
	for i := range 20 {
		setText(t, kit, fmt.Sprint("user", i), "before")
	}
	stream, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "PRESENCE_JOURNAL"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	for _, i := range kit.Instances {
		select {
		case <-i.Done():
		case <-time.After(2 * waitFor):
			t.Fatalf("an instance goes on with a journal that was made anew; Health: %v", i.Service.Health())
		}
		if err := i.Err(); err == nil || !strings.Contains(err.Error(), "--new-epoch") {
			t.Errorf("Run: got %v, want an error that names --new-epoch", err)
		}
	}
	kit.AddInstance(t, servicetest.WithService(func(c *service.Config) { c.NewEpoch = true }))
	setText(t, kit, "user0", "after")
	kit.AddInstance(t)
	nc := kit.Connect(t)
	for range 10 { // by either instance
		if list := get(t, nc, "user0", "user19"); list[0].CustomStatus != "after" || list[1].CustomStatus != "before" {
			t.Fatalf("in the new epoch: got %+v, want what was set before and after", list)
		}
	}
}

// TestHealth_ContactsBucketChanged: a setting of the bucket is changed so that contacts would be
// lost. The instance is not ready, and says which setting it is and what to do.
func TestHealth_ContactsBucketChanged(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	_, set := admin(t, kit)
	set("KV_PRESENCE_CONTACTS", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	awaitHealth(t, kit.Instances[0].Service, "nats stream edit KV_PRESENCE_CONTACTS --max-age=0s")
	set("KV_PRESENCE_CONTACTS", func(c *jetstream.StreamConfig) { c.MaxAge = 0 })
	awaitHealth(t, kit.Instances[0].Service, "")
}

// TestG01_JournalPurged: the journal is purged under a running instance, and only that instance
// holds what was in it. It stores that, and the next instance continues from there.
func TestG01_JournalPurged(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	js, _ := admin(t, kit)
	setText(t, kit, "alice", "before")
	stream, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	first := kit.Instances[0]
	servicetest.Eventually(t, waitFor, "a snapshot", func() bool { return first.Service.Figures().Snapshot > 0 })
	awaitHealth(t, first.Service, "")
	first.Stop(t)
	kit.AddInstance(t)
	if st := get(t, nc, "alice")[0]; st.CustomStatus != "before" {
		t.Errorf("after a restart: got %+v, want the text", st)
	}
}

// TestHealth_JournalDeleted: the journal's stream is deleted. The instance stores what it holds, is
// not ready, and says what to do.
func TestHealth_JournalDeleted(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	js, _ := admin(t, kit)
	setText(t, kit, "alice", "before")
	if err := js.DeleteStream(t.Context(), "PRESENCE_JOURNAL"); err != nil {
		t.Fatal(err)
	}
	s := kit.Instances[0].Service
	awaitHealth(t, s, "was deleted, and nothing can be changed: the state as of position")
	if f := s.Figures(); f.Snapshot != f.Position {
		t.Errorf("Figures: got a snapshot of position %d, applied is %d", f.Snapshot, f.Position)
	}
}
