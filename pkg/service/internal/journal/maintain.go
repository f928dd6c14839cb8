package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

const (
	// keptSnapshots is how many are kept: where the newest is damaged the one
	// before serves.
	keptSnapshots = 2
	// maintainEvery is how often it is asked whether a snapshot is due or the
	// journal can be trimmed.
	maintainEvery = 2 * time.Second
	// turnWait is how much longer each further instance waits before it takes a
	// snapshot that the ones before it should have taken.
	turnWait = 30 * time.Second
	// sweepEvery is how often what nobody needs is looked for in the store.
	sweepEvery = 10 * time.Minute
	// maxMarks bounds the memory of when positions were applied: one every
	// markEvery for as long as entries are kept.
	maxMarks = 1 << 12
)

// DefaultSnapshotBytes and DefaultSnapshotEntries are after how much journal a
// snapshot is due, whichever is first. A start replays at most about twice as
// much; entries are about a second of an idle service each.
const (
	DefaultSnapshotBytes   = 32 << 20
	DefaultSnapshotEntries = 1 << 16
	// DefaultKeep is how old an entry is at least when it is trimmed.
	DefaultKeep = 10 * time.Minute
)

// Snapshot is the state being written down, see Config.Snapshot. Next and End
// are called on a goroutine of the journal's.
type Snapshot interface {
	// Position is what it is as of; Epoch and Generation are the state's then,
	// Wall the journal's time.
	Position() uint64
	Epoch() (name string, generation uint32)
	Wall() int64
	// Next appends the next block to b; more is false with the last.
	Next(b []byte) (block []byte, more bool, err error)
	// End is called once, when it is of no use any more.
	End()
}

// volume is how much journal there is behind a snapshot.
type volume struct{ bytes, entries uint64 }

// mark remembers when a position was applied, by the journal's time.
type mark struct {
	position uint64
	wall     int64
}

// maintain takes snapshots and trims the journal until ctx is done. Every
// instance does: the first in the table of writers at once, the others only
// where it does not.
func (j *Journal[W]) maintain(ctx context.Context) error {
	var swept time.Time
	for {
		if pause(ctx, j.maintainEvery+rand.N(j.maintainEvery/4)) != nil {
			return nil
		}
		rank, ok := j.cfg.Rank()
		if !ok || !j.isCaughtUp() {
			continue
		}
		// A look that fails keeps nothing else from being done.
		err := errors.Join(j.watch(ctx, rank), j.keep(ctx, rank, &swept))
		if err != nil && ctx.Err() == nil {
			j.cfg.Logger.Warn("the journal could not be maintained; trying again", "err", err)
		}
	}
}

// keep takes a snapshot where one is due, and drops what is no longer needed. swept is when
// the store was last swept.
func (j *Journal[W]) keep(ctx context.Context, rank int, swept *time.Time) (err error) {
	if j.due(time.Duration(rank) * turnWait) {
		err = j.takeSnapshot(ctx)
	}
	if err == nil {
		err = j.supersede(ctx)
	}
	if err == nil && rank == 0 {
		err = j.trim(ctx)
	}
	if err == nil && rank == 0 && time.Since(*swept) > sweepEvery {
		*swept = time.Now()
		err = j.store.sweep(ctx, keptSnapshots)
	}
	return err
}

// due reports whether enough was applied since the last snapshot, and long
// enough ago that an instance before this one should have taken it.
func (j *Journal[W]) due(wait time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.since.bytes < j.cfg.SnapshotBytes+j.snapshot.bytes && j.since.entries < j.cfg.SnapshotEntries {
		j.dueSince = time.Time{}
		return false
	}
	if j.dueSince.IsZero() {
		j.dueSince = time.Now()
	}
	return time.Since(j.dueSince) >= wait
}

// takeSnapshot stores the state, unless another instance did meanwhile.
func (j *Journal[W]) takeSnapshot(ctx context.Context) error {
	list, err := j.store.list(ctx)
	if err != nil {
		return err
	}
	if len(list) > 0 && list[0].position > j.lastSnapshot().position {
		j.noteSnapshot(list[0])
		return nil
	}
	_, err = j.storeSnapshot(ctx)
	return err
}

// storeSnapshot stores the state as of a position of now.
func (j *Journal[W]) storeSnapshot(ctx context.Context) (stored, error) {
	begun := time.Now()
	request := make(chan begunSnapshot, 1)
	j.Tick() // it begins behind an entry
	select {
	case j.wanted <- request:
	case <-ctx.Done():
		return stored{}, ctx.Err()
	case <-time.After(beginWithin):
		return stored{}, errors.New("no snapshot could be begun: the journal is not followed at the moment")
	}
	x, err := j.store.put(ctx, <-request)
	if err != nil {
		return x, err
	}
	j.noteSnapshot(x)
	j.cfg.Logger.Info("took a snapshot", "position", x.position, "bytes", x.bytes, "took", time.Since(begun).Round(time.Millisecond))
	return x, j.store.sweep(ctx, keptSnapshots)
}

