package processes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestG01_DamagedStore: between two runs the journal's file loses acknowledged
// entries. nats-server would go on with what it can read, without a word. presenced
// stops and says so, and goes on with --new-epoch only: with everybody as of before
// the damage, and nothing from behind it.
func TestG01_DamagedStore(t *testing.T) {
	t.Parallel()
	const users = 12
	// Inside an entry: where they hit the lengths before one, it depends on the index
	// whether nats-server takes them for a hole or for the end.
	zeros := func(t *testing.T, file string) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		inside := []byte(fmt.Sprint("user", users/2))
		at := bytes.Index(data, inside)
		if at < 0 {
			t.Fatalf("%s does not hold the entry of %s", file, inside)
		}
		clear(data[at : at+len(inside)])
		if err := os.WriteFile(file, data, 0); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(t *testing.T, file string) {
		if err := os.Truncate(file, sizeOf(t, file)*3/4); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(t *testing.T, file string) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		end    func(*servicetest.Daemon, testing.TB)
		damage func(*testing.T, string)
		says   string
		saves  int // users at least
	}{
		// Without its index the server cuts the file where it cannot be read.
		{"killed, then zeros in the middle", (*servicetest.Daemon).Kill, zeros, "it ends at position", 1},
		{"killed, then gone", (*servicetest.Daemon).Kill, gone, "it ends at position 0", 0},
		// With it there is a hole, or an end that does not come.
		{"stopped, then zeros in the middle", (*servicetest.Daemon).Stop, zeros, "is missing in the journal", 1},
		{"stopped, then cut", (*servicetest.Daemon).Stop, cut, "is missing in the journal", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := servicetest.StartDaemon(t)
			nc := d.Connect(t)
			var ids []string
			for i := range users {
				ids = append(ids, fmt.Sprint("user", i))
				wire.SetText(t, nc, ids[i], "here")
			}
			before := wire.Fresh(t, nc, ids...)
			nc.Close()
			head := filepath.Join(d.DataDir, "journal-head")
			servicetest.Eventually(t, wire.Soon, "the journal's end to be written down", func() bool {
				b, err := os.ReadFile(head)
				return err == nil && string(b) >= fmt.Sprintf("%020d", before[users-1].Revision>>12)
			})
			c.end(d, t)
			c.damage(t, filepath.Join(d.DataDir, "jetstream/PRESENCE/streams/PRESENCE_JOURNAL/msgs/1.blk"))

			args := []string{"--data", d.DataDir, "--listen", "127.0.0.1:0"}
			code, stdout, stderr := servicetest.RunDaemon(t, args...)
			last := stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:]
			if code != 1 || stdout != "" || !strings.Contains(last, c.says) || !strings.Contains(last, "--new-epoch") {
				t.Fatalf("started on it: got exit code %d, %q and\n%swant 1, nothing, and a last line that has %q and --new-epoch", code, stdout, stderr, c.says)
			}

			d = servicetest.StartDaemon(t, append(args, "--new-epoch")...)
			nc = d.Connect(t)
			after := wire.Fresh(t, nc, ids...)
			saved := slices.IndexFunc(after, func(s protocol.Status) bool { return s.CustomStatus == "" })
			if saved < c.saves {
				t.Errorf("with --new-epoch: got %+v, want %d users at least", after, c.saves)
			}
			for i, s := range after {
				if i < saved && s.CustomStatus != before[i].CustomStatus || i >= saved && s.Revision != 0 {
					t.Errorf("with --new-epoch: got %+v, want the first %d users as before and nothing of the others", s, saved)
				}
			}
			wire.SetText(t, nc, ids[users-1], "again")
			nc.Close()
			d.Stop(t)
			d = servicetest.StartDaemon(t, args...)
			if s := wire.Fresh(t, d.Connect(t), ids[users-1])[0]; s.CustomStatus != "again" {
				t.Errorf("started again: got %+v, want the text that was set in the new epoch", s)
			}
		})
	}
}

func sizeOf(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
