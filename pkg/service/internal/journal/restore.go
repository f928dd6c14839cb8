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
	// shorterFor is for how long the stream must be shorter than what was applied before that is
	// believed. A server that led the stream earlier may say so for a moment.
	shorterFor = 15 * time.Second
	// retryEvery is the pause before another attempt.
	retryEvery = time.Second
)

// begin builds a state to begin with: that of the newest snapshot that can be read, or an empty one
// before the journal's first entry. atLeast is a position that must be in it, because the stream
// has lost that entry; 0: none. avoid is how many of the newest snapshots are to be avoided, if
// there is anything older.
func (j *Journal[W]) begin(ctx context.Context, atLeast uint64, avoid int) error {
	list, state, err := j.survey(ctx)
	if err != nil {
		return err
	}
	var failed []error
	valid := true // the state is still as of the last position applied
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
		valid = false
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
	if valid && avoid == 0 && j.wasPurged(list, state.FirstSeq) {
		return j.goOnBehindPurged(ctx, list, state)
	}
	if j.beginsEpoch() && valid && atLeast > 1 && j.position()+1 == atLeast {
		j.cfg.Logger.Warn("the journal is damaged: going on with the state before the damage", "from", atLeast, "to", state.LastSeq)
		j.damaged = true
		return j.passOver(state.LastSeq)
	}
	if j.beginsEpoch() {
		j.cfg.Logger.Warn("the state is lost: going on behind the journal's end with an empty one", "position", state.LastSeq)
		j.startAt(state.LastSeq, 0)
		j.stateLost, j.damaged = true, true
		j.cfg.Reset(state.LastSeq)
		return nil
	}
	lost := fmt.Errorf("the journal begins at position %d and no snapshot can be used for the entries before it: restore the store, or begin anew with --new-epoch", state.FirstSeq)
	switch {
	case j.stream.CachedInfo().Config.Metadata[restoring] != "":
		lost = errors.New("a restore into this store did not finish: run presenced restore again with the same options, which begins anew, or restore into an empty store")
	case atLeast > 1:
		lost = fmt.Errorf("position %d is missing in the journal, and no snapshot can be used instead: restore the store, or begin anew with --new-epoch", atLeast)
	}
	return &fatalError{errors.Join(append([]error{lost}, failed...)...)}
}

// passOver goes on with the state as it is, as if the positions up to last held nothing.
func (j *Journal[W]) passOver(last uint64) error {
	j.mu.Lock()
	from, at := j.applied+1, j.wall
	j.mu.Unlock()
	for position := from; position <= last; position++ {
		if err := j.cfg.Skipped(position, at); err != nil {
			return &fatalError{err}
		}
	}
	j.startAt(last, 0)
	return nil
}

// survey lists the snapshots, and looks at the stream. If a snapshot or the head is of a position
// beyond the stream's end, the stream was restored from a backup, lost entries, or was made anew.
// To go on in the same epoch would lose changes, so that is an error.
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
		sure := single(info) || time.Since(begun) >= shorterFor
		switch {
		case j.beginsEpoch() || j.headPosition <= state.LastSeq && (len(list) == 0 || list[0].position <= state.LastSeq):
			return list, state, nil
		case sure && len(list) > 0 && list[0].position > state.LastSeq:
			return nil, state, &fatalError{j.endsBefore(list, state.LastSeq)}
		case sure:
			return nil, state, &fatalError{j.lostBehind(j.headPosition, state.LastSeq)}
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

// Candidates returns the snapshots of a list, newest first, in the order in which they are tried.
// As many of the newest as avoid says come last. If the journal is whole they are left out, because
// to begin at its first entry is better.
func Candidates[T any](list []T, avoid int, whole bool) []T {
	avoid = min(avoid, len(list))
	if whole {
		return list[avoid:]
	}
	return slices.Concat(list[avoid:], list[:avoid])
}

// usable returns an error if the journal cannot go on from a snapshot. The entries behind it must
// be there, and the entry at its position must be the one that it was taken of.
func (j *Journal[W]) usable(ctx context.Context, x stored, state jetstream.StreamState, atLeast uint64) error {
	switch {
	case x.position > state.LastSeq:
		return fmt.Errorf("%w: it is of position %d, and the journal ends at %d", errOtherJournal, x.position, state.LastSeq)
	case x.position < atLeast:
		return fmt.Errorf("the snapshot of position %d is too old: position %d must be in it", x.position, atLeast)
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

// restore replaces the state by a snapshot.
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
		return fmt.Errorf("the snapshot of position %d has the state of position %d", x.position, position)
	}
	j.startAt(position, x.entry)
	j.mu.Lock()
	j.wall = x.wall
	j.mu.Unlock()
	j.noteSnapshot(x)
	j.cfg.Logger.Info("restored a snapshot", "position", position, "bytes", x.bytes, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// startAt sets the position behind which following begins.
func (j *Journal[W]) startAt(position, hash uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.applied, j.hash = position, hash
	j.since = volume{}
}

// pause waits for d. It returns an error if ctx is done first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
