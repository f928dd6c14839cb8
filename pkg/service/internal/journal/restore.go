package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/streams"
)

const (
	// shorterFor is how long the stream must have been shorter than what was
	// applied for it to be believed: a server that led it before may say so for
	// a moment.
	shorterFor = 15 * time.Second
	// retryEvery is the pause before something is tried again.
	retryEvery = time.Second
)

// begin gives the state a place to begin at: the newest snapshot that can be
// read, or the journal's first entry. atLeast is a position that must be in it,
// because the stream has lost it; 0: none. avoid is how many of the newest
// snapshots to pass over if there is anything older.
func (j *Journal[W]) begin(ctx context.Context, atLeast uint64, avoid int) error {
	list, state, err := j.survey(ctx)
	if err != nil {
		return err
	}
	var failed []error
	stands := true // the state is still the one of the last position applied
	for _, x := range Candidates(list, avoid, state.FirstSeq <= 1) {
		err := j.usable(ctx, x, state, atLeast)
		otherJournal := errors.Is(err, errOtherJournal) && j.beginsEpoch()
		if err != nil && !otherJournal {
			if _, fatal := errors.AsType[*fatalError](err); fatal || transient(err) {
				return err
			}
			failed = append(failed, err)
			continue
		}
		stands = false
		if err := j.restore(ctx, x); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if errors.Is(err, ErrNewer) {
				return &fatalError{err}
			}
			failed = append(failed, err)
			j.cfg.Logger.Error("a snapshot cannot be used: trying the one before", "position", x.position, "err", err)
			continue
		}
		if otherJournal {
			return j.goOnFromSnapshot(ctx, x, state.LastSeq)
		}
		return nil
	}
	if state.FirstSeq <= 1 && atLeast <= 1 {
		j.startAt(0, 0)
		j.cfg.Reset(0)
		return nil
	}
	if i := slices.IndexFunc(failed, transient); i >= 0 {
		return failed[i] // it may be read the next time
	}
	if stands && avoid == 0 && j.wasPurged(list, state.FirstSeq) {
		return j.goOnBehindPurged(ctx, list, state)
	}
	if j.beginsEpoch() && stands && atLeast > 1 && j.position()+1 == atLeast {
		j.cfg.Logger.Warn("the journal is damaged: going on with the state before the damage", "from", atLeast, "to", state.LastSeq)
		return j.passOver(state.LastSeq)
	}
	if j.beginsEpoch() {
		j.cfg.Logger.Warn("the state before the journal's end is lost: beginning without it", "position", state.LastSeq)
		j.startAt(state.LastSeq, 0)
		j.lost, j.damaged = true, true
		j.cfg.Reset(state.LastSeq)
		return nil
	}
	lost := fmt.Errorf("the journal begins at position %d and no snapshot can be used for what was before: restore the store, or begin anew with --new-epoch", state.FirstSeq)
	if atLeast > 1 {
		lost = fmt.Errorf("position %d is missing in the journal, and no snapshot can be used in its place: restore the store, or begin anew with --new-epoch", atLeast)
	}
	return &fatalError{errors.Join(append([]error{lost}, failed...)...)}
}

// passOver goes on with the state as it is, as if the positions up to the
// journal's end held nothing.
func (j *Journal[W]) passOver(last uint64) error {
	j.mu.Lock()
	from, at := j.applied+1, j.wall
	j.mu.Unlock()
	j.damaged = true
	for position := from; position <= last; position++ {
		if err := j.cfg.Skipped(position, at); err != nil {
			return &fatalError{err}
		}
	}
	j.startAt(last, 0)
	return nil
}

// survey lists the snapshots, and looks at the stream. Snapshots beyond its end,
// or a head, say that it was restored from a backup, lost entries, or was made
// anew: those of an epoch that goes on here would be lost changes.
func (j *Journal[W]) survey(ctx context.Context) ([]stored, jetstream.StreamState, error) {
	begun := time.Now()
	for {
		list, err := j.store.list(ctx)
		if err != nil {
			return nil, jetstream.StreamState{}, err
		}
		info, err := j.streamInfo(ctx)
		if err != nil {
			return nil, jetstream.StreamState{}, err
		}
		state := info.State
		j.noteGeneration(list)
		believed := single(info) || time.Since(begun) >= shorterFor
		switch {
		case j.beginsEpoch() || j.had <= state.LastSeq && (len(list) == 0 || list[0].position <= state.LastSeq):
			return list, state, nil
		case believed && len(list) > 0 && list[0].position > state.LastSeq:
			return nil, state, &fatalError{j.endsBefore(list, state.LastSeq)}
		case believed:
			return nil, state, &fatalError{j.lostBehind(j.had, state.LastSeq)}
		}
		if err := pause(ctx, retryEvery); err != nil {
			return nil, state, err
		}
	}
}