// begunSnapshot is one with the hash of the entry at its position.
type begunSnapshot struct {
	Snapshot
	hash uint64
}

// beginWanted begins the snapshot that maintain waits for, if it does. It is
// called between two entries, on the goroutine that applies them.
func (j *Journal[W]) beginWanted() {
	select {
	case request := <-j.wanted:
		request <- j.begunSnapshot()
	default:
	}
}

// begunSnapshot begins one, where the state is applied.
func (j *Journal[W]) begunSnapshot() begunSnapshot {
	j.mu.Lock()
	hash := j.hash
	j.mu.Unlock()
	return begunSnapshot{j.cfg.Snapshot(), hash}
}

// trim drops the entries that the older snapshot holds, once they are old
// enough. That of its position stays: by it the snapshot is known to be of this
// journal.
func (j *Journal[W]) trim(ctx context.Context) error {
	until := j.keptFrom()
	if until == 0 {
		return nil
	}
	list, err := j.store.list(ctx)
	if err != nil || len(list) < keptSnapshots {
		return err
	}
	// The older one is of a later position where it is of an earlier epoch.
	until = min(until, list[0].position, list[keptSnapshots-1].position)
	info, err := j.streamInfo(ctx)
	if err != nil || info.State.FirstSeq >= until {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := j.stream.Purge(ctx, jetstream.WithPurgeSequence(until)); err != nil {
		return err
	}
	j.cfg.Logger.Info("trimmed the journal", "from", info.State.FirstSeq, "to", until)
	return nil
}

// keptFrom returns the position before which entries are old enough to be
// trimmed, or 0.
func (j *Journal[W]) keptFrom() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest := j.wall - j.cfg.Keep.Milliseconds()
	until := uint64(0)
	for len(j.marks) > 1 && j.marks[1].wall <= oldest {
		j.marks = j.marks[1:]
	}
	if len(j.marks) > 0 && j.marks[0].wall <= oldest {
		until = j.marks[0].position
	}
	return until
}

// noteApplied keeps the accounts of what was applied. It needs mu.
func (j *Journal[W]) noteApplied(position uint64, at int64, data []byte) {
	j.applied, j.wall, j.hash = position, at, hashEntry(data)
	if position >= j.target {
		j.lastAt = time.Now()
	}
	j.since.bytes += uint64(len(data))
	j.since.entries++
	grain := max(j.cfg.Keep.Milliseconds()/maxMarks*2, 100)
	if n := len(j.marks); n == 0 || at >= j.marks[n-1].wall+grain || at < j.marks[n-1].wall {
		if n > 0 && at < j.marks[n-1].wall {
			j.marks = j.marks[:0] // the clock went back: what is old is not known
		}
		if len(j.marks) < maxMarks {
			j.marks = append(j.marks, mark{position, at})
		}
	}
}

// noteSnapshot takes a snapshot for the last one.
func (j *Journal[W]) noteSnapshot(x stored) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.snapshot, j.dueSince = x, time.Time{}
	if j.applied >= x.position && j.since.entries > j.applied-x.position {
		// About as much of the bytes is behind it as of the entries.
		behind := j.applied - x.position
		j.since = volume{bytes: j.since.bytes / j.since.entries * behind, entries: behind}
	}
}

func (j *Journal[W]) lastSnapshot() stored {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.snapshot
}

// BeginEpoch begins a new epoch on the state as it is, by an entry at the
// journal's end, and stores a snapshot of it, the only one that counts from then
// on. It must be called when the journal is caught up, and no other instance
// runs. rules follow the command that begins it.
func (j *Journal[W]) BeginEpoch(ctx context.Context, epoch string, rules ...entry.Command) error {
	last := j.position()
	commands := append([]entry.Command{{Kind: entry.NewEpoch, All: j.lost}}, rules...)
	if err := j.appendEpoch(ctx, epoch, last, commands...); err != nil {
		return err
	}
	if err := j.awaitBehind(ctx, last); err != nil {
		return err
	}
	x, err := j.storeSnapshot(ctx)
	if err != nil {
		return err
	}
	list, err := j.store.list(ctx)
	for _, old := range list {
		if old.generation < x.generation {
			err = errors.Join(err, j.store.remove(ctx, old.name))
		}
	}
	if err == nil && j.damaged {
		// The snapshot holds all there is. A server that reads a damaged file
		// again at a later start may give up what was stored behind the damage.
		err = j.stream.Purge(ctx, jetstream.WithPurgeSequence(x.position+1))
	}
	return err
}
