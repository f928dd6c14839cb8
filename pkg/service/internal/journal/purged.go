package journal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// othersWithin is how long an instance waits for another's snapshot of what it missed:
	// that one has to notice the purge, and to write down a large state. aloneWithin is the
	// same where no other instance is known.
	othersWithin = 30 * time.Second
	aloneWithin  = 3 * time.Second
)

// purged is about entries that somebody purged before this instance had applied them:
// follow's own.
type purged struct {
	at    uint64 // the last position before them
	since time.Time
}

// wasPurged reports whether entries behind the last one applied were purged by somebody:
// no snapshot has what was in them, as one has of what presenced trims.
func (j *Journal[W]) wasPurged(list []stored, first uint64) bool {
	applied := j.position()
	return applied > 0 && first > applied+1 &&
		!slices.ContainsFunc(list, func(x stored) bool { return x.position+1 >= first })
}

// goOnBehindPurged goes on behind entries that were purged before they were applied here.
// Where another instance has applied them it finds out that a snapshot is missing, and its
// snapshot is waited for. Where none comes nobody has, so nobody was told that what is in
// them was done: they are passed over. Of several instances that lack them each first
// stores its state, and all go on from the newest, so that they hold the same.
func (j *Journal[W]) goOnBehindPurged(ctx context.Context, list []stored, state jetstream.StreamState) error {
	p, applied := &j.purged, j.position()
	if p.at != applied {
		*p = purged{at: applied, since: time.Now()}
		j.cfg.Logger.Error("entries were purged from the journal before this instance had applied them", "from", applied+1, "to", state.FirstSeq-1)
	}
	if len(list) == 0 || list[0].position < applied {
		if _, err := j.store.put(ctx, j.begunSnapshot()); err != nil {
			return &transientError{fmt.Errorf("storing the state before purged entries: %w", err)}
		}
	}
	within := othersWithin
	if j.cfg.Alone() {
		within = aloneWithin
	}
	if time.Since(p.since) < within {
		if err := pause(ctx, retryEvery); err != nil {
			return err
		}
		return &transientError{fmt.Errorf("positions %d to %d were purged before they were applied here: waiting for a snapshot of another instance", applied+1, state.FirstSeq-1)}
	}
	if len(list) > 0 && list[0].position > applied {
		if err := j.restore(ctx, list[0]); err != nil {
			return &transientError{err}
		}
	}
	return j.passOverPurged(state.FirstSeq - 1)
}

// passOverPurged goes on as if the positions up to one had held nothing.
func (j *Journal[W]) passOverPurged(last uint64) error {
	j.mu.Lock()
	from, at := j.applied+1, j.wall
	j.mu.Unlock()
	for position := from; position <= last; position++ {
		if err := j.cfg.Skipped(position, at); err != nil {
			return &fatalError{err}
		}
	}
	j.startAt(last, 0)
	j.cfg.Logger.Error("purged entries are passed over: no instance has applied them", "from", from, "to", last)
	return nil
}
