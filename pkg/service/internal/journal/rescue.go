package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A journal can be put back to an earlier state, or made anew, while instances run. They cannot go
// on with it, and only they have the changes that are missing in it. So each instance stores a
// snapshot of what it has applied before it ends, unless another snapshot has it all. The next
// start finds a snapshot that does not fit the journal, and is refused. An operator chooses between
// the two.

var (
	// errOtherJournal says that a snapshot was taken of another journal than this one.
	errOtherJournal = fmt.Errorf("%w: a snapshot does not fit it", ErrRestoredJournal)
	// errLaterEpoch says that what an instance has applied is of an epoch that is over.
	errLaterEpoch = errors.New("a later epoch has begun, so what this instance has applied is not stored")
)

// goOnWithJournal tells an operator what to do if no snapshot has more than the journal.
const goOnWithJournal = "stop every instance, then start one with --new-epoch to go on with what is there"

// takeOrKeep tells an operator what to do if snapshots do not fit the journal.
func takeOrKeep(bucket string, list ...stored) string {
	var names []string
	for _, x := range list {
		names = append(names, fmt.Sprintf("nats object rm %s %s", bucket, x.name))
	}
	return fmt.Sprintf("stop every instance, then start one with --new-epoch to go on with what the snapshot of position %d holds, stored at %s; to go on with the journal as it is instead, remove that snapshot first: %s",
		list[0].position, list[0].at.UTC().Format(time.RFC3339), strings.Join(names, "; "))
}

// beginsEpoch reports whether this instance accepts a journal that lacks something. Once it is
// caught up it does not: then all instances have this journal.
func (j *Journal[W]) beginsEpoch() bool { return j.cfg.NewEpoch && !j.isCaughtUp() }

// stopWithin is for how long an instance that is told to stop goes on trying to store what it has
// applied.
const stopWithin = 20 * time.Second

// rescue stores what was applied from a journal that is another one by now, and returns why Run
// ends. It is called when nothing else of the journal runs. It tries until it succeeds, because
// perhaps no other instance has this state. Once ctx is done it does not wait for its turn, and
// gives up after stopWithin.
func (j *Journal[W]) rescue(ctx context.Context, cause error) error {
	if !j.stateValid || j.position() == 0 {
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
		case err != nil && storing.Err() == nil && time.Since(said) >= logEvery:
			said = time.Now()
			j.cfg.Logger.Error("what was applied could not be stored as a snapshot; trying again", "err", err)
		}
		if j.pauseRescue(storing) != nil {
			return fmt.Errorf("%w; what was applied up to position %d is not stored", cause, j.position())
		}
	}
}

// storeApplied returns a snapshot that has all that was applied. If there is none, it stores one if
// it is this instance's turn, and returns none otherwise.
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
	j.cfg.Logger.Info("took a snapshot of a journal that was put back or made anew", "position", x.position, "bytes", x.bytes)
	var said time.Time
	for { // until it is known whether a later epoch has begun meanwhile
		_, _, err := j.storedAlready(ctx, of)
		switch {
		case errors.Is(err, errLaterEpoch):
			return stored{}, errors.Join(err, j.store.remove(ctx, x.name))
		case err == nil:
			return x, nil
		}
		if time.Since(said) >= logEvery {
			said = time.Now()
			j.cfg.Logger.Warn("what was applied is stored, and it is not known whether a later epoch has begun; asking again", "err", err)
		}
		if j.pauseRescue(ctx) != nil {
			return x, nil
		}
	}
}

// pauseRescue waits before another attempt. It returns an error if there is none: ctx is done, or
// the connection is closed for good.
func (j *Journal[W]) pauseRescue(ctx context.Context) error {
	if j.cfg.JetStream.Conn().IsClosed() {
		return nats.ErrConnectionClosed
	}
	return pause(ctx, retryEvery)
}

// storedAlready returns a snapshot of the same epoch that has at least as much. The error is
// errLaterEpoch if there is a snapshot of a later epoch.
func (j *Journal[W]) storedAlready(ctx context.Context, of begunSnapshot) (x stored, found bool, err error) {
	list, err := j.store.complete(ctx)
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

// goOnFromSnapshot goes on with a snapshot that was restored and does not fit the journal. The
// journal's entries are not used. The next entry must be behind both.
func (j *Journal[W]) goOnFromSnapshot(ctx context.Context, x stored, last uint64) error {
	j.cfg.Logger.Warn("going on with a snapshot that was not taken of this journal: the entries of the journal are not used", "position", x.position, "journal", last)
	if last >= x.position {
		j.damaged = true
		return j.passOver(last)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	// A purge up to a position behind the stream's end moves the end there.
	if err := j.stream.Purge(ctx, jetstream.WithPurgeSequence(x.position+1)); err != nil {
		return &transientError{fmt.Errorf("moving the journal's end to position %d: %w", x.position, err)}
	}
	return nil
}
