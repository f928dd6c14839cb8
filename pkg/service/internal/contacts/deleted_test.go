package contacts_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
)

// TestStore_Deleted: somebody deletes the bucket while it is used. The next request makes it anew,
// and every request is answered soon. Versions go on rising.
func TestStore_Deleted(t *testing.T) {
	t.Parallel()
	js, s := open(t)
	other, err := contacts.Open(t.Context(), contacts.Config{JetStream: js})
	if err != nil {
		t.Fatal(err)
	}
	add := func(s *contacts.Store, user, id string) (contacts.Changed, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return s.Change(ctx, user, &protocol.ContactsRequest{Add: []string{id}})
	}
	last := uint64(0)
	for round := range 3 {
		before, err := add(s, "alice", fmt.Sprint("friend", round))
		if err != nil || before.Version <= last {
			t.Fatalf("round %d: got %+v, %v, want a version above %d", round, before, err, last)
		}
		last = before.Version
		if err := js.DeleteStream(t.Context(), "KV_"+contacts.DefaultBucket); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		var asking sync.WaitGroup
		for i := range 40 { // of two instances at once
			asking.Go(func() {
				from := []*contacts.Store{s, other}[i%2]
				user := fmt.Sprint("user", i)
				if got, err := add(from, user, "bob"); err != nil || !slices.Equal(got.Users, []string{"bob"}) || got.Version <= last {
					t.Errorf("round %d, %s: got %+v, %v, want bob at a version above %d", round, user, got, err, last)
				}
			})
		}
		asking.Wait()
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("round %d: that took %v", round, took)
		}
		if got, err := s.Get(t.Context(), "alice"); err != nil || got.Version != 0 || len(got.Users) > 0 {
			t.Errorf("round %d: got %+v, %v, want none of what was deleted", round, got, err)
		}
	}
	if _, err := s.Erase(t.Context(), "alice"); err != nil {
		t.Errorf("Erase: %v", err)
	}
}

// TestStore_Inspect: every setting that a start would refuse is also named when it is changed
// later. A bucket that was deleted is made anew, even if nobody asks for contacts.
func TestStore_Inspect(t *testing.T) {
	t.Parallel()
	js, s := open(t)
	if wrong, err := s.Inspect(t.Context()); wrong != nil || err != nil {
		t.Fatal(wrong, err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+contacts.DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	have := stream.CachedInfo().Config
	wrong, full := have, have
	wrong.MaxAge, full.MaxMsgs = time.Hour, 5
	for _, c := range []struct {
		cfg jetstream.StreamConfig
		bad bool
	}{{wrong, true}, {have, false}, {full, true}, {have, false}} {
		if _, err := js.UpdateStream(t.Context(), c.cfg); err != nil {
			t.Fatal(err)
		}
		if wrong, err := s.Inspect(t.Context()); err != nil || (wrong != nil) != c.bad {
			t.Errorf("with max_age %v, max_msgs %d: got %v, %v", c.cfg.MaxAge, c.cfg.MaxMsgs, wrong, err)
		}
		if _, err := contacts.Open(t.Context(), contacts.Config{JetStream: js}); (err != nil) != c.bad {
			t.Errorf("a start with max_age %v, max_msgs %d: got %v", c.cfg.MaxAge, c.cfg.MaxMsgs, err)
		}
	}
	if err := js.DeleteStream(t.Context(), "KV_"+contacts.DefaultBucket); err != nil {
		t.Fatal(err)
	}
	if wrong, err := s.Inspect(t.Context()); wrong != nil || err != nil {
		t.Error(wrong, err)
	}
	if _, err := js.Stream(t.Context(), "KV_"+contacts.DefaultBucket); err != nil {
		t.Errorf("the bucket: %v", err)
	}
}
