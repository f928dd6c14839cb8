package journal

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

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

// wrong waits until what an instance says is wrong contains text; empty for nothing.
func (r *rig) wrong(t *testing.T, text string) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if last = r.Wrong(); (last == nil) == (text == "") && (last == nil || strings.Contains(last.Error(), text)) {
			return
		}
	}
	t.Fatalf("Wrong: got %v, want %q", last, text)
}

// storedBehind waits until a snapshot behind a position is stored.
func (r *rig) storedBehind(t *testing.T, position uint64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, err := r.store.complete(t.Context())
		if err == nil && len(list) > 0 && list[0].position >= position {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no snapshot behind %d within 30 s: %v, %v", position, list, err)
		}
	}
}

// TestG01_NothingIsLostByAnOperator: whatever operators do to the journal and its snapshots while
// instances run, no acknowledged change is lost. The instances store what they have, so the next
// start has it.
func TestG01_NothingIsLostByAnOperator(t *testing.T) {
	t.Parallel()
	bucket := "OBJ_" + DefaultBucket
	for _, c := range []struct {
		name string
		do   func(t *testing.T, r *rig)
	}{
		{"the journal is purged", func(t *testing.T, r *rig) {
			if err := r.stream.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{"the snapshots are deleted", func(t *testing.T, r *rig) {
			os, err := r.js.ObjectStore(t.Context(), DefaultBucket)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range r.snapshots(t, 2, 0) {
				if err := os.Delete(t.Context(), x.name); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"the snapshots' contents are gone", func(t *testing.T, r *rig) {
			for _, x := range r.snapshots(t, 2, 0) {
				r.damage(t, x)
			}
		}},
		{"the snapshots' bucket is deleted", func(t *testing.T, r *rig) {
			if err := r.js.DeleteStream(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
		}},
		{"both are purged", func(t *testing.T, r *rig) {
			for _, name := range []string{DefaultStream, bucket} {
				stream, err := r.js.Stream(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.Purge(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nc := startBroker(t)
			a, users := twoSnapshots(t, nc, func(cfg *Config[string]) { cfg.Alone = func() bool { return true } })
			last := a.position()
			c.do(t, a)
			a.storedBehind(t, last)
			a.wrong(t, "")
			if p := a.Progress(); p.Snapshot < last {
				t.Errorf("Progress: the snapshot of position %d, want one behind %d", p.Snapshot, last)
			}
			users = append(users, a.fill(t, 100, 105)...)
			a.stop(t)
			b := openWith(t, nc, "B", small).start(t)
			b.wantCommands(t, users)
		})
	}
}

// TestG01_StreamDeleted: the stream is deleted while instances run. They say so, and store what
// they have. A start with NewEpoch has all of it.
func TestG01_StreamDeleted(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A").start(t)
	users := a.fill(t, 0, 5)
	if err := a.js.DeleteStream(t.Context(), DefaultStream); err != nil {
		t.Fatal(err)
	}
	a.wrong(t, "is stored as a snapshot; then stop every instance, start one with --new-epoch")
	a.stop(t)
	b := openWith(t, nc, "B", func(cfg *Config[string]) { cfg.NewEpoch = true }).start(t)
	if err := b.BeginEpoch(t.Context(), "E2"); err != nil {
		t.Fatal(err)
	}
	b.wantCommands(t, append(users, b.fill(t, 5, 10)...))
}

// TestWrong_Settings: somebody changes a setting while an instance runs, so that entries or
// snapshots would be lost. The instance names the setting and the cure, until it is as before.
func TestWrong_Settings(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	r := openWith(t, nc, "A").start(t)
	r.fill(t, 0, 3)
	for _, c := range []struct {
		stream string
		change func(*jetstream.StreamConfig)
		cure   string
	}{
		{DefaultStream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "nats stream edit PRESENCE_JOURNAL --max-age=0s"},
		{DefaultStream, func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 100_000 }, "--discard=new --max-msgs=-1"},
		{DefaultStream, func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "elsewhere") }, "--subjects='PRESENCE_JOURNAL.entries'"},
		{"OBJ_" + DefaultBucket, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "nats stream edit OBJ_PRESENCE_SNAPSHOTS --max-age=0s"},
	} {
		stream, err := r.js.Stream(t.Context(), c.stream)
		if err != nil {
			t.Fatal(err)
		}
		right := stream.CachedInfo().Config
		wrong := right
		wrong.Subjects = slices.Clone(right.Subjects)
		c.change(&wrong)
		for _, step := range []struct {
			cfg  jetstream.StreamConfig
			want string
		}{{wrong, c.cure}, {right, ""}} {
			if _, err := r.js.UpdateStream(t.Context(), step.cfg); err != nil {
				t.Fatal(err)
			}
			r.wrong(t, step.want)
		}
	}
}

// TestProgress_SnapshotIsWhatIsStored: once the last snapshot is deleted, Progress names it no
// longer.
func TestProgress_SnapshotIsWhatIsStored(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	r := openWith(t, nc, "A", small, func(cfg *Config[string]) { cfg.Keep = time.Hour }).start(t) // so that it is never trimmed
	r.fill(t, 0, 25)
	x := r.snapshots(t, 1, 0)[0]
	r.wait(t, "the snapshot to be known", func() bool { return r.Progress().Snapshot == x.position })
	if err := r.store.remove(t.Context(), x.name); err != nil {
		t.Fatal(err)
	}
	// It may be stored again: more than enough was applied since the one before, none.
	r.wait(t, "it to be forgotten, or another to be stored", func() bool { return r.Progress().Snapshot != x.position })
}

// heldStream makes no consumer while its gate is locked.
type heldStream struct {
	jetstream.Stream
	gate sync.RWMutex
	last atomic.Value // name of the last consumer
}

func (h *heldStream) CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	h.gate.RLock()
	defer h.gate.RUnlock()
	c, err := h.Stream.CreateConsumer(ctx, cfg)
	if err == nil {
		h.last.Store(c.CachedInfo().Name)
	}
	return c, err
}

// TestG03_PurgedUnapplied: entries are purged before some instances have applied them. If another
// instance has, they take its state. If none has, all pass over the entries. In the end their
// states are the same, and no instance has stopped.
func TestG03_PurgedUnapplied(t *testing.T) {
	t.Parallel()
	for name, another := range map[string]bool{"another instance has applied them": true, "nobody has": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc := startBroker(t)
			alone := func(cfg *Config[string]) { cfg.Alone = func() bool { return !another } }
			var missed []*rig
			for _, instance := range []string{"A", "B"} {
				r := openWith(t, nc, instance, alone)
				r.stream = &heldStream{Stream: r.stream}
				missed = append(missed, r.start(t))
			}
			a, b := missed[0], missed[1]
			users := a.fill(t, 0, 5)
			b.wantCommands(t, users)
			var c *rig
			if another {
				c = openWith(t, nc, "C").start(t)
			}
			last := a.position() + 3
			lost := purgeUnapplied(t, a.js, c, missed...)
			if another {
				users = append(users, lost...)
			}
			for i, r := range missed {
				r.wait(t, "it to be behind what was purged", func() bool { return r.position() >= last })
				awaitFollowing(t, r)
				users = append(users, r.fill(t, 10+i, 11+i)...)
			}
			for _, r := range missed {
				r.wantCommands(t, users)
			}
			if another {
				c.wantCommands(t, users)
			}
			a.wrong(t, "")
			d := openWith(t, nc, "D").start(t)
			d.wantCommands(t, users)
		})
	}
}

// purgeUnapplied appends some entries, which one rig applies, and purges them before the
// others do.
func purgeUnapplied(t *testing.T, js jetstream.JetStream, applies *rig, misses ...*rig) (users []string) {
	t.Helper()
	stream, err := js.Stream(t.Context(), DefaultStream)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range misses {
		h := r.stream.(*heldStream)
		h.gate.Lock()
		defer h.gate.Unlock()
		if err := stream.DeleteConsumer(t.Context(), h.last.Load().(string)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		user := fmt.Sprint("lost", i)
		data, err := entry.Append(nil, &entry.Entry{Header: entry.Header{Epoch: "E1", Instance: "gone", Sequence: uint64(i + 1)},
			Commands: []entry.Command{{Kind: entry.Set, User: user}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), subjectOf(DefaultStream), data); err != nil {
			t.Fatal(err)
		}
		users = append(users, user)
	}
	if applies != nil {
		applies.wait(t, "the entries to be applied", func() bool { return slices.Contains(applies.commands, users[2]) })
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	return users
}

// TestG01_JournalDropsEntries: the stream is set to drop its oldest entries while an instance runs,
// and drops many between two looks. The instance says that entries are lost, so that no change is
// acknowledged, and stores a snapshot again and again. The next start has everything, once the
// setting is as before.
func TestG01_JournalDropsEntries(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a := openWith(t, nc, "A").start(t)
	users := a.fill(t, 0, 10)
	stream, err := a.js.Stream(t.Context(), DefaultStream)
	if err != nil {
		t.Fatal(err)
	}
	right := stream.CachedInfo().Config
	wrong := right
	wrong.Discard, wrong.MaxMsgs = jetstream.DiscardOld, 3
	if a.Losing() {
		t.Error("Losing: got true before anything was changed")
	}
	if _, err := a.js.UpdateStream(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	for i := 10; !a.Losing(); i++ {
		if i > 2000 {
			t.Fatal("Losing: got false behind 2,000 entries")
		}
		users = append(users, a.fill(t, i, i+1)...)
	}
	a.storedBehind(t, a.position())
	if !a.Losing() {
		t.Error("Losing: got false once a snapshot was stored, though the stream goes on dropping entries")
	}
	// Twice more, without a pause: nothing may be lost in between.
	for range 2 {
		users = append(users, a.fill(t, len(users), len(users)+5)...)
		a.storedBehind(t, a.position())
	}
	if _, err := a.js.UpdateStream(t.Context(), right); err != nil {
		t.Fatal(err)
	}
	a.wrong(t, "")
	a.wait(t, "it to lose nothing any more", func() bool { return !a.Losing() })
	a.stop(t)
	b := openWith(t, nc, "B").start(t)
	b.wantCommands(t, users)
}

// blindStream does not tell its state once blind is set.
type blindStream struct {
	jetstream.Stream
	blind atomic.Bool
}

func (b *blindStream) Info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	if b.blind.Load() {
		return nil, errors.New("nobody may know")
	}
	return b.Stream.Info(ctx, opts...)
}

// TestJournal_LookFails: an instance that cannot look at the stream takes snapshots all the same.
func TestJournal_LookFails(t *testing.T) {
	t.Parallel()
	r := openWith(t, startBroker(t), "A", small)
	stream := &blindStream{Stream: r.stream}
	r.stream = stream
	r.start(t)
	stream.blind.Store(true)
	last := r.position()
	r.fill(t, 0, 60)
	r.storedBehind(t, last+1)
}
