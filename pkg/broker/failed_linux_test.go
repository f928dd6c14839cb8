package broker_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go/jetstream"
)

// A disk that is full once is an error that the broker reports: nats-server
// writes no more, and only its log says so.
func TestFailedWhenTheDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	b := start(t, broker.Config{DataDir: dir, SyncAlways: true})
	js, err := jetstream.New(connect(t, b, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.Failed():
		t.Fatalf("Failed before anything did: %v", err)
	default:
	}
	fillDisk(t, dir)
	if _, err := js.PublishAsync("s", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.Failed():
		if !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("Failed: got %v, want it to say why", err)
		}
	case <-time.After(waitFor):
		t.Error("Failed yielded nothing")
	}
}

// fillDisk puts /dev/full, where every write fails, instead of the open
// message files below dir.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	found := false
	for _, e := range fds {
		fd, _ := strconv.Atoi(e.Name())
		path, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if !strings.HasPrefix(path, dir) || !strings.HasSuffix(path, ".blk") {
			continue
		}
		if err := syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		found = true
	}
	if !found {
		t.Fatal("the broker has no message file open")
	}
}
