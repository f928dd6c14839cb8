package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The key in the data directory reads the journal's account and changes nothing
// there. It is nobody else's, and of no use after the end.
func TestReaderKey(t *testing.T) {
	dir := t.TempDir()
	b := start(t, broker.Config{DataDir: dir})
	file := filepath.Join(dir, broker.ReaderKeyFile)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%s: got %v, %v, want a file of mode 600", file, info, err)
	}
	js, err := jetstream.New(connect(t, b, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("x")); err != nil {
		t.Fatal(err)
	}
	os1, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "B"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os1.PutBytes(t.Context(), "o", make([]byte, 300_000)); err != nil {
		t.Fatal(err)
	}

	key, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 10)
	nc, err := nats.Connect(b.ClientURL(), key, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	reading, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	stream, err := reading.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := consumer.Next(); err != nil || string(m.Data()) != "x" {
		t.Errorf("reading the stream: got %v", err)
	}
	os2, err := reading.ObjectStore(ctx, "B")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os2.GetBytes(ctx, "o"); err != nil || len(data) != 300_000 {
		t.Errorf("reading the object store: got %d bytes, %v", len(data), err)
	}
	if len(refused) > 0 {
		t.Errorf("reading: %v", <-refused)
	}

	for _, subject := range []string{"s", "$JS.API.STREAM.PURGE.S", "$JS.API.STREAM.DELETE.S", "$JS.API.STREAM.UPDATE.S", "$O.B.M.x"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("publishing on %s: got %v", subject, err)
			}
		case <-ctx.Done():
			t.Errorf("publishing on %s was not refused", subject)
		}
	}
	nc.Close()
	b.Shutdown()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s after the end: got %v, want it gone", file, err)
	}
}
