package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

const (
	// heartbeat is how often the server says that it has nothing to deliver. A consumer without
	// two of them is dead.
	heartbeat = time.Second
	// silence is how long the follower waits for an entry before it asks why none comes.
	// Instances append at least one a second. While Config.Idle holds, it asks after idleSilence:
	// the answer shows that the state is current.
	silence, idleSilence = 3 * time.Second, time.Second
	// inactive is how long the server keeps a consumer that nobody reads.
	inactive = 30 * time.Second
	// firstReplace is how long the first attempt to get a consumer may take. A cluster may give
	// the consumer to a server that has just died. Then nobody answers, so the first attempts are
	// short. A cluster may also be slow, so each attempt may take twice as long as the one before,
	// up to lastReplace.
	firstReplace, lastReplace = time.Second, 8 * time.Second
)

// follow builds a state to begin with, and applies the stream's entries in order from there until
// ctx is done. It replaces a consumer that ends, skips entries or falls silent by one that starts
// at the last entry applied. If the next entry is gone, or the state is wrong, it builds the state
// anew. It never guesses what was in entries that the stream no longer has.
//
// The library's ordered consumer replaces itself, but it waits 10 s for each answer. And it looks
// for gaps, which are looked for here anyway.
func (j *Journal[W]) follow(ctx context.Context) error {
	anew := &rebuildError{} // how the state is to be built; nil: it is valid
	defer func() { j.stateValid = anew == nil }()
	j.replaceWithin = firstReplace
	for ctx.Err() == nil {
		var err error
		if anew != nil {
			j.restoring(0, 0)
			if err = j.begin(ctx, anew.atLeast, anew.avoid); err == nil {
				anew = nil
				j.failInFlight() // an entry that was packed meanwhile may be in the snapshot
			}
		}
		if err == nil {
			err = j.followOnce(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if fatal, ok := errors.AsType[*fatalError](err); ok {
			return fatal.error
		}
		if r, ok := errors.AsType[*rebuildError](err); ok {
			j.cfg.Logger.Error("the state is built anew", "after", j.position(), "err", err)
			j.forgetState()
			anew = r
		} else {
			j.logRetry(err, time.Now())
		}
		if anew == nil {
			j.beginRequested() // also while the journal cannot be followed
		}
		_ = pause(ctx, 100*time.Millisecond)
	}
	return nil
}

// logRetry logs that the journal is followed anew. If nothing was applied since it last logged, it
// logs only every logEvery: while a NATS server is away, every attempt fails.
func (j *Journal[W]) logRetry(err error, now time.Time) {
	position := j.position()
	if position == j.retryPosition && now.Sub(j.retryLogged) < logEvery {
		return
	}
	j.retryPosition, j.retryLogged = position, now
	j.cfg.Logger.Warn("following the journal anew", "after", position, "err", err)
}

// followOnce follows from the last position applied until something fails.
func (j *Journal[W]) followOnce(ctx context.Context) error {
	info, err := j.streamInfo(ctx)
	if err != nil {
		return err
	}
	if err := j.checkLength(info.State.LastSeq); err != nil {
		return err
	}
	if info.State.LastSeq == 0 {
		return &fatalError{errors.New("the journal is empty, although its first entry was written: it was purged")}
	}
	return j.consume(ctx, info.State.LastSeq)
}

// checkLength stops the instance if the stream has been shorter than what was applied for
// shorterFor.
func (j *Journal[W]) checkLength(last uint64) error {
	if applied := j.position(); last < applied {
		if j.shorterSince.IsZero() {
			j.shorterSince = time.Now()
		}
		err := fmt.Errorf("%w: position %d was applied, and the journal ends at %d", ErrRestoredJournal, applied, last)
		if time.Since(j.shorterSince) >= shorterFor {
			return &fatalError{err}
		}
		return err
	}
	j.shorterSince = time.Time{}
	return nil
}

// forgetState makes the instance stale until it has caught up. It answers those who wait, because
// that may take long.
func (j *Journal[W]) forgetState() {
	j.mu.Lock()
	j.lastAt, j.currentAt = time.Time{}, time.Time{}
	j.mu.Unlock()
	j.failInFlight()
}

// failInFlight fails all entries in flight: they may be in a snapshot, and then Apply is not called
// with their callers.
func (j *Journal[W]) failInFlight() {
	j.mu.Lock()
	entries := j.inFlight
	j.inFlight = map[uint64]*inFlight[W]{}
	j.mu.Unlock()
	for _, f := range entries {
		j.failEntry(f, ErrOutcomeUnknown)
		close(f.done)
	}
}

// consume follows with one consumer until something fails. A rebuildError has the state built anew,
// a fatalError stops the journal, and any other error has the consumer replaced. The journal is
// caught up when target is applied.
func (j *Journal[W]) consume(ctx context.Context, target uint64) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer j.stopOnReconnect(ctx, stop)()
	defer func() {
		if cause := context.Cause(ctx); cause == errReconnected && errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			err = cause // why it was closed
		}
	}()
	next := j.position() + 1
	messages, err := j.entriesFrom(ctx, max(next-1, 1)) // the last one applied comes again, to be compared
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	j.mu.Lock()
	j.target = target
	j.mu.Unlock()
	j.catchingUpFrom(next - 1)
	j.checkCaughtUp(next-1, target)
	var e entry.Entry
	for {
		j.beginRequested()
		m, err := messages.Next(jetstream.NextMaxWait(j.mostSilence()))
		if errors.Is(err, nats.ErrTimeout) {
			if err := j.explainSilence(ctx, next); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		switch position := meta.Sequence.Stream; {
		case position == next-1:
			if err := j.checkLast(m.Data()); err != nil {
				return err
			}
			continue
		case position < next:
			continue // delivered again
		case position > next:
			return j.explainGap(ctx, next, position)
		}
		if m.Subject() != j.subject() {
			err = j.passForeign(m.Subject(), m.Data(), next, meta.Timestamp.UnixMilli())
		} else {
			err = j.apply(&e, m.Data(), next, meta.Timestamp.UnixMilli())
		}
		if err != nil {
			return err
		}
		j.checkCaughtUp(next, target)
		next++
	}
}

// errReconnected says that the connection was lost and is back. The server may have dropped the
// consumer. Missing heartbeats would show that 2 s later.
var errReconnected = errors.New("the connection to the journal was lost and is back")

// stopOnReconnect calls stop with errReconnected when the connection is back after a loss, until
// end is called.
func (j *Journal[W]) stopOnReconnect(ctx context.Context, stop context.CancelCauseFunc) (end func()) {
	nc := j.cfg.JetStream.Conn()
	back := nc.StatusChanged(nats.CONNECTED)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case _, ok := <-back:
			if ok {
				stop(errReconnected)
			}
		case <-ctx.Done():
		}
	})
	return func() {
		nc.RemoveStatusListener(back)
		watching.Wait()
	}
}

