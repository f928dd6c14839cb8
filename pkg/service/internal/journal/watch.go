package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/streams"
)

// Operators may change the stream and the snapshots while instances run. Nothing tells an instance:
// a consumer gets no word of a purge. So maintain has each instance look. If a start would find
// less than the instances have, one of them stores a snapshot at once. If something can be repaired
// by an operator only, each instance says what to do until it is done.

const (
	// rescueTurn is how much longer each further instance waits before it stores a missing
	// snapshot. An instance that has stored one pauses for as long as that took.
	rescueTurn = 5 * time.Second
	// lookAgain is the pause before a second look for something that is missing. A replica may
	// not know yet what another has stored.
	lookAgain = time.Second
	// beginWithin bounds the wait until the follower begins a snapshot between two entries.
	beginWithin = 10 * time.Second
)

// watched is what an instance found when it last looked.
type watched struct {
	mu     sync.Mutex
	wrong  error // nil: nothing is
	stored *Stored

	losing atomic.Bool // see Losing

	// maintain alone uses these.

	missingSince time.Time // since when a snapshot has been missing
	rescueAgain  time.Time // until then no further one is stored for that
	beyondSince  time.Time // since when there has been a snapshot behind the journal's end
	applied      uint64    // the last position applied at the last look
	snapshots    uint64    // the bytes of all snapshots at the last look
}

// Wrong returns what was wrong with the stream or the snapshots at the last look, and what to do,
// in one line. nil: nothing was. While something is wrong, a start may find less than the instances
// have.
func (j *Journal[W]) Wrong() error {
	j.watched.mu.Lock()
	defer j.watched.mu.Unlock()
	return j.watched.wrong
}

// Stored is what the stream held, and how many bytes the finished snapshots have together.
type Stored struct {
	First, Last uint64 // positions of the first and the last entry
	Bytes       uint64
	Snapshots   uint64
	Replicas    int
}

// Stored returns what the stream held at the last look. It reports false before the first one.
func (j *Journal[W]) Stored() (Stored, bool) {
	j.watched.mu.Lock()
	defer j.watched.mu.Unlock()
	if j.watched.stored == nil {
		return Stored{}, false
	}
	return *j.watched.stored, true
}

// noteState notes what the stream holds, and what snapshots there are as of the last look.
func (j *Journal[W]) noteState(info *jetstream.StreamInfo, snapshots uint64) {
	j.watched.mu.Lock()
	defer j.watched.mu.Unlock()
	j.watched.stored = &Stored{First: info.State.FirstSeq, Last: info.State.LastSeq, Bytes: info.State.Bytes, Snapshots: snapshots, Replicas: max(info.Config.Replicas, 1)}
}

// total returns how many bytes snapshots have together.
func total(list []stored) (bytes uint64) {
	for _, x := range list {
		bytes += x.bytes
	}
	return bytes
}

// Losing reports whether the stream was set to drop entries by itself, has dropped entries that
// were in no snapshot, and could do so again before the next snapshot. A change that is
// acknowledged while it does may be gone at the next start.
func (j *Journal[W]) Losing() bool { return j.watched.losing.Load() }

// look compares what is stored with what a start needs. missing says that a snapshot must be stored
// at once. err says that the look failed.
func (j *Journal[W]) look(ctx context.Context) (wrong error, missing bool, err error) {
	// The stream first: it is trimmed only behind a snapshot that is stored by then.
	info, err := j.streamInfo(ctx)
	deleted := errors.Is(err, jetstream.ErrStreamNotFound)
	if err != nil && !deleted {
		return nil, false, err
	}
	if !deleted {
		j.noteState(info, j.watched.snapshots)
	}
	list, err := j.store.complete(ctx)
	if err != nil {
		return nil, false, err
	}
	j.noteStored(list)
	j.watched.snapshots = total(list)
	var newest uint64
	if len(list) > 0 {
		newest = list[0].position
	}
	if deleted {
		applied := j.position()
		return j.deletedError(newest, applied), newest < applied, nil
	}
	first := info.State.FirstSeq
	gap := first > 1 && newest+1 < first
	soon := streams.Drops(info.Config) && j.droppedSoon(newest, first)
	j.watched.losing.Store(soon && (gap || j.Losing()))
	if gap {
		return fmt.Errorf("the journal begins at position %d, and the newest snapshot is of position %d: entries were purged or aged out, or snapshots were deleted, and a start would not find what was in them; a snapshot is being stored (keep the instances running until it is)",
			first, newest), true, nil
	}
	if err := j.lookBeyond(info, list); err != nil {
		return err, false, nil
	}
	if err := streams.Check(info.Config, j.requirements()); err != nil {
		return fmt.Errorf("the journal: %w", err), soon && newest < j.position(), nil
	}
	if err := j.store.check(ctx); errors.As(err, new(*streams.SettingError)) {
		return err, false, nil
	}
	return nil, false, nil
}

