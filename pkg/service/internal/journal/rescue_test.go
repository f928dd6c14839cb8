package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

// TestG01_JournalMadeAnew: the journal's stream is deleted and made anew, or put back to an
// earlier state, before a running instance looks. The instance ends, and stores what it has
// applied first. The next start is refused. Its message names two ways: to go on with the
// snapshot, and to go on with the journal as it is.
func TestG01_JournalMadeAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		back, foreign int // how many entries are put back, how many of somebody else follow
		refused       string
	}{
		{"made anew", 0, 0, "the journal ends at"},
		{"put back to an earlier state", 3, 0, "the journal ends at"},
		{"made anew, and longer by now", 0, 20, "is not the one that the snapshot was taken of"},
		{"put back, and longer by now", 3, 20, "is not the one that the snapshot was taken of"},
	} {
		for _, take := range []string{"snapshot", "journal"} {
			t.Run(c.name+", the "+take+" is taken", func(t *testing.T) {
				t.Parallel()
				nc := startBroker(t)
				a := openWith(t, nc, "A").start(t)
				users := a.fill(t, 0, 5)
				a.putBack(t, c.back, c.foreign)
				err := a.ends(t)
				list := a.snapshots(t, 1, 0)
				if !errors.Is(err, ErrRestoredJournal) || !strings.Contains(err.Error(), list[0].name) || !strings.Contains(err.Error(), "--new-epoch") {
					t.Errorf("Run: got %v, want ErrRestoredJournal, the snapshot's name and --new-epoch", err)
				}
				if list[0].position != a.position() {
					t.Errorf("the snapshot is of position %d, %d was applied", list[0].position, a.position())
				}
				err = openWith(t, nc, "B").Run(t.Context())
				remove := "nats object rm " + DefaultBucket + " " + list[0].name
				if !errors.Is(err, ErrRestoredJournal) || !strings.Contains(err.Error(), c.refused) ||
					!strings.Contains(err.Error(), remove) || !strings.Contains(err.Error(), "--new-epoch") {
					t.Fatalf("Run again: got %v, want ErrRestoredJournal, %q, %q and --new-epoch", err, c.refused, remove)
				}
				if take == "journal" {
					users = users[:max(c.back-1, 0)] // the first entry is the epoch's
					for i := range c.foreign {
						users = append(users, fmt.Sprint("foreign", i))
					}
					if err := a.store.remove(t.Context(), list[0].name); err != nil {
						t.Fatal(err)
					}
				}
				d := openWith(t, nc, "D", func(cfg *Config[string]) { cfg.NewEpoch = true }).start(t)
				if err := d.BeginEpoch(t.Context(), "E2"); err != nil {
					t.Fatal(err)
				}
				users = append(users, d.fill(t, 10, 12)...)
				d.wantCommands(t, users)
				e := openWith(t, nc, "E").start(t)
				e.wantCommands(t, users)
				if len(d.twice)+len(e.twice) > 0 {
					t.Errorf("answered twice: %v, %v", d.twice, e.twice)
				}
			})
		}
	}
}

// putBack deletes the stream, makes it anew and stores its first entries in it again, as when a
// backup is restored. Entries of another instance follow.
func (r *rig) putBack(t *testing.T, back, foreign int) {
	t.Helper()
	var data [][]byte
	for position := range uint64(back) {
		m, err := r.stream.GetMsg(t.Context(), position+1)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, m.Data)
	}
	for i := range foreign {
		b, err := entry.Append(nil, &entry.Entry{Header: entry.Header{Epoch: "E1", Instance: "else", Sequence: uint64(i + 1)},
			Commands: []entry.Command{{Kind: entry.Set, User: fmt.Sprint("foreign", i)}}})
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b)
	}
	cfg := r.stream.CachedInfo().Config
	if err := r.js.DeleteStream(t.Context(), DefaultStream); err != nil {
		t.Fatal(err)
	}
	if _, err := r.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, b := range data {
		if _, err := r.js.Publish(t.Context(), subjectOf(DefaultStream), b); err != nil {
			t.Fatal(err)
		}
	}
}