// entriesFrom makes a consumer of the entries from a position on.
func (j *Journal[W]) entriesFrom(ctx context.Context, position uint64) (jetstream.MessagesContext, error) {
	ctx, cancel := context.WithTimeout(ctx, j.replaceWithin)
	defer cancel()
	c, err := j.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       position,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: inactive,
		Replicas:          1,
		MemoryStorage:     true,
	})
	if err != nil {
		j.replaceWithin = min(2*j.replaceWithin, lastReplace)
		return nil, fmt.Errorf("asking for the entries from position %d on: %w", position, err)
	}
	j.replaceWithin = firstReplace
	return c.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.PullMaxMessages(1024))
}

// checkLast stops the instance if the stream has another entry at the last position applied than
// the one that was applied.
func (j *Journal[W]) checkLast(data []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.hash != 0 && hashEntry(data) != j.hash {
		return &fatalError{fmt.Errorf("%w: the entry at position %d is not the one that was applied", ErrRestoredJournal, j.applied)}
	}
	return nil
}

// checkCaughtUp notes how far the journal is, and that it is caught up once target is applied.
func (j *Journal[W]) checkCaughtUp(applied, target uint64) {
	if applied < target {
		j.catchingUp(applied, target)
		return
	}
	if !j.isCaughtUp() {
		j.mu.Lock()
		j.lastAt = time.Now()
		j.mu.Unlock()
		if j.cfg.NewEpoch {
			j.headPosition = 0 // the operator has accepted what the journal lacks
		}
		close(j.caughtUp)
	}
	wake(j.headDue)
}

// apply decodes an entry and applies it with its callers.
func (j *Journal[W]) apply(e *entry.Entry, data []byte, position uint64, at int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.cfg.Logger.Error("applying an entry panicked", "position", position, "panic", p, "stack", string(debug.Stack()))
			err = poison(position, fmt.Errorf("panic: %v", p))
		}
	}()
	if slices.Contains(j.cfg.Skip, position) {
		j.failSkipped(e, data)
		return j.skip(position, at, data)
	}
	if err := entry.Decode(data, e); err != nil {
		return poison(position, err)
	}
	a := Applied[W]{Entry: e, Position: position, Time: at}
	var f *inFlight[W]
	if e.Header.Instance == j.cfg.Instance {
		f = j.takeInFlight(e.Header.Sequence)
	}
	if f != nil {
		a.Callers = f.callers
	}
	if err := j.applyNow(a, f); errors.Is(err, ErrRebuild) {
		return &rebuildError{error: err, avoid: 1}
	} else if err != nil {
		return poison(position, err)
	}
	j.mu.Lock()
	j.noteApplied(position, at, data)
	if f != nil {
		j.release(f.callers)
	}
	j.mu.Unlock()
	if f != nil {
		close(f.done)
	}
	return nil
}

