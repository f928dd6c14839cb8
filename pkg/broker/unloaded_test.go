package broker_test

import (
	"os"
	"path/filepath"
	"testing"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go/jetstream"
)

// TestStreamNotLoaded: where the server would leave out a stream of presenced's because one of its
// small files is damaged, the start names the file and the cure; with it all messages are there.
func TestStreamNotLoaded(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"PRESENCE_JOURNAL", "OBJ_PRESENCE_SNAPSHOTS", "KV_PRESENCE_CONTACTS"} {
		cfg := broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}
		withStream(t, cfg, name, 5)
		stream := filepath.Join(cfg.DataDir, "jetstream/PRESENCE/streams", name)
		other := broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}
		withStream(t, other, name, 0)
		cure := filepath.Join(other.DataDir, "jetstream/PRESENCE/streams", name)

		for what, damage := range map[string]func(file string) error{
			"is empty":       func(file string) error { return os.Truncate(filepath.Join(stream, file), 0) },
			"is missing":     func(file string) error { return os.Remove(filepath.Join(stream, file)) },
			"does not match": func(string) error { return os.WriteFile(filepath.Join(stream, "meta.inf"), []byte("{}"), 0) },
		} {
			for _, file := range []string{"meta.inf", "meta.sum"} {
				if err := damage(file); err != nil {
					t.Fatal(err)
				}
				wantError(t, cfg, name, what, "nothing is lost", stream)
				for _, f := range []string{"meta.inf", "meta.sum"} {
					data, err := os.ReadFile(filepath.Join(cure, f))
					if err == nil {
						err = os.WriteFile(filepath.Join(stream, f), data, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if n := withStream(t, cfg, name, 0); n != 5 {
					t.Errorf("%s of %s %s, and was copied: %d messages, want 5", file, name, what, n)
				}
			}
		}
	}

	// A directory without messages is of a stream that was about to be made, or of somebody else's.
	cfg := broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}
	withStream(t, cfg, "THEIRS", 5)
	if err := os.Remove(filepath.Join(cfg.DataDir, "jetstream/PRESENCE/streams/THEIRS/meta.inf")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "jetstream/PRESENCE/streams/PRESENCE_JOURNAL/msgs"), 0o700); err != nil {
		t.Fatal(err)
	}
	withStream(t, cfg, "PRESENCE_JOURNAL", 1)
}

// withStream starts a broker, publishes so many messages to a stream, made where it is missing,
// stops, and returns how many there are then.
func withStream(t *testing.T, cfg broker.Config, name string, messages int) uint64 {
	t.Helper()
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown()
	nc, err := b.Connect(broker.Journal)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	for range messages {
		if _, err := js.Publish(t.Context(), "s", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}