// droppedSoon reports whether a stream that drops entries could, within some looks, drop one that
// is not in the newest snapshot. It assumes that the pace is that since the last look.
func (j *Journal[W]) droppedSoon(newest, first uint64) bool {
	const looks, least = 4, 256
	applied := j.position()
	pace := applied - min(applied, j.watched.applied)
	j.watched.applied = applied
	return newest < first+max(looks*pace, least)
}

// lookBeyond returns an error if there is a snapshot behind the journal's end. Another instance
// stored it and ended, because the journal was made anew. It must be there for a while: the
// snapshot may have been stored after the stream was looked at, and a server that led the stream
// earlier may lag.
func (j *Journal[W]) lookBeyond(info *jetstream.StreamInfo, list []stored) error {
	since, last := &j.watched.beyondSince, max(info.State.LastSeq, j.position())
	if len(list) == 0 || list[0].position <= last {
		*since = time.Time{}
		return nil
	}
	if since.IsZero() {
		*since = time.Now()
	}
	if past := time.Since(*since); past < lookAgain || past < shorterFor && !single(info) {
		return nil
	}
	return j.endsBefore(list, last)
}

func (j *Journal[W]) deletedError(newest, applied uint64) error {
	state := fmt.Sprintf("the state as of position %d is stored as a snapshot", newest)
	if newest < applied {
		state = "the state is being stored as a snapshot, keep the instances running until it is"
	}
	return fmt.Errorf("the journal's stream %s was deleted, and nothing can be changed: %s; then stop every instance, start one with --new-epoch, and after it the others", j.cfg.Stream, state)
}

// watch looks, and stores a snapshot if one is missing and it is this instance's turn.
func (j *Journal[W]) watch(ctx context.Context, rank int) error {
	wrong, missing, err := j.look(ctx)
	if err == nil && missing && j.watched.missingSince.IsZero() {
		if err := pause(ctx, lookAgain); err != nil {
			return err
		}
		wrong, missing, err = j.look(ctx)
	}
	if err != nil {
		return err
	}
	j.noteWrong(wrong)
	w := &j.watched
	if !missing {
		w.missingSince = time.Time{}
		return nil
	}
	if w.missingSince.IsZero() {
		w.missingSince = time.Now()
	}
	begun := time.Now()
	if begun.Sub(w.missingSince) < time.Duration(rank)*rescueTurn || begun.Before(w.rescueAgain) {
		return nil
	}
	if _, err := j.storeSnapshot(ctx); err != nil {
		return err
	}
	w.rescueAgain = time.Now().Add(time.Since(begun))
	if wrong, _, err = j.look(ctx); err == nil {
		j.noteWrong(wrong)
	}
	return err
}

// noteWrong keeps what was found, and logs it if it is new.
func (j *Journal[W]) noteWrong(wrong error) {
	w := &j.watched
	w.mu.Lock()
	before := w.wrong
	w.wrong = wrong
	w.mu.Unlock()
	switch {
	case wrong != nil && (before == nil || before.Error() != wrong.Error()):
		j.cfg.Logger.Error("somebody changed what the journal rests on: this instance is not ready", "err", wrong)
	case wrong == nil && before != nil:
		j.cfg.Logger.Info("what the journal rests on is in order again")
	}
}

// noteStored notes which snapshot is the newest in the store.
func (j *Journal[W]) noteStored(list []stored) {
	var newest stored
	if len(list) > 0 {
		newest = list[0]
	}
	if newest.position >= j.lastSnapshot().position {
		if newest.position > j.lastSnapshot().position {
			j.noteSnapshot(newest)
		}
		return
	}
	// The last snapshot is gone.
	j.mu.Lock()
	defer j.mu.Unlock()
	j.snapshot = newest
	if j.since.entries > 0 {
		j.since = j.since.part(j.applied - min(j.applied, newest.position))
	}
}
