package journal

import (
	"context"
	"errors"
	"time"

	"presence/pkg/internal/entry"
)

// Made reports whether this instance wrote the journal's first entry, so that its epoch is new.
func (j *Journal[W]) Made() bool { return j.made }

// NextEpoch begins a new epoch on the state as it is, by one entry at the journal's end. It must be
// called when the journal is caught up. Unlike BeginEpoch it stores no snapshot and removes none,
// because the journal is whole: a later start restores a snapshot of an earlier epoch and applies
// this entry like any other. If another instance appends meanwhile, NextEpoch tries again until
// ctx is done.
func (j *Journal[W]) NextEpoch(ctx context.Context, epoch string) error {
	for {
		last := j.position()
		var now entry.Header
		j.cfg.Stamp(&now, time.Now())
		if now.Epoch == epoch {
			return nil // by an earlier attempt that was not acknowledged
		}
		err := j.appendEpoch(ctx, epoch, last, entry.Command{Kind: entry.NewEpoch})
		if err != nil && !errors.Is(err, errNotFirst) {
			return err
		}
		if err := j.awaitBehind(ctx, last); err != nil {
			return err
		}
	}
}

// appendEpoch appends the first entry of a new epoch right behind a position, or not at all.
func (j *Journal[W]) appendEpoch(ctx context.Context, epoch string, last uint64, commands ...entry.Command) error {
	e := &entry.Entry{Commands: commands}
	j.mu.Lock()
	j.sequence++
	e.Header.Instance, e.Header.Sequence = j.cfg.Instance, j.sequence
	j.mu.Unlock()
	j.cfg.Stamp(&e.Header, time.Now())
	e.Header.Epoch, e.Header.Generation = epoch, max(j.generation, e.Header.Generation)+1
	data, err := entry.Append(nil, e)
	if err != nil {
		return err
	}
	return j.publishFirst(ctx, data, last)
}

// awaitBehind waits until an entry behind a position is applied.
func (j *Journal[W]) awaitBehind(ctx context.Context, position uint64) error {
	for j.position() == position {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
