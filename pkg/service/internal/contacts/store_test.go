package contacts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
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

// TestG01_WrongBucket: a bucket that could lose contacts, or answer with old ones, is refused.
func TestG01_WrongBucket(t *testing.T) {
	js, _ := open(t)
	have, err := js.Stream(t.Context(), "KV_"+contacts.DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	for setting, change := range map[string]func(*jetstream.StreamConfig){
		"persist_mode Async":      func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"storage Memory":          func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"max_age 1h0m0s":          func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs_per_subject 64": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 64 },
		"allow_direct true":       func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"max_msg_size 65536":      func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 16 },
	} {
		bucket := strings.Fields(setting)[0]
		wrong := have.CachedInfo().Config
		wrong.Name, wrong.Subjects = "KV_"+bucket, []string{"$KV." + bucket + ".>"}
		change(&wrong)
		if _, err := js.CreateStream(t.Context(), wrong); err != nil {
			t.Fatal(err)
		}
		if _, err := contacts.Open(t.Context(), contacts.Config{JetStream: js, Bucket: bucket}); err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: got %v", setting, err)
		}
	}
}

// TestStore_Damaged: a value that somebody else wrote is not shown, and nothing is based on it. An
// erasure removes it.
func TestStore_Damaged(t *testing.T) {
	js, s := open(t)
	if _, err := js.Publish(t.Context(), "$KV."+contacts.DefaultBucket+".alice", []byte(`["carol","bob"]`)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "alice"); err == nil || !strings.Contains(err.Error(), "at revision 1") {
		t.Errorf("Get: got %+v, %v, want an error that says where", got, err)
	}
	if got, err := s.Change(t.Context(), "alice", &protocol.ContactsRequest{Add: []string{"dave"}}); err == nil {
		t.Errorf("Change: got %+v, want an error", got)
	}
	if got, err := s.Erase(t.Context(), "alice"); err != nil || got.Previous != 1 {
		t.Errorf("Erase: got %+v, %v", got, err)
	}
	if got, err := s.Change(t.Context(), "alice", &protocol.ContactsRequest{Add: []string{"dave"}}); err != nil || !slices.Equal(got.Users, []string{"dave"}) {
		t.Errorf("Change after the erasure: got %+v, %v", got, err)
	}
}

// TestStore_Race: several stores change the same contacts. Each change is made once.
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

// forgetful is a JetStream that stores a change and does not answer. It does not recognize the
// repetition, and refuses it as another change.
type forgetful struct {
	jetstream.JetStream
	published int
	between   func()        // of the first and the second attempt
	reads     chan struct{} // one for each read that gets no answer
}

func (f *forgetful) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	switch f.published++; f.published {
	case 1:
		if _, err := f.JetStream.PublishMsg(ctx, m, opts...); err != nil {
			return nil, err
		}
		return nil, context.DeadlineExceeded
	case 2:
		f.between()
		return nil, &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}
	}
	return f.JetStream.PublishMsg(ctx, m, opts...)
}

func (f *forgetful) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := f.JetStream.Stream(ctx, name)
	return forgetfulStream{s, f}, err
}

type forgetfulStream struct {
	jetstream.Stream
	of *forgetful
}

func (s forgetfulStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	select {
	case <-s.of.reads:
		<-ctx.Done()
		return nil, ctx.Err()
	default:
		return s.Stream.GetLastMsgForSubject(ctx, subject)
	}
}

// TestStore_StoredAndNotSaid: the first attempt of a change is stored, but nobody says so. The
// change is not taken for one that was there before: the user's devices are to be told of it.
func TestStore_StoredAndNotSaid(t *testing.T) {
	t.Parallel()
	js, other := open(t)
	f := &forgetful{JetStream: js, reads: make(chan struct{}, 1)}
	s, err := contacts.Open(t.Context(), contacts.Config{JetStream: f})
	if err != nil {
		t.Fatal(err)
	}
	bob := &protocol.ContactsRequest{Add: []string{"bob"}}

	// What the bucket has cannot be read at first.
	f.between = func() { f.reads <- struct{}{} }
	got, err := s.Change(t.Context(), "alice", bob)
	if err != nil || !slices.Equal(got.Added, []string{"bob"}) || got.Previous != 0 || got.Version != 1 || got.Read {
		t.Errorf("read at the second attempt: got %+v, %v", got, err)
	}
	// Somebody else's change came on top of it.
	f.published, f.between = 0, func() {
		if _, err := other.Change(t.Context(), "erin", &protocol.ContactsRequest{Add: []string{"carol"}}); err != nil {
			t.Error(err)
		}
	}
	got, err = s.Change(t.Context(), "erin", bob)
	if err != nil || !slices.Equal(got.Users, []string{"bob", "carol"}) || got.Previous != 3 || got.Version != 3 || !got.Read {
		t.Errorf("overtaken: got %+v, %v", got, err)
	}
	// Nothing at all is nothing to read.
	if got, err = s.Change(t.Context(), "erin", bob); err != nil || got.Read || len(got.Added) > 0 {
		t.Errorf("again: got %+v, %v", got, err)
	}
}

// refusing is a JetStream that makes no streams.
type refusing struct {
	jetstream.JetStream
	refuses atomic.Bool
}

func (r *refusing) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	if r.refuses.Load() {
		return nil, &jetstream.APIError{Code: 500, ErrorCode: 10047, Description: "insufficient storage resources available"}
	}
	return r.JetStream.CreateStream(ctx, cfg)
}

// TestStore_Unavailable: the bucket is gone and cannot be made anew. Then nobody waits.
func TestStore_Unavailable(t *testing.T) {
	js, _ := open(t)
	r := &refusing{JetStream: js}
	s, err := contacts.Open(t.Context(), contacts.Config{JetStream: r})
	if err != nil {
		t.Fatal(err)
	}
	r.refuses.Store(true)
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
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begun := time.Now()
			if err := ask(ctx); !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), "insufficient storage") {
				t.Errorf("got %v, want unavailable, and why", err)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("that took %v", took)
			}
		})
	}
}

// TestStore_Full: a change that finds no room is refused at once. It does not keep others waiting
// by trying again until its context is done.
func TestStore_Full(t *testing.T) {
	js, s := open(t)
	if _, err := s.Change(t.Context(), "alice", &protocol.ContactsRequest{Add: []string{"bob"}}); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+contacts.DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	full := stream.CachedInfo().Config
	full.MaxBytes = 200
	if _, err := js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := time.Now()
	_, err = s.Change(ctx, "carol", &protocol.ContactsRequest{Add: []string{strings.Repeat("x", 100)}})
	if !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Errorf("got %v, want unavailable, and why", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("that took %v", took)
	}
	if c, err := s.Get(ctx, "alice"); err != nil || !slices.Equal(c.Users, []string{"bob"}) {
		t.Errorf("what is there: got %+v, %v", c, err)
	}
}

// TestOpen_Refuses: a bucket that could lose contacts, or answer with old ones, is refused.
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
