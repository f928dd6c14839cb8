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

// What operators do to the stream and the snapshots while instances run. Nobody tells an
// instance: a consumer hears nothing of a purge. So each instance looks, whenever it asks
// whether a snapshot is due. What a start would miss the instances still hold, and one of
// them stores it at once; what they cannot mend they say, with the cure, until it is mended.

const (
	// rescueTurn is how much longer each further instance waits before it stores a snapshot
	// that is missing. One that has done so pauses for as long as it took.
	rescueTurn = 5 * time.Second
	// lookAgain is the pause before something that is missing is looked for once more: a
	// replica may not know yet what another has stored.
	lookAgain = time.Second
	// beginWithin bounds the wait for a place between two entries where a snapshot begins.
	beginWithin = 10 * time.Second
)

// watched is what an instance found when it last looked.
type watched struct {
	mu    sync.Mutex
	wrong error // nil: nothing is

	losing atomic.Bool // see Losing

	// The rest is maintain's own: since when a snapshot is missing, until when no further
	// one is stored for that, and what was applied at the last look.
	missingSince, rescueAgain time.Time
	apartSince                time.Time // since when there has been a snapshot behind the journal's end
	applied                   uint64
}

// Wrong returns what is wrong with the stream or the snapshots, as of the last look, and
// what to do, in one line; nil where nothing is. While it is, a start may find less than
// the instances hold.
func (j *Journal[W]) Wrong() error {
	j.watched.mu.Lock()
	defer j.watched.mu.Unlock()
	return j.watched.wrong
}

// Losing reports whether the stream was set to drop entries by itself, has dropped some that
// no snapshot had, and could do so again before the next snapshot. What is acknowledged now
// may be gone by then.
func (j *Journal[W]) Losing() bool { return j.watched.losing.Load() }

// look compares what is stored with what a start needs. missing says that a snapshot must
// be stored at once. An error means that nobody knows.
func (j *Journal[W]) look(ctx context.Context) (wrong error, missing bool, err error) {
	// The stream first: its beginning moves up to a snapshot that is stored by then.
	info, err := j.streamInfo(ctx)
	deleted := errors.Is(err, jetstream.ErrStreamNotFound)
	if err != nil && !deleted {
		return nil, false, err
	}
	list, err := j.store.whole(ctx)
	if err != nil {
		return nil, false, err
	}
	j.noteStored(list)
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
		return fmt.Errorf("the journal begins at position %d, and the newest snapshot is of position %d: what was before was purged or aged out, or the snapshots were deleted, and a start would not find it; a snapshot is being stored (keep the instances running until this is over)",
			first, newest), true, nil
	}
	if err := j.lookApart(info, list); err != nil {
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

// droppedSoon reports whether a stream that drops entries could drop one within some looks
// that the newest snapshot does not have, as far as the pace since the last look tells.
func (j *Journal[W]) droppedSoon(newest, first uint64) bool {
	const looks, least = 4, 256
	applied := j.position()
	pace := applied - min(applied, j.watched.applied)
	j.watched.applied = applied
	return newest < first+max(looks*pace, least)
}

// lookApart returns an error where there is a snapshot behind the journal's end: another
// instance stored it before it ended, because the journal was made anew. The first look may
// find one that was stored meanwhile, and a server that led the stream before may lag.
func (j *Journal[W]) lookApart(info *jetstream.StreamInfo, list []stored) error {
	since, last := &j.watched.apartSince, max(info.State.LastSeq, j.position())
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

// watch looks, and stores a snapshot where one is missing and it is this instance's turn.
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

// noteWrong keeps what was found, and logs it when it is another.
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
		j.cfg.Logger.Info("what the journal rests on is as it must be again")
	}
}

// noteStored keeps which snapshot is the newest that is stored.
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
	// The newest one is gone. About as much of the bytes is behind the one before as of
	// the entries.
	j.mu.Lock()
	defer j.mu.Unlock()
	j.snapshot = newest
	if behind := j.applied - min(j.applied, newest.position); j.since.entries > 0 {
		j.since = volume{bytes: j.since.bytes / j.since.entries * behind, entries: behind}
	}
}
