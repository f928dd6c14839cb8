package journal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

// The rig's state is the list of users of all commands. A snapshot of it is a block with the
// position, and then a block for each user.

type rigSnapshot struct {
	position uint64
	blocks   []string
}

func (x *rigSnapshot) Position() uint64        { return x.position }
func (x *rigSnapshot) Epoch() (string, uint32) { return "E1", 1 }
func (x *rigSnapshot) Wall() int64             { return 1 }
func (x *rigSnapshot) End()                    {}
func (x *rigSnapshot) Next(b []byte) ([]byte, bool, error) {
	b = append(b, x.blocks[0]...)
	x.blocks = x.blocks[1:]
	return b, len(x.blocks) > 0, nil
}

func (r *rig) snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &rigSnapshot{position: r.last, blocks: []string{fmt.Sprint(r.last)}}
	for some := range slices.Chunk(r.commands, 25) {
		x.blocks = append(x.blocks, strings.Join(some, " "))
	}
	return x
}

func (r *rig) restore(next func() ([]byte, error), progress func(done, total int)) (uint64, error) {
	block, err := next()
	if err != nil {
		return 0, err
	}
	var position uint64
	if _, err := fmt.Sscan(string(block), &position); err != nil {
		return 0, err
	}
	var commands []string
	for {
		block, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
		commands = append(commands, strings.Fields(string(block))...)
		progress(len(commands), len(commands))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands, r.last = commands, position
	r.restored = append(r.restored, position)
	return position, nil
}

// small has snapshots taken after few entries, and entries trimmed at once.
func small(cfg *Config[string]) {
	cfg.SnapshotEntries, cfg.Keep = 20, time.Millisecond
}

// fill appends commands one after the other and returns their users.
func (r *rig) fill(t *testing.T, from, to int) (users []string) {
	t.Helper()
	for i := from; i < to; i++ {
		user := fmt.Sprintf("u%d", i)
		r.submit(t, user)
		r.waitAnswer(t, user, "applied")
		users = append(users, user)
	}
	return users
}

func (r *rig) wantCommands(t *testing.T, want []string) {
	t.Helper()
	r.wait(t, "every command is applied once", func() bool { return slices.Equal(r.commands, want) })
}

// snapshots waits until there are so many snapshots, the newest of them behind a position.
func (r *rig) snapshots(t *testing.T, count int, behind uint64) []stored {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		list, err := r.store.list(t.Context())
		if err == nil && len(list) >= count && list[0].position > behind {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %d snapshots behind %d within 30 s: %v, %v", count, behind, list, err)
		}
		r.Tick()
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *rig) firstSeq(t *testing.T) uint64 {
	t.Helper()
	info, err := r.streamInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.FirstSeq
}

// twoSnapshots fills a journal until there are two snapshots and it is trimmed behind the older
// one.
func twoSnapshots(t *testing.T, nc *nats.Conn, opts ...func(*Config[string])) (*rig, []string) {
	t.Helper()
	r := openWith(t, nc, "A", append([]func(*Config[string]){small}, opts...)...).start(t)
	users := r.fill(t, 0, 30)
	first := r.snapshots(t, 1, 0)
	users = append(users, r.fill(t, 30, 60)...)
	list := r.snapshots(t, 2, first[0].position)
	users = append(users, r.fill(t, 60, 65)...)
	deadline := time.Now().Add(30 * time.Second)
	for r.firstSeq(t) != list[1].position {
		if time.Now().After(deadline) {
			t.Fatalf("the journal begins at %d, want it trimmed to %d", r.firstSeq(t), list[1].position)
		}
		r.Tick()
		time.Sleep(50 * time.Millisecond)
	}
	return r, users
}

// TestTrim_Full: a journal that is full is trimmed too, although no entry is applied any more and no
// snapshot can be taken. Otherwise it would stay full until somebody else makes room.
func TestTrim_Full(t *testing.T) {
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	var full atomic.Bool
	refuse := deaf(func(_ int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		if full.Load() {
			return nil, &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"}
		}
		return store()
	})
	r := openWith(t, nc, "A", func(cfg *Config[string]) {
		cfg.JetStream = refuse(cfg.JetStream)
		cfg.SnapshotEntries, cfg.Keep = 1, 4*time.Second
	}).start(t)
	r.fill(t, 0, 10)
	first := r.snapshots(t, 1, 0)
	r.fill(t, 10, 20)
	list := r.snapshots(t, 2, first[0].position)
	r.fill(t, 20, 21) // a snapshot of which is due now
	full.Store(true)
	until := list[1].position
	deadline := time.Now().Add(60 * time.Second)
	for r.firstSeq(t) < until {
		if time.Now().After(deadline) {
			t.Fatalf("the journal begins at %d, want it trimmed to %d", r.firstSeq(t), until)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *rig) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.run; err != nil {
		t.Fatalf("Run: %v", err)
	}
}

// TestSnapshot_StartBehindOne: if a journal was trimmed, a start goes on from the newest snapshot,
// and everything is applied once.
func TestSnapshot_StartBehindOne(t *testing.T) {
	nc := startBroker(t)
	a, users := twoSnapshots(t, nc)
	newest := a.snapshots(t, 2, 0)[0]
	a.stop(t)
	b := openWith(t, nc, "B", small).start(t)
	b.wantCommands(t, users)
	if !slices.Equal(b.restored, []uint64{newest.position}) {
		t.Errorf("restored the snapshots of %v, want that of %d", b.restored, newest.position)
	}
	b.wantCommands(t, append(users, b.fill(t, 100, 110)...))
}

// damage removes an object's contents, as if they had never been stored.
func (r *rig) damage(t *testing.T, x stored) {
	t.Helper()
	os, err := r.store.objects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.GetInfo(t.Context(), x.name)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := r.js.Stream(t.Context(), "OBJ_"+DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$O."+DefaultBucket+".C."+info.NUID)); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshot_DamagedFallsBack: if the newest snapshot cannot be read, the one before it is used.
// If neither can be read, the instance says so and stops. It goes on without the state only by
// NewEpoch.
func TestSnapshot_DamagedFallsBack(t *testing.T) {
	nc := startBroker(t)
	a, users := twoSnapshots(t, nc)
	list := a.snapshots(t, 2, 0)
	a.stop(t)
	a.damage(t, list[0])
	b := openWith(t, nc, "B").start(t)
	b.wantCommands(t, users)
	if !slices.Equal(b.restored, []uint64{list[1].position}) {
		t.Errorf("restored the snapshots of %v, want that of %d", b.restored, list[1].position)
	}
	b.stop(t)

	a.damage(t, list[1])
	c := openWith(t, nc, "C")
	err := c.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--new-epoch") {
		t.Fatalf("Run without a snapshot: got %v, want an error that names --new-epoch", err)
	}
	d := openWith(t, nc, "D", func(cfg *Config[string]) { cfg.NewEpoch = true }).start(t)
	if err := d.BeginEpoch(t.Context(), "E2"); err != nil {
		t.Fatal(err)
	}
	d.wantCommands(t, d.fill(t, 200, 205))
	e := openWith(t, nc, "E").start(t)
	d.wantCommands(t, e.commands)
}

// TestSnapshot_Newer: a snapshot that a later version wrote stops an earlier version. It must not
// go on from the snapshot before it.
func TestSnapshot_Newer(t *testing.T) {
	nc := startBroker(t)
	a, _ := twoSnapshots(t, nc)
	a.stop(t)
	newer := fmt.Errorf("%w: format 9", ErrNewer)
	b := openWith(t, nc, "B", func(cfg *Config[string]) {
		cfg.Restore = func(func() ([]byte, error), func(int, int)) (uint64, error) { return 0, newer }
	})
	if err := b.Run(t.Context()); !errors.Is(err, ErrNewer) || strings.Contains(err.Error(), "--new-epoch") {
		t.Errorf("Run: got %v, want ErrNewer and no advice to begin anew", err)
	}
}

// TestSnapshot_SleptPastTrim: an instance whose next entry is gone builds its
// state anew and goes on.
func TestSnapshot_SleptPastTrim(t *testing.T) {
	nc := startBroker(t)
	b := openWith(t, nc, "B").start(t)
	b.asleep.Lock()
	// Few snapshots, because each has every command so far.
	a := openWith(t, nc, "A", small, func(cfg *Config[string]) { cfg.SnapshotEntries = 600 }).start(t)
	users := a.fill(t, 0, 2500)
	for a.firstSeq(t) < 2000 { // more than a consumer can have in its buffers
		a.Tick()
		time.Sleep(10 * time.Millisecond)
	}
	b.asleep.Unlock()
	b.wantCommands(t, users)
	if len(b.restored) == 0 {
		t.Error("no snapshot was restored")
	}
	// Until then no caller is told that a command was applied, see
	// TestRebuild_AnswersWhoCameMeanwhile.
	awaitFollowing(t, b)
	b.wantCommands(t, append(users, b.fill(t, 5000, 5005)...))
}

func awaitFollowing(t *testing.T, r *rig) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !r.Follows(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not follow the journal after 20 s")
		}
		r.Tick()
		time.Sleep(10 * time.Millisecond)
	}
}

// TestRebuild_AnswersWhoCameMeanwhile: an entry that is packed while the state is built anew may be
// in the snapshot that is restored. Then it is never applied with its callers. They are told that
// the outcome is unknown.
func TestRebuild_AnswersWhoCameMeanwhile(t *testing.T) {
	nc := startBroker(t)
	a, _ := twoSnapshots(t, nc)
	var wrong, wait atomic.Bool
	restoring := make(chan chan struct{})
	b := openWith(t, nc, "B", func(cfg *Config[string]) {
		apply, restore := cfg.Apply, cfg.Restore
		cfg.Apply = func(x Applied[string]) error {
			if wrong.CompareAndSwap(true, false) {
				return ErrRebuild
			}
			return apply(x)
		}
		cfg.Restore = func(next func() ([]byte, error), progress func(done, total int)) (uint64, error) {
			if wait.CompareAndSwap(true, false) {
				goOn := make(chan struct{})
				restoring <- goOn
				<-goOn
				return 0, &transientError{errors.New("not yet")}
			}
			return restore(next, progress)
		}
	}).start(t)
	wait.Store(true)
	wrong.Store(true)
	b.Tick()
	goOn := <-restoring
	b.submit(t, "meanwhile")
	a.wait(t, "the other instance has applied it", func() bool { return slices.Contains(a.commands, "meanwhile") })
	a.fill(t, 300, 325)
	first := a.snapshots(t, 2, 0)[0].position
	a.fill(t, 325, 350)
	a.snapshots(t, 2, first)
	close(goOn)
	b.waitAnswer(t, "meanwhile", ErrOutcomeUnknown.Error())
}

// TestJournal_RestoredBackup: if a stream ends before a snapshot of it, or has other entries, a
// start goes on with it only by NewEpoch.
func TestJournal_RestoredBackup(t *testing.T) {
	nc := startBroker(t)
	a, _ := twoSnapshots(t, nc)
	newest := a.snapshots(t, 2, 0)[0]
	a.stop(t)
	if err := a.js.DeleteStream(t.Context(), DefaultStream); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), configOf(a, "B")); !errors.Is(err, ErrRestoredJournal) {
		t.Fatalf("Open without the stream: got %v, want ErrRestoredJournal", err)
	}
	c := openWith(t, nc, "C", func(cfg *Config[string]) { cfg.NewEpoch = true }).start(t)
	if !slices.Equal(c.restored, []uint64{newest.position}) {
		t.Errorf("restored the snapshots of %v, want that of %d", c.restored, newest.position)
	}
	want := slices.Clone(c.commands)
	if err := c.BeginEpoch(t.Context(), "E2"); err != nil {
		t.Fatal(err)
	}
	c.wantCommands(t, append(want, c.fill(t, 300, 305)...))
	c.stop(t)

	// A stream with other entries at the snapshot's position.
	if err := c.js.DeleteStream(t.Context(), DefaultStream); err != nil {
		t.Fatal(err)
	}
	if _, err := c.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: DefaultStream, Subjects: []string{DefaultStream + ".entries"}, Discard: jetstream.DiscardNew, DenyDelete: true}); err != nil {
		t.Fatal(err)
	}
	for range newest.position + 20 {
		if _, err := c.js.Publish(t.Context(), DefaultStream+".entries", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := openWith(t, nc, "D").Run(t.Context()); !errors.Is(err, ErrRestoredJournal) {
		t.Errorf("Run with other entries: got %v, want ErrRestoredJournal", err)
	}
}

// TestJournal_SkipPoison: an entry that cannot be read stops every instance before it. An instance
// that is told to skip the entry goes on.
func TestJournal_SkipPoison(t *testing.T) {
	nc := startBroker(t)
	a := openWith(t, nc, "A").start(t)
	users := a.fill(t, 0, 3)
	ack, err := a.js.Publish(t.Context(), DefaultStream+".entries", []byte{entry.Format, 0xff})
	if err != nil {
		t.Fatal(err)
	}
	skip := fmt.Sprintf("--skip %d", ack.Sequence)
	if err := <-a.run; err == nil || !strings.Contains(err.Error(), skip) {
		t.Fatalf("Run: got %v, want an error that names %s", err, skip)
	}
	if err := openWith(t, nc, "B").Run(t.Context()); err == nil || !strings.Contains(err.Error(), skip) {
		t.Fatalf("Run again: got %v, want an error that names %s", err, skip)
	}
	c := openWith(t, nc, "C", func(cfg *Config[string]) { cfg.Skip = []uint64{ack.Sequence} }).start(t)
	c.wantCommands(t, append(users, c.fill(t, 10, 12)...))
	c.stop(t)

	if _, err := c.js.Publish(t.Context(), DefaultStream+".entries", []byte{entry.Format + 1}); err != nil {
		t.Fatal(err)
	}
	err = openWith(t, nc, "D", func(cfg *Config[string]) { cfg.Skip = []uint64{ack.Sequence} }).Run(t.Context())
	if _, ok := errors.AsType[*entry.NewerFormatError](err); !ok {
		t.Errorf("Run with an entry of a newer format: got %v, want NewerFormatError", err)
	}
}

// TestJournal_MissingEntry: an entry that the store has lost is never passed over.
func TestJournal_MissingEntry(t *testing.T) {
	nc := startBroker(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	a := openWith(t, nc, "A").start(t)
	a.fill(t, 0, 5)
	a.stop(t)
	// A stream like it, without the entry. From the journal's own no entry can be deleted.
	cfg := jetstream.StreamConfig{Name: "LOST", Subjects: []string{"LOST.entries"}, Discard: jetstream.DiscardNew}
	stream, err := js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for position := uint64(1); position <= 5; position++ {
		m, err := a.stream.GetMsg(t.Context(), position)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "LOST.entries", m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.DeleteMsg(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	cfg.DenyDelete = true
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := openWith(t, nc, "B", func(cfg *Config[string]) { cfg.Stream, cfg.Bucket = "LOST", "LOST" }).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "position 4 is missing") {
		t.Errorf("Run: got %v, want an error about position 4", err)
	}
}

// TestStore_Sweep: unfinished objects of an instance that died are removed in time. Of a removed
// snapshot nothing is left.
func TestStore_Sweep(t *testing.T) {
	nc := startBroker(t)
	a := openWith(t, nc, "A", small).start(t)
	behind := uint64(0)
	for i := range 4 {
		a.fill(t, i*30, i*30+30)
		behind = a.snapshots(t, min(i+1, 2), behind)[0].position
	}
	stream, err := a.js.Stream(t.Context(), "OBJ_"+DefaultBucket)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		if len(info.State.Subjects) == 4 { // the list and the contents of two
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store holds %v, want two snapshots only", info.State.Subjects)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func configOf(r *rig, instance string) Config[string] {
	cfg := r.cfg
	cfg.Instance = instance
	return cfg
}

// TestCandidates: a wrong state may have been stored before it was found to be wrong. So the newest
// snapshot comes last. If the journal is whole, that snapshot is not needed at all.
func TestCandidates(t *testing.T) {
	for _, x := range []struct {
		list  []int
		avoid int
		whole bool
		want  []int
	}{
		{[]int{20, 10}, 0, false, []int{20, 10}},
		{[]int{20, 10}, 1, false, []int{10, 20}},
		{[]int{20}, 1, false, []int{20}},
		{[]int{20}, 1, true, nil},
		{[]int{20, 10}, 1, true, []int{10}},
		{[]int{20, 10}, 0, true, []int{20, 10}},
		{nil, 1, true, nil},
	} {
		if got := Candidates(x.list, x.avoid, x.whole); !slices.Equal(got, x.want) {
			t.Errorf("Candidates(%v, %d, %t) = %v, want %v", x.list, x.avoid, x.whole, got, x.want)
		}
	}
}
