package journal

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

// inFlight is an entry that was packed and is not yet applied.
type inFlight[W any] struct {
	entry   *entry.Entry
	callers *Callers[W]
	done    chan struct{} // closed when it is applied
	// deadline is when its callers must have an answer. stored says that it was
	// acknowledged, so that nobody publishes it any more.
	deadline time.Time
	stored   bool
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
		j.giveBackLate()
		e, callers := j.take()
		if e == nil {
			continue
		}
		if err := j.appendOne(ctx, e, callers); err != nil {
			return err
		}
	}
}

// gather lets those run who are about to submit, as long as more do and there is
// no entry full of commands yet: in an overload there always is, and each turn of
// the others takes long. It waits for no time to pass: where nobody else runs, it
// returns at once.
func (j *Journal[W]) gather() {
	last := -1
	for range gatherTurns {
		j.mu.Lock()
		waiting, full := j.waiting, len(j.pending.commands) >= entry.MaxCommands
		j.mu.Unlock()
		if full || waiting == last {
			return
		}
		last = waiting
		runtime.Gosched()
	}
}

// appendOne stamps and publishes an entry until it is acknowledged, or applied,
// or too old.
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
	data, err := entry.Append(nil, e)
	if err != nil {
		return fmt.Errorf("encoding a journal entry: %w", err)
	}
	position, err := j.publish(ctx, data, f.done, f.deadline)
	if ctx.Err() == nil {
		j.noteOutcome(err)
	}
	switch {
	case err == nil && position != 0 && position <= applied:
		return fmt.Errorf("%w: it acknowledged position %d after %d was applied", ErrRestoredJournal, position, applied)
	case err == nil:
		j.awaitApplied(ctx, f)
		return nil
	case ctx.Err() != nil:
		return nil // stop gives the callers back
	}
	if f := j.takeInFlight(sequence); f != nil {
		j.giveBack(f, err)
	}
	return nil
}

// giveBack tells the callers of an entry that is not in flight any more that it
// failed, and has what must not be lost of it appended with the next one.
func (j *Journal[W]) giveBack(f *inFlight[W], err error) {
	j.mu.Lock()
	j.pending.PutBack(f.entry, f.callers)
	if !j.pending.Empty() {
		j.poke()
	}
	j.mu.Unlock()
	j.fail(f.callers, err)
}

// awaitApplied waits until an acknowledged entry is applied, for a while: its
// callers are about to be answered, and their next requests make the next entry
// a full one. Under load that is a third more throughput than to append at the
// acknowledgement; a lone caller does not notice.
func (j *Journal[W]) awaitApplied(ctx context.Context, f *inFlight[W]) {
	timer := time.NewTimer(appliedWithin)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C: // the follower is being replaced
		j.mu.Lock()
		f.stored = true
		j.mu.Unlock()
	case <-ctx.Done():
	}
}

// giveBackEvery is how often giveBackOverdue looks.
const giveBackEvery = 200 * time.Millisecond

// giveBackOverdue answers callers whose time is over and whom the appending goroutine
// does not see, because it waits for an entry: those who wait for their turn, and those
// of entries that are stored and cannot be applied, because the journal is out of reach.
func (j *Journal[W]) giveBackOverdue(ctx context.Context) error {
	ticker := time.NewTicker(giveBackEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			j.giveBackLate()
			for _, f := range j.overdue(now) {
				j.giveBack(f, fmt.Errorf("%w: it is stored, and did not come back", ErrOutcomeUnknown))
			}
		}
	}
}

// overdue takes the entries out of those in flight that are stored, and whose callers
// must have an answer by now.
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

// publish publishes an entry, again and again until a deadline, and returns its
// position, or 0 where it was applied before its acknowledgement came.
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

// sayEvery is how often it is logged that entries fail, or cannot be followed:
// where the journal is full, or away, every one does.
const sayEvery = 10 * time.Second

// noteOutcome remembers what became of an entry, for Appending, and logs it when
// that changes and now and then while it stays bad.
func (j *Journal[W]) noteOutcome(err error) {
	j.mu.Lock()
	j.publishedAt = time.Time{}
	before := j.refused
	j.refused = err
	say := err != nil && (before == nil || time.Since(j.refusedSaid) >= sayEvery)
	if say {
		j.refusedSaid = time.Now()
	}
	j.mu.Unlock()
	switch {
	case say:
		j.cfg.Logger.Warn("journal entries fail", "err", err)
	case err == nil && before != nil:
		j.cfg.Logger.Info("journal entries are stored again")
	}
}

// Appending returns why the journal takes no entries from here: what became of
// the last one, or that the one in flight is not acknowledged for too long. It
// returns nil where nothing speaks against it.
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
		return fmt.Errorf("an entry is not acknowledged for %v", since.Round(time.Second))
	}
	return nil
}