// applyNow calls Config.Apply. If that fails or panics, it answers the callers of the entry, which
// is no longer in flight.
func (j *Journal[W]) applyNow(a Applied[W], f *inFlight[W]) error {
	applied, begun := false, time.Now()
	defer func() {
		j.applies.Observe(time.Since(begun))
		if !applied && f != nil {
			j.failEntry(f, ErrOutcomeUnknown)
			close(f.done)
		}
	}()
	err := j.cfg.Apply(a)
	applied = err == nil
	return err
}

// failSkipped answers the callers of an entry that is passed over, if this instance packed it.
func (j *Journal[W]) failSkipped(e *entry.Entry, data []byte) {
	if entry.Decode(data, e) != nil || e.Header.Instance != j.cfg.Instance {
		return
	}
	if f := j.takeInFlight(e.Header.Sequence); f != nil {
		j.failEntry(f, ErrOutcomeUnknown)
		close(f.done)
	}
}

// takeInFlight removes an entry from those in flight and returns it. It returns nil if there is no
// such entry.
func (j *Journal[W]) takeInFlight(sequence uint64) *inFlight[W] {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.inFlight[sequence]
	delete(j.inFlight, sequence)
	return f
}

// poison is the error of an entry that cannot be applied. Every instance stops before it.
func poison(position uint64, cause error) error {
	if newer, ok := errors.AsType[*entry.NewerFormatError](cause); ok {
		return &fatalError{fmt.Errorf("journal position %d: %w", position, newer)}
	}
	return &fatalError{fmt.Errorf("journal position %d cannot be applied, and nothing behind it is (to give that one entry up, start every instance with --skip %d): %w", position, position, cause)}
}

// skip passes over a position that an operator has named.
func (j *Journal[W]) skip(position uint64, at int64, data []byte) error {
	if err := j.cfg.Skipped(position, at); err != nil {
		return &fatalError{err}
	}
	j.cfg.Logger.Warn("a journal entry was skipped as configured", "position", position, "bytes", len(data))
	j.mu.Lock()
	j.noteApplied(position, at, data)
	j.mu.Unlock()
	return nil
}

// explainGap returns why entries were not delivered: they were trimmed, the store has lost them, or
// the consumer has left them out by mistake.
func (j *Journal[W]) explainGap(ctx context.Context, next, got uint64) error {
	info, err := j.streamInfo(ctx)
	if err != nil {
		return err
	}
	if err := trimmedPast(info, next); err != nil {
		return err
	}
	if _, err := j.hashAt(ctx, next); err != nil {
		if transient(err) {
			return err
		}
		return &rebuildError{error: fmt.Errorf("the store is damaged: %w", err), atLeast: next}
	}
	return fmt.Errorf("position %d was delivered, and position %d was expected", got, next)
}

// trimmedPast returns an error if the journal begins behind the position that is next.
func trimmedPast(info *jetstream.StreamInfo, next uint64) error {
	if info.State.FirstSeq <= next {
		return nil
	}
	return &rebuildError{error: fmt.Errorf("the journal begins at position %d, position %d is next: it was trimmed meanwhile", info.State.FirstSeq, next), atLeast: info.State.FirstSeq - 1}
}

// mostSilence returns how long the follower waits for an entry before it asks why none comes.
func (j *Journal[W]) mostSilence() time.Duration {
	if j.cfg.Idle() {
		return idleSilence
	}
	return silence
}

// explainSilence returns an error if the consumer is alive and does not deliver an entry that is
// there. The consumer's server may lag, or the store has lost an entry that the stream counts. If
// there is no entry, or nobody knows because the stream has no leader, the consumer is not wrong.
func (j *Journal[W]) explainSilence(ctx context.Context, next uint64) error {
	info, err := j.streamInfo(ctx)
	if err != nil {
		return nil
	}
	if info.State.LastSeq < next {
		if info.State.LastSeq == next-1 && j.cfg.Idle() {
			j.mu.Lock()
			j.currentAt = time.Now()
			j.mu.Unlock()
		}
		return j.checkLength(info.State.LastSeq)
	}
	if err := trimmedPast(info, next); err != nil {
		return err
	}
	if _, err := j.hashAt(ctx, next); err == nil || transient(err) {
		return fmt.Errorf("position %d is there, but was not delivered for %v", next, silence)
	} else if j.missing != next {
		j.missing, j.missingSince = next, time.Now()
		return err
	} else if !single(info) && time.Since(j.missingSince) < shorterFor {
		return err
	}
	return &rebuildError{error: fmt.Errorf("the store is damaged: position %d is missing in the journal", next), atLeast: next}
}

func (j *Journal[W]) position() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.applied
}
