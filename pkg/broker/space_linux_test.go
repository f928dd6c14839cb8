package broker_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go/jetstream"
)

// A broker that was started while little of the disk was free refuses to store
// until there is space, and then goes on by itself.
func TestStartedWhileTheDiskIsAlmostFull(t *testing.T) {
	disk := t.TempDir()
	err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=32m")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("mounting a small file system is not permitted here (%v): run this test as root to have it checked", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cfg := broker.Config{DataDir: filepath.Join(disk, "data")}
	open := func() (*broker.Broker, jetstream.JetStream) {
		b := start(t, cfg)
		js, err := jetstream.New(connect(t, b, broker.Journal))
		if err != nil {
			t.Fatal(err)
		}
		return b, js
	}
	b, js := open()
	publish := func() error {
		_, err := js.Publish(t.Context(), "s", make([]byte, 256<<10))
		return err
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	for range 40 { // 10 MiB, much more than will be free
		if err := publish(); err != nil {
			t.Fatal(err)
		}
	}
	b.Shutdown()

	var fs syscall.Statfs_t
	if err := syscall.Statfs(disk, &fs); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, fs.Bavail*uint64(fs.Bsize)-1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, js = open()
	eventually := func(what string, ok func(error) bool) {
		t.Helper()
		deadline := time.Now().Add(waitFor)
		for {
			err := publish()
			if ok(err) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("publishing %s: got %v", what, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	eventually("on a disk that is almost full", func(err error) bool { return err != nil })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually("when there is space", func(err error) bool { return err == nil })
}