// endsBefore is the error of a journal that ends before the newest snapshot.
func (j *Journal[W]) endsBefore(list []stored, last uint64) error {
	beyond := slices.DeleteFunc(slices.Clone(list), func(x stored) bool { return x.position <= last })
	return fmt.Errorf("%w: there is a snapshot of position %d, and the journal ends at %d; %s",
		ErrRestoredJournal, list[0].position, last, takeOrKeep(j.cfg.Bucket, beyond...))
}

// Candidates are the snapshots of a list in the order in which they are tried, but
// for so many of the newest, which are to be avoided. Those come last, and not at
// all where the journal is whole: then its first entry is better than they are.
func Candidates[T any](list []T, avoid int, whole bool) []T {
	avoid = min(avoid, len(list))
	if whole {
		return list[avoid:]
	}
	return slices.Concat(list[avoid:], list[:avoid])
}

// usable reports why a snapshot cannot be gone on from, if so: the entries
// behind it must be there, and the one at its position the one that it knows.
func (j *Journal[W]) usable(ctx context.Context, x stored, state jetstream.StreamState, atLeast uint64) error {
	switch {
	case x.position > state.LastSeq:
		return fmt.Errorf("%w: it is of position %d, and the journal ends at %d", errOtherJournal, x.position, state.LastSeq)
	case x.position < atLeast:
		return fmt.Errorf("the snapshot of position %d is not as late as %d", x.position, atLeast)
	case x.position+1 < state.FirstSeq:
		return fmt.Errorf("the snapshot of position %d is too old: the journal begins at %d", x.position, state.FirstSeq)
	case x.position < state.FirstSeq:
		return nil
	}
	hash, err := j.hashAt(ctx, x.position)
	if err != nil {
		return err
	}
	if hash != x.entry {
		err := fmt.Errorf("%w: the entry at position %d is not the one that the snapshot was taken of; %s",
			errOtherJournal, x.position, takeOrKeep(j.cfg.Bucket, x))
		if !j.beginsEpoch() {
			return &fatalError{err}
		}
		return err
	}
	return nil
}

// hashAt returns the hash of the entry at a position.
func (j *Journal[W]) hashAt(ctx context.Context, position uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.AskTimeout)
	defer cancel()
	m, err := j.stream.GetMsg(ctx, position)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, fmt.Errorf("position %d is missing in the journal", position)
	}
	if err != nil {
		return 0, &transientError{fmt.Errorf("reading position %d: %w", position, err)}
	}
	return hashEntry(m.Data), nil
}

// restore has the state replaced by a snapshot.
func (j *Journal[W]) restore(ctx context.Context, x stored) error {
	begun := time.Now()
	next, done, err := j.store.open(ctx, x.name)
	if err != nil {
		return err
	}
	defer done()
	position, err := j.cfg.Restore(next, j.restoring)
	switch {
	case err != nil:
		return fmt.Errorf("restoring the snapshot of position %d: %w", x.position, err)
	case position != x.position:
		return fmt.Errorf("the snapshot of position %d holds that of %d", x.position, position)
	}
	j.startAt(position, x.entry)
	j.mu.Lock()
	j.wall = x.wall
	j.mu.Unlock()
	j.noteSnapshot(x)
	j.cfg.Logger.Info("restored a snapshot", "position", position, "bytes", x.bytes, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// startAt has the following begin behind a position.
func (j *Journal[W]) startAt(position, hash uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.applied, j.hash = position, hash
	j.since = volume{}
}

// transientError is about what may be different in a moment.
type transientError struct{ cause error }

func (e *transientError) Error() string { return e.cause.Error() }
func (e *transientError) Unwrap() error { return e.cause }

func transient(err error) bool {
	_, ok := errors.AsType[*transientError](err)
	return ok
}

// pause waits, and returns an error where ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
