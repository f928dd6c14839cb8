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
	// keptSnapshots is how many snapshots are kept. If the newest is damaged, the one before it
	// is used.
	keptSnapshots = 2
	// maintainEvery is how often maintain looks, and idlyEvery while Config.Idle holds: each look is
	// several requests to JetStream.
	maintainEvery, idlyEvery = 2 * time.Second, 5 * time.Second
	// turnWait is how much longer each further instance waits before it takes a snapshot that
	// the instances before it should have taken.
	turnWait = 30 * time.Second
	// sweepEvery is how often the store is searched for what is no longer needed.
	sweepEvery = 10 * time.Minute
	// maxMarks bounds the marks, see noteApplied.
	maxMarks = 1 << 12
)

// A snapshot is due after DefaultSnapshotBytes or DefaultSnapshotEntries of journal, whichever is
// first. A start applies at most about twice as much. A snapshot is also due when the last one is as
// many seconds old as that are entries, which is 18 h: what was erased leaves the journal by then,
// however few entries there are.
const (
	DefaultSnapshotBytes   = 32 << 20
	DefaultSnapshotEntries = 1 << 16
	// DefaultKeep is the least age at which an entry is trimmed.
	DefaultKeep = 10 * time.Minute
)

// Snapshot is a state that is being stored, see Config.Snapshot. Next and End are called on a
// goroutine of the journal.
type Snapshot interface {
	// Position is that of the last entry applied. Epoch and Wall are the state's epoch and the
	// journal's time after that entry.
	Position() uint64
	Epoch() (name string, generation uint32)
	Wall() int64
	// Next appends the next block to b. more is false with the last one.
	Next(b []byte) (block []byte, more bool, err error)
	// End is called once, when the snapshot is no longer used.
	End()
}

// volume is an amount of journal.
type volume struct{ bytes, entries uint64 }

// part is the volume of so many of the entries: about as much of the bytes.
func (v volume) part(entries uint64) volume {
	return volume{bytes: v.bytes / v.entries * entries, entries: entries}
}

// mark remembers when a position was applied, by the journal's time.
type mark struct {
	position uint64
	wall     int64
}

// maintain takes snapshots and trims the journal until ctx is done. The instance of rank 0 does so
// at once. The others take a snapshot only if the instances before them do not.
func (j *Journal[W]) maintain(ctx context.Context) error {
	var swept time.Time
	for {
		every := j.maintainEvery
		if j.cfg.Idle() {
			every = idlyEvery
		}
		if pause(ctx, every+rand.N(every/4)) != nil {
			return nil
		}
		rank, ok := j.cfg.Rank()
		if !ok || !j.isCaughtUp() {
			continue
		}
		// If watch fails, keep is done all the same.
		err := errors.Join(j.watch(ctx, rank), j.keep(ctx, rank, &swept))
		if err != nil && ctx.Err() == nil {
			j.cfg.Logger.Warn("the journal could not be maintained; trying again", "err", err)
		}
	}
}

// keep takes a snapshot if one is due, and drops what is no longer needed. swept is when the store
// was last swept. It trims also where no snapshot can be taken: trimming may make room for one.
func (j *Journal[W]) keep(ctx context.Context, rank int, swept *time.Time) (err error) {
	if j.due(time.Duration(rank) * turnWait) {
		err = j.takeSnapshot(ctx)
	}
	if err == nil {
		err = j.supersede(ctx)
	}
	if rank == 0 {
		err = errors.Join(err, j.trim(ctx))
	}
	if err == nil && rank == 0 && time.Since(*swept) > sweepEvery {
		*swept = time.Now()
		err = j.store.sweep(ctx, keptSnapshots)
	}
	return err
}

// due reports whether a snapshot is due, and has been for longer than wait.
func (j *Journal[W]) due(wait time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.snapshot.at
	if last.IsZero() {
		last = j.opened
	}
	old := j.since.entries > 0 && time.Since(last).Seconds() >= float64(j.cfg.SnapshotEntries)
	if j.since.bytes < j.cfg.SnapshotBytes+j.snapshot.bytes && j.since.entries < j.cfg.SnapshotEntries && !old {
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

// storeSnapshot stores the state as of now.
func (j *Journal[W]) storeSnapshot(ctx context.Context) (stored, error) {
	begun := time.Now()
	request := make(chan begunSnapshot, 1)
	j.Tick() // a snapshot begins behind an entry
	select {
	case j.snapshotRequests <- request:
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

// begunSnapshot is a snapshot with the hash of the entry at its position.
type begunSnapshot struct {
	Snapshot
	hash uint64
}

// beginRequested begins the snapshot that maintain waits for, if it does. It is called between two
// entries, on the goroutine of Apply.
func (j *Journal[W]) beginRequested() {
	select {
	case request := <-j.snapshotRequests:
		request <- j.begunSnapshot()
	default:
	}
}

// begunSnapshot begins a snapshot. It is called on the goroutine of Apply.
func (j *Journal[W]) begunSnapshot() begunSnapshot {
	j.mu.Lock()
	hash := j.hash
	j.mu.Unlock()
	return begunSnapshot{j.cfg.Snapshot(), hash}
}

// trim drops the entries that are in the older snapshot and older than Config.Keep. The entry at
// the snapshot's position stays: it shows that the snapshot was taken of this journal.
func (j *Journal[W]) trim(ctx context.Context) error {
	until := j.keptFrom()
	if until == 0 {
		return nil
	}
	list, err := j.store.list(ctx)
	if err != nil || len(list) < keptSnapshots {
		return err
	}
	// The older one may have a later position, if it is of an earlier epoch.
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

// keptFrom returns the position before which entries are old enough to be trimmed. 0: none are.
// While the journal refuses new ones, the entries that it has grow older all the same.
func (j *Journal[W]) keptFrom() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest := j.wall - j.cfg.Keep.Milliseconds()
	if j.refused != nil {
		oldest += time.Since(j.lastAt).Milliseconds()
	}
	until := uint64(0)
	for len(j.marks) > 1 && j.marks[1].wall <= oldest {
		j.marks = j.marks[1:]
	}
	if len(j.marks) > 0 && j.marks[0].wall <= oldest {
		until = j.marks[0].position
	}
	return until
}

// noteApplied notes that an entry was applied. It marks when that was at most as often as maxMarks
// allows for Config.Keep. It needs mu.
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
			j.marks = j.marks[:0] // the clock went back, so the ages are not known
		}
		if len(j.marks) < maxMarks {
			j.marks = append(j.marks, mark{position, at})
		}
	}
}

// noteSnapshot notes the last snapshot.
func (j *Journal[W]) noteSnapshot(x stored) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.snapshot, j.dueSince = x, time.Time{}
	if j.applied >= x.position && j.since.entries > j.applied-x.position {
		j.since = j.since.part(j.applied - x.position)
	}
}

func (j *Journal[W]) lastSnapshot() stored {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.snapshot
}

// BeginEpoch begins a new epoch on the state as it is, by an entry at the journal's end. It stores
// a snapshot, and removes those of earlier epochs. It must be called when the journal is caught up
// and no other instance runs. rules are commands that follow in the entry.
func (j *Journal[W]) BeginEpoch(ctx context.Context, epoch string, rules ...entry.Command) error {
	last := j.position()
	commands := append([]entry.Command{{Kind: entry.NewEpoch, All: j.stateLost}}, rules...)
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
		// The snapshot has everything. A server may read the damaged file again at a later
		// start, and may then drop what was stored behind the damage.
		err = j.stream.Purge(ctx, jetstream.WithPurgeSequence(x.position+1))
	}
	return err
}
