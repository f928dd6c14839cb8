package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

const (
	// mostEncoded bounds, in bytes, the buffer for entries that is kept for the next one.
	mostEncoded = 64 << 10
	// appliedWithin bounds the wait for an acknowledged entry to be applied before the next one
	// is packed.
	appliedWithin = time.Second
	// pauseRefused is the pause after an entry that failed. Its reports and renewals wait already
	// for the next entry. So without a pause a full journal would be asked without end.
	pauseRefused = 100 * time.Millisecond
	// failEvery is how often failOverdue looks while anybody waits.
	failEvery = 200 * time.Millisecond
	// logEvery is the least pause between two log lines about entries that fail, or about a
	// journal that cannot be followed. While the journal is full or away, every attempt fails.
	logEvery = 10 * time.Second
)

// inFlight is an entry that was packed and is not yet applied.
type inFlight[W any] struct {
	entry    *entry.Entry
	callers  *Callers[W]
	done     chan struct{} // closed when it is applied
	deadline time.Time     // when its callers must have an answer
	// stored says that it was acknowledged and is not published again. failOverdue then sees to
	// the deadline.
	stored bool
}

// append packs and publishes one entry after the other until ctx is done.
func (j *Journal[W]) append(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.wake:
		}
		j.notePayload()
		j.gather()
		j.gatherMany(ctx)
		j.failLate()
		e, callers := j.take()
		if e == nil {
			continue
		}
		j.lastCommands = len(callers.Commands)
		if err := j.appendOne(ctx, e, callers); err != nil {
			return err
		}
	}
}

// appendOne stamps an entry and publishes it until it is acknowledged, applied or too old.
func (j *Journal[W]) appendOne(ctx context.Context, e *entry.Entry, callers *Callers[W]) error {
	arrived := callers.oldest(j.cfg.Arrived)
	j.mu.Lock()
	j.sequence++
	sequence, applied := j.sequence, j.applied
	f := &inFlight[W]{entry: e, callers: callers, done: make(chan struct{}), deadline: arrived.Add(j.giveUp)}
	j.inFlight[sequence] = f
	j.publishedAt = time.Now()
	j.mu.Unlock()

	e.Header.Instance, e.Header.Sequence = j.cfg.Instance, sequence
	j.cfg.Stamp(&e.Header, arrived)
	data, err := entry.Append(j.encoded[:0], e)
	if err != nil {
		return fmt.Errorf("encoding a journal entry: %w", err)
	}
	if j.encoded = data; cap(data) > mostEncoded {
		j.encoded = nil
	}
	begun := time.Now()
	position, err := j.publish(ctx, data, f.done, f.deadline)
	if err == nil {
		j.appended.Observe(time.Since(begun))
	}
	if ctx.Err() == nil {
		j.noteOutcome(err)
	}
	switch {
	case err == nil && position != 0 && position <= applied:
		return fmt.Errorf("%w: position %d was acknowledged after position %d was applied", ErrRestoredJournal, position, applied)
	case err == nil:
		j.awaitApplied(ctx, f)
		return nil
	case ctx.Err() != nil:
		return nil // stop answers the callers
	}
	if f := j.takeInFlight(sequence); f != nil {
		j.failEntry(f, err)
	}
	pause(ctx, pauseRefused)
	return nil
}

// failEntry answers the callers of an entry that failed and is no longer in flight. The entry's
// reports and renewals go into the next one.
func (j *Journal[W]) failEntry(f *inFlight[W], err error) {
	j.mu.Lock()
	j.putBack(f.entry, f.callers)
	j.mu.Unlock()
	j.fail(f.callers, err)
}

// awaitApplied waits for at most appliedWithin until an acknowledged entry is applied. Its callers
// are answered then, and their next requests fill the next entry. Under load that is a third more
// throughput than to append at the acknowledgement. A lone caller does not notice.
func (j *Journal[W]) awaitApplied(ctx context.Context, f *inFlight[W]) {
	timer := time.NewTimer(appliedWithin)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C: // the follower is being replaced
		j.mu.Lock()
		f.stored = true
		j.mu.Unlock()
		wake(j.called)
	case <-ctx.Done():
	}
}

// failOverdue answers callers whose time is over while the appending goroutine waits for an entry:
// those who are in no entry yet, and those whose entry is stored and cannot be applied, because
// the journal is out of reach.
func (j *Journal[W]) failOverdue(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.called:
		}
		for j.isAwaited() {
			if pause(ctx, failEvery) != nil {
				return nil
			}
			j.failLate()
			for _, f := range j.overdue(time.Now()) {
				j.failEntry(f, fmt.Errorf("%w: it is stored, and was not delivered in time", ErrOutcomeUnknown))
			}
		}
	}
}

// isAwaited reports whether there is a caller without an answer, or an entry that is not applied.
func (j *Journal[W]) isAwaited() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting > 0 || len(j.inFlight) > 0
}

// overdue removes the entries in flight that are stored and whose callers must have an answer by
// now, and returns them.
func (j *Journal[W]) overdue(now time.Time) (list []*inFlight[W]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for sequence, f := range j.inFlight {
		if f.stored && now.After(f.deadline) {
			delete(j.inFlight, sequence)
			list = append(list, f)
		}
	}
	return list
}

// publish publishes an entry again and again until a deadline, and returns its position. It
// returns 0 if the entry was applied before its acknowledgement came.
func (j *Journal[W]) publish(ctx context.Context, data []byte, applied <-chan struct{}, deadline time.Time) (uint64, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var attempts Attempts
	for {
		begun := time.Now()
		position, err := j.publishOnce(ctx, data)
		if err == nil {
			return position, nil
		}
		again, outcome := attempts.Failed(err)
		if !again || ctx.Err() != nil {
			return 0, outcome
		}
		select {
		case <-applied:
			return 0, nil
		case <-ctx.Done():
			return 0, outcome
		case <-time.After(min(j.attemptTimeout, attempts.Pause(time.Since(begun)))):
		}
	}
}

func (j *Journal[W]) publishOnce(ctx context.Context, data []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, j.attemptTimeout)
	defer cancel()
	m := &nats.Msg{Subject: j.subject(), Data: data}
	ack, err := j.cfg.JetStream.PublishMsg(ctx, m,
		jetstream.WithExpectStream(j.cfg.Stream), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// noteOutcome remembers for Appending whether an entry was stored. It logs when that changes, and
// now and then while entries fail.
func (j *Journal[W]) noteOutcome(err error) {
	j.mu.Lock()
	j.publishedAt = time.Time{}
	before := j.refused
	j.refused = err
	due := err != nil && (before == nil || time.Since(j.refusedLogged) >= logEvery)
	if due {
		j.refusedLogged = time.Now()
	}
	j.mu.Unlock()
	switch {
	case due:
		j.cfg.Logger.Warn("journal entries fail", "err", err)
	case err == nil && before != nil:
		j.cfg.Logger.Info("journal entries are stored again")
	}
}

// Appending returns why the journal takes no entries from this instance: why the last one was not
// stored, or that the one in flight has not been acknowledged for too long. nil: it takes them,
// as far as is known.
func (j *Journal[W]) Appending() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.publishedAt.IsZero() {
		return j.refused
	}
	since := time.Since(j.publishedAt)
	switch {
	case j.refused != nil:
		return j.refused
	case since > j.attemptTimeout+time.Second:
		return fmt.Errorf("an entry has not been acknowledged for %v", since.Round(time.Second))
	}
	return nil
}