// ends has entries appended until Run ends, and returns its error.
func (r *rig) ends(t *testing.T) error {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		r.Tick()
		select {
		case err := <-r.run:
			return err
		case <-deadline:
			t.Error("Run goes on after 60 s") // not Fatal: another goroutine may call this
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestG01_JournalMadeAnew_Several: all instances find the journal made anew. In the end everything
// is stored that any of them has applied.
func TestG01_JournalMadeAnew_Several(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A").start(t)
	b := openWith(t, nc, "B", func(cfg *Config[string]) { cfg.Rank = func() (int, bool) { return 1, true } }).start(t)
	users := a.fill(t, 0, 5)
	b.wantCommands(t, users)
	a.asleep.Lock()
	users = append(users, b.fill(t, 5, 8)...)
	a.putBack(t, 0, 0)
	errB := make(chan error, 1)
	go func() { errB <- b.ends(t) }()
	b.snapshots(t, 1, b.position()-1)
	a.asleep.Unlock()
	if err := a.ends(t); !errors.Is(err, ErrRestoredJournal) {
		t.Errorf("Run of A: got %v, want ErrRestoredJournal", err)
	}
	if err := <-errB; !errors.Is(err, ErrRestoredJournal) {
		t.Errorf("Run of B: got %v, want ErrRestoredJournal", err)
	}
	d := openWith(t, nc, "D", func(cfg *Config[string]) { cfg.NewEpoch = true }).start(t)
	if err := d.BeginEpoch(t.Context(), "E2"); err != nil {
		t.Fatal(err)
	}
	d.wantCommands(t, users)
}

// TestG01_StaleInstanceStoresNothing: an instance that finds a snapshot of a later epoch in the
// store ends without storing its own.
func TestG01_StaleInstanceStoresNothing(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A").start(t)
	a.fill(t, 0, 5)
	later := stored{position: 2, epoch: "E2", generation: 2}
	later, err := a.store.write(t.Context(), later, (&rigSnapshot{position: 2, blocks: []string{"2"}}).Next)
	if err != nil {
		t.Fatal(err)
	}
	a.putBack(t, 0, 0)
	if err := a.ends(t); !errors.Is(err, ErrRestoredJournal) || !strings.Contains(err.Error(), "E2") {
		t.Errorf("Run: got %v, want ErrRestoredJournal and the later epoch", err)
	}
	a.wantOnly(t, later)
}

// logHook is a log handler that calls a function with each message.
type logHook func(message string)

func (logHook) Enabled(context.Context, slog.Level) bool        { return true }
func (h logHook) Handle(_ context.Context, r slog.Record) error { h(r.Message); return nil }
func (h logHook) WithAttrs([]slog.Attr) slog.Handler            { return h }
func (h logHook) WithGroup(string) slog.Handler                 { return h }

// failingJS fails so many requests for an object store.
type failingJS struct {
	jetstream.JetStream
	left atomic.Int64
}

func (f *failingJS) ObjectStore(ctx context.Context, bucket string) (jetstream.ObjectStore, error) {
	if f.left.Add(-1) >= 0 {
		return nil, errors.New("nobody may know")
	}
	return f.JetStream.ObjectStore(ctx, bucket)
}

// TestG01_StaleInstanceStoresNothing_Late: a later epoch begins while an instance stores what it
// has applied, and then the store cannot be asked. The instance asks again, and removes what it
// has stored.
func TestG01_StaleInstanceStoresNothing_Late(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	js := &failingJS{}
	later := stored{position: 2, epoch: "E2", generation: 2}
	var begin func() // the later epoch
	a := openWith(t, nc, "A", func(cfg *Config[string]) {
		js.JetStream = cfg.JetStream
		cfg.JetStream = js
		cfg.Logger = slog.New(logHook(func(message string) {
			if strings.HasPrefix(message, "took a snapshot of a journal that was put back") {
				begin()
			}
		}))
	})
	begin = func() {
		var err error
		if later, err = a.store.write(t.Context(), later, (&rigSnapshot{position: 2, blocks: []string{"2"}}).Next); err != nil {
			t.Error(err)
		}
		js.left.Store(1)
	}
	a.start(t)
	a.fill(t, 0, 5)
	a.putBack(t, 0, 0)
	if err := a.ends(t); !errors.Is(err, ErrRestoredJournal) || !strings.Contains(err.Error(), "E2") {
		t.Errorf("Run: got %v, want ErrRestoredJournal and the later epoch", err)
	}
	a.wantOnly(t, later)
}

// TestG01_JournalMadeAnew_ConnectionClosed: the connection is closed for good after an instance has
// stored what it has applied, and before it knows whether a later epoch has begun. The instance
// ends, and names what it stored.
func TestG01_JournalMadeAnew_ConnectionClosed(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A", func(cfg *Config[string]) {
		cfg.Logger = slog.New(logHook(func(message string) {
			if strings.HasPrefix(message, "took a snapshot of a journal that was put back") {
				nc.Close()
			}
		}))
	}).start(t)
	a.fill(t, 0, 5)
	a.putBack(t, 0, 0)
	if err := a.ends(t); !errors.Is(err, ErrRestoredJournal) || !strings.Contains(err.Error(), "nats object rm") {
		t.Errorf("Run: got %v, want ErrRestoredJournal and the snapshot's name", err)
	}
}

