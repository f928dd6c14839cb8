package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A journal can be put back to an earlier state, or made anew, while instances run. They
// cannot go on with it, and they hold what is missing in it. So each instance stores a
// snapshot of what it has applied before it ends, unless one is stored that has it. The next
// start then finds a snapshot that does not fit the journal. It is refused, and an operator
// chooses between the two.

var (
	// errOtherJournal is of a snapshot that this journal does not go on from.
	errOtherJournal = fmt.Errorf("%w: a snapshot does not fit it", ErrRestoredJournal)
	// errLaterEpoch says that what an instance has applied is of an epoch that is over.
	errLaterEpoch = errors.New("a later epoch has begun, so what this instance has applied is not stored")
)

// goOnWithJournal is what to do where no snapshot has more than the journal.
const goOnWithJournal = "stop every instance, then start one with --new-epoch to go on with what is there"

// takeOrKeep is what to do where snapshots do not fit the journal.
func takeOrKeep(bucket string, list ...stored) string {
	var names []string
	for _, x := range list {
		names = append(names, fmt.Sprintf("nats object rm %s %s", bucket, x.name))
	}
	return fmt.Sprintf("stop every instance, then start one with --new-epoch to go on with what the snapshot of position %d holds, stored at %s; to go on with the journal as it is instead, remove that snapshot first: %s",
		list[0].position, list[0].at.UTC().Format(time.RFC3339), strings.Join(names, "; "))
}

// beginsEpoch reports whether this start is to go on with whatever there is. Once it has
// caught up, the journal is the one that every instance has, and what is wrong with it then
// is not accepted.
func (j *Journal[W]) beginsEpoch() bool { return j.cfg.NewEpoch && !j.isCaughtUp() }

// stopWithin is for how much longer an instance that is told to stop tries to store what it has
// applied.
const stopWithin = 20 * time.Second

// rescue stores what was applied from a journal that is not the same any more, and returns
// why Run ends. It is called when nothing else of the journal runs. It tries until it can,
// because nobody else may hold this state. Once ctx is done it waits for no other instance, and
// gives up after stopWithin.
func (j *Journal[W]) rescue(ctx context.Context, cause error) error {
	if !j.stands || j.position() == 0 {
		return cause
	}
	j.noteWrong(fmt.Errorf("%w; what was applied is being stored as a snapshot, keep this instance running until it ends by itself", cause))
	rank, _ := j.cfg.Rank()
	turn := time.Now().Add(time.Duration(rank) * rescueTurn)
	storing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopWithin, cancel) })()
	var said time.Time
	for {
		x, err := j.storeApplied(storing, ctx.Err() != nil || !time.Now().Before(turn))
		switch {
		case err == nil && x.name != "":
			return fmt.Errorf("%w; %s", cause, takeOrKeep(j.cfg.Bucket, x))
		case errors.Is(err, errLaterEpoch):
			return fmt.Errorf("%w; %w", cause, err)
		case err != nil && storing.Err() == nil && time.Since(said) >= sayEvery:
			said = time.Now()
			j.cfg.Logger.Error("what was applied could not be stored as a snapshot; trying again", "err", err)
		}
		if pause(storing, retryEvery) != nil || j.cfg.JetStream.Conn().IsClosed() {
			return fmt.Errorf("%w; what was applied up to position %d is not stored", cause, j.position())
		}
	}
}

// storeApplied returns a snapshot that has all that was applied. Where there is none it
// stores one if it is this instance's turn, and returns none otherwise.
func (j *Journal[W]) storeApplied(ctx context.Context, turn bool) (stored, error) {
	of := j.begunSnapshot()
	x, found, err := j.storedAlready(ctx, of)
	if err != nil || found || !turn {
		of.End()
		return x, err
	}
	if x, err = j.store.put(ctx, of); err != nil {
		return stored{}, err
	}
	j.cfg.Logger.Info("took a snapshot of a journal that is not the same any more", "position", x.position, "bytes", x.bytes)
	for { // until it is known whether a later epoch has begun meanwhile
		_, _, err := j.storedAlready(ctx, of)
		switch {
		case errors.Is(err, errLaterEpoch):
			return stored{}, errors.Join(err, j.store.remove(ctx, x.name))
		case err == nil || pause(ctx, retryEvery) != nil:
			return x, nil
		}
	}
}

// storedAlready returns a snapshot of the same epoch that has at least as much. The error is
// errLaterEpoch where there is one of a later epoch.
func (j *Journal[W]) storedAlready(ctx context.Context, of begunSnapshot) (x stored, found bool, err error) {
	list, err := j.store.whole(ctx)
	if err != nil {
		return x, false, err
	}
	epoch, generation := of.Epoch()
	if len(list) > 0 && list[0].generation > generation {
		return x, false, fmt.Errorf("%w: the snapshot %s is of epoch %s, the state of %s", errLaterEpoch, list[0].name, list[0].epoch, epoch)
	}
	i := slices.IndexFunc(list, func(x stored) bool { return x.epoch == epoch && x.position >= of.Position() })
	if i < 0 {
		return x, false, nil
	}
	return list[i], true, nil
}

// goOnFromSnapshot goes on with a snapshot that was restored and does not fit the journal, whose
// entries count for nothing. The next entry must be behind both.
func (j *Journal[W]) goOnFromSnapshot(ctx context.Context, x stored, last uint64) error {
	j.cfg.Logger.Warn("going on with the snapshot, which is not of this journal: what the journal has is given up", "position", x.position, "journal", last)
	if last >= x.position {
		return j.passOver(last)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	// A purge up to a position behind the end moves the end there.
	if err := j.stream.Purge(ctx, jetstream.WithPurgeSequence(x.position+1)); err != nil {
		return &transientError{fmt.Errorf("moving the journal's end to position %d: %w", x.position, err)}
	}
	return nil
}
