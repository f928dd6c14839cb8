package contacts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/servicetest"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

func open(t *testing.T) (jetstream.JetStream, *contacts.Store) {
	t.Helper()
	js, err := jetstream.New(servicetest.StartBroker(t).ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	s, err := contacts.Open(t.Context(), contacts.Config{JetStream: js})
	if err != nil {
		t.Fatal(err)
	}
	return js, s
}

// TestStore_IsAKVBucket: other tools can read it.
func TestStore_IsAKVBucket(t *testing.T) {
	js, s := open(t)
	for range 2 { // the second changes nothing
		if _, err := s.Change(t.Context(), "alice@example.com", &protocol.ContactsRequest{Add: []string{"carol", "bob"}}); err != nil {
			t.Fatal(err)
		}
	}
	kv, err := js.KeyValue(t.Context(), contacts.DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), "alice=40example=2Ecom")
	if err != nil || string(e.Value()) != `["bob","carol"]` || e.Revision() != 1 {
		t.Errorf("the bucket holds %+v, %v", e, err)
	}
	// One who deletes a key by hand leaves a mark, which counts as no contacts.
	if err := kv.Delete(t.Context(), "alice=40example=2Ecom"); err != nil {
		t.Fatal(err)
	}
	changed, err := s.Change(t.Context(), "alice@example.com", &protocol.ContactsRequest{Add: []string{"dave"}})
	if err != nil || !slices.Equal(changed.Users, []string{"dave"}) || changed.Previous != 2 || changed.Version != 3 {
		t.Errorf("after a deletion by hand: got %+v, %v", changed, err)
	}
}

// TestStore_Race: of changes of the same contacts by several stores each is
// made once.
func TestStore_Race(t *testing.T) {
	js, s := open(t)
	const stores, each = 5, 10
	var racing sync.WaitGroup
	for i := range stores {
		other, err := contacts.Open(t.Context(), contacts.Config{JetStream: js})
		if err != nil {
			t.Fatal(err)
		}
		racing.Go(func() {
			for k := range each {
				id := fmt.Sprintf("%d-%d", i, k)
				if got, err := other.Change(t.Context(), "alice", &protocol.ContactsRequest{Add: []string{id}}); err != nil || !slices.Equal(got.Added, []string{id}) {
					t.Errorf("adding %s: got %+v, %v", id, got, err)
				}
			}
		})
	}
	racing.Wait()
	if got, err := s.Get(t.Context(), "alice"); err != nil || len(got.Users) != stores*each || got.Version != stores*each {
		t.Errorf("got %d contacts at version %d, want %d at that version: %v", len(got.Users), got.Version, stores*each, err)
	}
}

// TestStore_Unavailable: without the bucket nobody waits for longer than the
// context says.
func TestStore_Unavailable(t *testing.T) {
	js, s := open(t)
	if err := js.DeleteStream(t.Context(), "KV_"+contacts.DefaultBucket); err != nil {
		t.Fatal(err)
	}
	for what, ask := range map[string]func(context.Context) error{
		"get":   func(ctx context.Context) error { _, err := s.Get(ctx, "alice"); return err },
		"erase": func(ctx context.Context) error { _, err := s.Erase(ctx, "alice"); return err },
		"change": func(ctx context.Context) error {
			_, err := s.Change(ctx, "alice", &protocol.ContactsRequest{Add: []string{"bob"}})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := ask(ctx); !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), "stream not found") {
			t.Errorf("%s: got %v, want unavailable, and why", what, err)
		}
		cancel()
	}
}

// TestOpen_Refuses: a bucket that could lose contacts or answer with old ones.
func TestOpen_Refuses(t *testing.T) {
	js, _ := open(t)
	for name, cfg := range map[string]jetstream.KeyValueConfig{
		"history": {Bucket: "history", History: 5},
		"ttl":     {Bucket: "ttl", TTL: time.Hour},
		"direct":  {Bucket: "direct"},
	} {
		if _, err := js.CreateKeyValue(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := contacts.Open(t.Context(), contacts.Config{JetStream: js, Bucket: name}); err == nil {
			t.Errorf("a bucket with %s: opened", name)
		}
	}
}