// wantOnly checks that one snapshot counts and no other.
func (r *rig) wantOnly(t *testing.T, want stored) {
	t.Helper()
	list, err := r.store.list(t.Context())
	if err != nil || !slices.EqualFunc(list, []stored{want}, func(x, y stored) bool { return x.name == y.name }) {
		t.Errorf("the store has %v, %v, want only the later epoch's snapshot", list, err)
	}
}

// TestG01_JournalMadeAnew_Stopped: an instance that waits for its turn to store what it has
// applied is told to stop. It stores that first: the instances before it may be gone.
func TestG01_JournalMadeAnew_Stopped(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A", func(cfg *Config[string]) { cfg.Rank = func() (int, bool) { return 12, true } }).start(t) // its turn is in a minute
	a.fill(t, 0, 5)
	a.putBack(t, 0, 0)
	a.Tick()
	a.wrong(t, "keep this instance running until it ends by itself")
	a.cancel()
	err := a.ends(t)
	x := a.snapshots(t, 1, a.position()-1)[0]
	if !errors.Is(err, ErrRestoredJournal) || !strings.Contains(err.Error(), x.name) {
		t.Errorf("Run: got %v, want ErrRestoredJournal and the snapshot's name", err)
	}
}

// TestG01_JournalMadeAnew_StoreFails: an instance that cannot store what it holds does not end.
// It says so, and stores it once it can.
func TestG01_JournalMadeAnew_StoreFails(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A").start(t)
	a.fill(t, 0, 5)
	bucket, err := a.js.Stream(t.Context(), "OBJ_"+DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	right := bucket.CachedInfo().Config
	full := right
	full.MaxMsgs, full.MaxBytes = 1, 1
	if _, err := a.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	a.putBack(t, 0, 0)
	a.Tick()
	a.wrong(t, "keep this instance running until it ends by itself")
	select {
	case err := <-a.run:
		t.Fatalf("Run ended with %v before anything was stored", err)
	case <-time.After(2 * retryEvery):
	}
	if _, err := a.js.UpdateStream(t.Context(), right); err != nil {
		t.Fatal(err)
	}
	if err := a.ends(t); !errors.Is(err, ErrRestoredJournal) {
		t.Errorf("Run: got %v, want ErrRestoredJournal", err)
	}
	a.snapshots(t, 1, a.position()-1)
}

// TestWrong_SnapshotOfAnotherJournal: the journal was made anew before an instance started. Other
// instances then store what they had applied. The instance finds that, is not ready, and names both
// ways to go on.
func TestWrong_SnapshotOfAnotherJournal(t *testing.T) {
	t.Parallel()
	a := openWith(t, startBroker(t), "A").start(t)
	a.fill(t, 0, 5)
	x, err := a.store.write(t.Context(), stored{position: 100, epoch: "E0", generation: 1}, (&rigSnapshot{position: 100, blocks: []string{"100"}}).Next)
	if err != nil {
		t.Fatal(err)
	}
	a.wrong(t, "nats object rm "+DefaultBucket+" "+x.name)
	a.wrong(t, "--new-epoch")
	if err := a.store.remove(t.Context(), x.name); err != nil {
		t.Fatal(err)
	}
	a.wrong(t, "")
}
