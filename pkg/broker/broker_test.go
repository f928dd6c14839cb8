package broker_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wantError starts a broker that must not start, for a reason of one line that
// contains all of words.
func wantError(t *testing.T, cfg broker.Config, words ...string) {
	t.Helper()
	b, err := broker.Start(cfg)
	if err == nil {
		b.Shutdown()
		t.Fatalf("Start(%+v) succeeded, want an error about %q", cfg, words)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("Start(%+v): the error has more than one line: %v", cfg, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("Start(%+v): got error %q, want it to say %q", cfg, err, w)
		}
	}
}

func TestStartRefusesWhatIsNotLoopback(t *testing.T) {
	for _, listen := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:4222", "example.com:4222"} {
		dir := filepath.Join(t.TempDir(), "data")
		wantError(t, broker.Config{Listen: listen, DataDir: dir}, listen, "loopback", "not authenticated")
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("Start with %s made the data directory", listen)
		}
	}
}

func TestStartRefusesBadConfig(t *testing.T) {
	dir := t.TempDir()
	for _, listen := range []string{"127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-2"} {
		wantError(t, broker.Config{Listen: listen, DataDir: dir}, listen)
	}
	wantError(t, broker.Config{Listen: "127.0.0.1:0"}, "data directory", "not given")
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: dir, Prefix: `a"] }`}, "prefix")
}

func TestListensOn(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "127.0.0.1:-1", "localhost:0", "127.1.2.3:0"} {
		b := start(t, broker.Config{Listen: listen})
		client, _ := dial(t, b)
		client.Close()
		if strings.HasSuffix(b.ClientURL(), ":4222") {
			t.Errorf("Start(%s): got %s, want a free port", listen, b.ClientURL())
		}
		b.Shutdown()
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := broker.Config{Listen: l.Addr().String(), DataDir: t.TempDir()}
	wantError(t, cfg, "cannot listen", cfg.Listen, "in use")

	// The directory was given up again.
	cfg.Listen = ""
	start(t, broker.Config{DataDir: cfg.DataDir})
}

func TestDataDirInUse(t *testing.T) {
	dir := t.TempDir()
	b := start(t, broker.Config{DataDir: dir})
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: dir}, dir, "in use by another presenced", fmt.Sprint("pid ", os.Getpid()))
	// Looking at it did not take the lock away from the first.
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: dir}, "in use")
	b.Shutdown()
	start(t, broker.Config{DataDir: dir})
}

func TestDataDirUnusable(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: file}, file, "cannot be used")
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: filepath.Join(file, "below")}, "below", "cannot be used")

	// What only nats-server finds out comes back as an error too: it reports
	// it as fatal, which must neither end the process nor hang.
	broken := filepath.Join(base, "broken")
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: broken}, "JetStream", "not a directory")
}

func TestDataDirReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root writes everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: dir}, dir, "permission denied")
}

func TestDiskFull(t *testing.T) {
	const full = "/dev/full" // every write fails with "no space left on device"
	if _, err := os.Stat(full); err != nil {
		t.Skipf("no %s here", full)
	}
	dir := t.TempDir()
	if err := os.Symlink(full, filepath.Join(dir, broker.LockFile)); err != nil {
		t.Fatal(err)
	}
	wantError(t, broker.Config{Listen: "127.0.0.1:0", DataDir: dir}, dir, "cannot be used")
}

func TestDataDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	start(t, broker.Config{DataDir: dir})
	for _, d := range []string{dir, filepath.Join(dir, "jetstream")} {
		info, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, want 0700", d, info.Mode().Perm())
		}
	}
}

func TestRestartKeepsWhatWasStored(t *testing.T) {
	cfg := broker.Config{DataDir: t.TempDir(), SyncAlways: true}
	const rounds = 3
	for round := range rounds {
		b := start(t, cfg)
		nc := connect(t, b, broker.Journal)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
		}
		ack, err := js.Publish(t.Context(), "s", fmt.Append(nil, round))
		if err != nil {
			t.Fatalf("publishing in round %d: %v", round, err)
		}
		if want := uint64(round + 1); ack.Sequence != want {
			t.Errorf("after %d restarts: got sequence %d, want %d", round, ack.Sequence, want)
		}
		nc.Close()
		b.Shutdown()
	}
}

func TestShutdownTwice(t *testing.T) {
	b := start(t, broker.Config{})
	b.Shutdown()
	b.Shutdown()
	if nc, err := b.Connect(broker.Clients); err == nil {
		nc.Close()
		t.Error("Connect after Shutdown succeeded")
	}
	if nc, err := nats.Connect(b.ClientURL()); err == nil {
		nc.Close()
		t.Error("a client connected after Shutdown")
	}
}

// Whoever runs presenced sees warnings and errors of the server, and notices
// only with debug. Clients cannot fill the log.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})
	b := start(t, broker.Config{Logger: slog.New(handler)})
	if out.Len() != 0 {
		t.Errorf("an ordinary start logged: %s", out.String())
	}
	const attempts = 1000
	client, errs := dial(t, b)
	for range attempts {
		client.Publish(subjects.Prefix()+".status.alice", nil)
	}
	wantDenied(t, errs, "publishing an event")
	client.Flush()
	client.Close()
	b.Shutdown() // after it nothing writes to out

	lines := strings.Count(out.String(), "Violation")
	if lines == 0 || lines > attempts/10 {
		t.Errorf("%d denied publishes were logged in %d lines, want some and few:\n%.2000s", attempts, lines, out.String())
	}
}
