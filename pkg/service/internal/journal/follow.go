package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/entry"
)

// heartbeat is how often the server says that it has nothing to deliver, so
// that a dead consumer is noticed after two.
const heartbeat = time.Second

// follow applies the stream's entries in order until ctx is done. A consumer
// that ends, skips or falls silent is replaced by one that starts behind the
// last entry applied; what the stream no longer holds is never guessed.
func (j *Journal[W]) follow(ctx context.Context) error {
	target, err := j.lastPosition(ctx)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		err := j.consume(ctx, target)
		var fatal *fatalError
		switch {
		case errors.As(err, &fatal):
			return fatal.cause
		case ctx.Err() != nil:
			return nil
		}
		j.cfg.Logger.Warn("following the journal anew", "after", j.position(), "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// fatalError stops the journal; any other error of consume leads to a new
// consumer.
type fatalError struct{ cause error }

func (e *fatalError) Error() string { return e.cause.Error() }

// consume follows with one consumer until it fails.
func (j *Journal[W]) consume(ctx context.Context, target uint64) error {
	next := j.position() + 1
	cons, err := j.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy:    jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:      next,
		MaxResetAttempts: 1,
	})
	if err != nil {
		return err
	}
	messages, err := cons.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.PullMaxMessages(1024))
	if err != nil {
		return err
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	var e entry.Entry
	for {
		m, err := messages.Next(jetstream.NextMaxWait(silence))
		if errors.Is(err, nats.ErrTimeout) {
			return fmt.Errorf("no entry for %v", silence)
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		switch position := meta.Sequence.Stream; {
		case position < next:
			continue // delivered again after a reset
		case position > next:
			return j.explainGap(ctx, next, position)
		}
		if err := j.apply(&e, m.Data(), next, meta.Timestamp.UnixMilli()); err != nil {
			return &fatalError{err}
		}
		if next == target {
			close(j.caughtUp)
		}
		next++
	}
}

// apply decodes an entry and hands it on with its callers.
func (j *Journal[W]) apply(e *entry.Entry, data []byte, position uint64, at int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("journal position %d cannot be applied: panic: %v", position, p)
		}
	}()
	if err := entry.Decode(data, e); err != nil {
		return fmt.Errorf("journal position %d cannot be applied: %w", position, err)
	}
	a := Applied[W]{Entry: e, Position: position, Time: at}
	var f *inFlight[W]
	if e.Header.Writer == j.cfg.Writer {
		j.mu.Lock()
		f = j.inFlight[e.Header.Sequence]
		delete(j.inFlight, e.Header.Sequence)
		j.mu.Unlock()
	}
	if f != nil {
		a.Callers = f.callers
	}
	if err := j.cfg.Apply(a); err != nil {
		return fmt.Errorf("journal position %d cannot be applied: %w", position, err)
	}
	j.mu.Lock()
	j.applied, j.lastAt = position, time.Now()
	if f != nil {
		j.waiting -= len(f.callers.Commands) + len(f.callers.Renewals) + len(f.callers.Barriers)
	}
	j.mu.Unlock()
	if f != nil {
		close(f.done)
	}
	return nil
}

// explainGap says whether entries that were not delivered are still there.
func (j *Journal[W]) explainGap(ctx context.Context, next, got uint64) error {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return err
	}
	if info.State.FirstSeq > next {
		return &fatalError{fmt.Errorf("the journal begins at position %d, position %d is needed: it was trimmed or purged", info.State.FirstSeq, next)}
	}
	return fmt.Errorf("position %d came where %d was due", got, next)
}

func (j *Journal[W]) position() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.applied
}
