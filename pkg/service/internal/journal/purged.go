package journal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// othersWithin is how long an instance waits for another's snapshot of the entries that it
	// missed. The other one has to notice the purge, and to store a large state.
	othersWithin = 30 * time.Second
	// aloneWithin is the same wait where no other instance is known.
	aloneWithin = 3 * time.Second
)

// purged is about entries that somebody purged before this instance had applied them. Only follow
// uses it.
type purged struct {
	at    uint64 // the last position before them
	since time.Time
}

// wasPurged reports whether somebody purged entries behind the last one applied. presenced itself
// trims only entries that are in a snapshot.
func (j *Journal[W]) wasPurged(list []stored, first uint64) bool {
	applied := j.position()
	return applied > 0 && first > applied+1 &&
		!slices.ContainsFunc(list, func(x stored) bool { return x.position+1 >= first })
}

// goOnBehindPurged goes on behind entries that were purged before they were applied here. If
// another instance has applied them, it stores a snapshot, because one is missing. So this instance
// waits for that. If no snapshot comes, no instance has applied the entries, and no caller was told
// that they were done. Then they are passed over. Several instances may lack the entries: each
// stores its state first, and all go on from the newest, so that their states are the same.
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
	from, last := j.position()+1, state.FirstSeq-1
	if err := j.passOver(last); err != nil {
		return err
	}
	j.cfg.Logger.Error("purged entries are passed over: no instance has applied them", "from", from, "to", last)
	return nil
}
