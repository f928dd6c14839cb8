package processes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// smallDisk mounts a file system of some megabytes. Where that is not permitted
// the test is skipped.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", bytes))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("mounting a small file system is not permitted here (%v): run this test as root to have it checked", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes a file until nothing more fits.
func fillDisk(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
}

// TestG12_DiskAlmostFull: while little of the disk is free changes are refused and
// queries answered as stale; once there is space it goes on, the same process, and
// nobody was lost meanwhile.
func TestG12_DiskAlmostFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 16<<20)
	ballast := filepath.Join(disk, "ballast")
	d := servicetest.StartDaemon(t, "--data", filepath.Join(disk, "data"), "--listen", "127.0.0.1:0")
	nc := d.Connect(t)
	const ttl = 5
	wire.Login(t, nc, "alice", protocol.LoginRequest{TTLSeconds: ttl})
	wire.SetText(t, nc, "alice", "before")
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
	leaveFree(t, ballast, 400<<10) // half of the reserve
	set := func() error {
		_, err := wire.AskWithin[protocol.ChangeReply](nc, wire.Soon, wire.To(protocol.OpSet, "alice"), protocol.SetRequest{CustomStatus: protocol.Ptr("after")})
		return err
	}
	servicetest.Eventually(t, wire.Soon, "changes to be refused", func() bool { return errors.Is(set(), protocol.ErrUnavailable) })
	servicetest.Eventually(t, wire.Soon, "answers to be stale", func() bool {
		reply := wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}})
		return reply.Stale && reply.SuccessUserList[0].StatusType == protocol.Online
	})
	time.Sleep((ttl + 3) * time.Second) // that alice's lease would have run out
	select {
	case <-d.Exited():
		t.Fatalf("the daemon has ended:\n%s", d.Stderr())
	default:
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, wire.Soon, "changes to be taken", func() bool { return set() == nil })
	for _, e := range events.Events(t, "alice") {
		if e.StatusType != protocol.Online {
			t.Errorf("alice was told to be %+v", e)
		}
	}
}

// leaveFree writes a file until so many bytes of its disk are free.
func leaveFree(t *testing.T, file string, bytes uint64) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(file), &fs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, fs.Bavail*uint64(fs.Bsize)-bytes), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestG01_DiskFull: the disk fills up under a working daemon, at once, so that a
// write fails. Nobody gets a false acknowledgement; the daemon ends and says why, because its server stores nothing
// more until it is started anew; it does not start while the disk is full, and
// when there is space everything acknowledged is there.
func TestG01_DiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8<<20)
	data, ballast := filepath.Join(disk, "data"), filepath.Join(disk, "ballast")
	args := []string{"--data", data, "--listen", "127.0.0.1:0"}
	d := servicetest.StartDaemon(t, args...)
	nc := d.Connect(t)
	wire.Login(t, nc, "alice", protocol.LoginRequest{TTLSeconds: 3600})
	wire.SetText(t, nc, "alice", "before")
	fillDisk(t, ballast)

	acknowledged, attempted := 0, 0
	text := func(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("x", 400)) }
	for ended := false; !ended; attempted++ {
		_, err := wire.AskWithin[protocol.ChangeReply](nc, 2*time.Second, wire.To(protocol.OpSet, "alice"), protocol.SetRequest{CustomStatus: protocol.Ptr(text(attempted))})
		if err != nil {
			time.Sleep(10 * time.Millisecond) // not to count refusals
		}
		switch {
		case err == nil:
			acknowledged = attempted
		case errors.Is(err, protocol.ErrUnavailable), errors.Is(err, protocol.ErrOutcomeUnknown), errors.Is(err, nats.ErrTimeout),
			errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		default:
			t.Fatalf("a set on a full disk: %v", err)
		}
		select {
		case <-d.Exited():
			ended = true
		default:
		}
		if attempted > 1_000 {
			if strings.Contains(d.Stderr(), "almost full") {
				t.Skip("the disk was looked at before anything was written: no write failed")
			}
			t.Fatal("the disk is full, and nothing fails")
		}
	}
	if code := d.Wait(t); code != 1 || !strings.Contains(d.Stderr(), "no space left on device") || !strings.HasPrefix(lastLine(d.Stderr()), "presenced: ") {
		t.Errorf("on a full disk: got exit code %d and\n%swant 1 and a last line that says why", code, d.Stderr())
	}

	fillDisk(t, ballast+"2")
	code, _, stderr := servicetest.RunDaemon(t, args...)
	if code != 1 || !strings.Contains(lastLine(stderr), "no space left on device") || !strings.Contains(stderr, data) {
		t.Errorf("started on a full disk: got exit code %d and\n%swant 1 and a line that says why", code, stderr)
	}

	for _, f := range []string{ballast, ballast + "2"} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	d = servicetest.StartDaemon(t, args...)
	nc = d.Connect(t)
	now := wire.Fresh(t, nc, "alice")[0]
	var got int
	if _, err := fmt.Sscan(now.CustomStatus, &got); now.StatusType != protocol.Online || err != nil || got < acknowledged || got >= attempted {
		t.Errorf("when there is space: got %+v, want ONLINE with text %d, or one that was not acknowledged up to %d", now, acknowledged, attempted-1)
	}
	t.Logf("%d sets were acknowledged of %d; %d is there", acknowledged, attempted, got)
	wire.SetText(t, nc, "alice", "after")
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}
