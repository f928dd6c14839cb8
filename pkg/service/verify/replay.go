package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/service/internal/journal"
)

const (
	// remembered is how many digests are kept. An instance that is further behind the journal's
	// end cannot be compared.
	remembered = 4096
	// attempts is how often the reading begins, because the journal was trimmed meanwhile.
	attempts = 3
	// sayEvery is after how many entries Progress is called.
	sayEvery = 50_000
)

// unusable ends a verification, because nothing more can be read or compared. The reason is a
// difference in the report.
type unusable struct{ error }

// replay builds the state from snapshots and journal.
type replay struct {
	cfg     *Config
	report  *Report
	reader  *journal.Reader
	entries *journal.Entries
	state   *state.State

	snapshots []readSnapshot
	end       uint64            // the journal's last position when the reading began
	digests   map[uint64]uint64 // the last ones, by position
	decoded   entry.Entry
}

// readSnapshot is a snapshot that is whole.
type readSnapshot struct {
	journal.StoredSnapshot
	digest uint64
}

// begin builds the state as of the journal's end.
func (r *replay) begin(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		r.report.Differences = []Difference{} // without those of an attempt before
		err := r.beginOnce(ctx)
		if errors.Is(err, errDropped) && attempt < attempts {
			continue
		}
		if gap, ok := errors.AsType[*journal.GapError](err); ok {
			first, _, e := r.reader.Positions(ctx)
			switch {
			case e != nil:
				return e
			case first <= gap.From:
				return r.giveUp(Difference{What: gap.Error(), Position: gap.From})
			case attempt < attempts:
				r.stop()
				continue
			}
			return fmt.Errorf("%w: it is trimmed faster than it can be read", err)
		}
		return err
	}
}

// errDropped says that a snapshot was dropped while it was read: there are later ones.
var errDropped = errors.New("snapshots are dropped faster than they can be read")

// giveUp reports a difference after which nothing can be compared, and ends the verification.
func (r *replay) giveUp(d Difference) error {
	r.report.differs(d)
	return &unusable{errors.New(d.What)}
}

func (r *replay) beginOnce(ctx context.Context) error {
	list, err := r.reader.Snapshots(ctx)
	if err != nil {
		return err
	}
	first, last, err := r.reader.Positions(ctx) // after the snapshots, so that none is beyond the end
	if err != nil {
		return err
	}
	if last == 0 {
		return r.giveUp(Difference{What: "the journal is empty"})
	}
	if err := r.readSnapshots(ctx, list, first, last); err != nil {
		return err
	}
	if r.state == nil {
		if first > 1 {
			return r.giveUp(Difference{What: fmt.Sprintf("the journal begins at position %d, and no snapshot can be read for what was before", first), Position: first})
		}
		r.state = state.New()
	}
	r.end, r.digests = last, map[uint64]uint64{r.state.Position(): r.state.Digest()}
	r.report.From, r.report.Digests = r.state.Position(), 0
	r.cfg.Progress(fmt.Sprintf("applying positions %d to %d of the journal", r.state.Position()+1, last))
	if r.entries, err = r.reader.Entries(ctx, r.state.Position()+1); err != nil {
		return err
	}
	return r.advance(ctx, last)
}

// readSnapshots reads all of every snapshot. The state begins with the oldest one that the journal
// continues, unless the journal is complete.
func (r *replay) readSnapshots(ctx context.Context, list []journal.StoredSnapshot, first, last uint64) error {
	r.state, r.snapshots, r.report.Snapshots = nil, nil, []uint64{}
	for _, x := range list {
		r.cfg.Progress(fmt.Sprintf("reading the snapshot of position %d, %d bytes", x.Position, x.Bytes))
		s, err := r.restore(ctx, x)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if there, e := r.isThere(ctx, x); e != nil || !there {
				return cmp.Or(e, errDropped)
			}
		}
		switch {
		case err != nil:
			r.report.differs(Difference{What: fmt.Sprintf("the snapshot of position %d cannot be used: %v", x.Position, err), Position: x.Position})
			continue
		case x.Position > last:
			r.report.differs(Difference{What: fmt.Sprintf("the snapshot of position %d is beyond the journal's end at %d", x.Position, last), Position: x.Position})
			continue
		}
		r.report.Snapshots = append(r.report.Snapshots, x.Position)
		r.snapshots = append(r.snapshots, readSnapshot{x, s.Digest()})
		if x.Position+1 >= first && first > 1 {
			r.state = s
		}
	}
	return nil
}

// isThere reports whether a snapshot was not dropped.
func (r *replay) isThere(ctx context.Context, x journal.StoredSnapshot) (bool, error) {
	list, err := r.reader.Snapshots(ctx)
	return slices.ContainsFunc(list, func(y journal.StoredSnapshot) bool { return y.Position == x.Position && y.At.Equal(x.At) }), err
}

func (r *replay) restore(ctx context.Context, x journal.StoredSnapshot) (*state.State, error) {
	next, done, err := r.reader.Open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := state.Restore(func() ([]byte, error) {
		block, err := next()
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("reading it: %w", err)
		}
		return block, err
	}, nil)
	if err == nil && s.Position() != x.Position {
		err = fmt.Errorf("it holds the state of position %d", s.Position())
	}
	return s, err
}

// advance applies entries up to a position. It waits for those that are not in the journal yet.
func (r *replay) advance(ctx context.Context, to uint64) error {
	for r.state.Position() < to {
		waiting, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		position, at, data, err := r.entries.Next(waiting)
		cancel()
		if err != nil {
			return err
		}
		if err := r.apply(position, at, data); err != nil {
			return err
		}
		if position%sayEvery == 0 {
			r.cfg.Progress(fmt.Sprintf("at position %d of the journal", position))
		}
	}
	return nil
}

func (r *replay) apply(position uint64, at int64, data []byte) error {
	if slices.Contains(r.cfg.Skip, position) || r.entries.Foreign() {
		if err := r.state.Skip(position, at); err != nil {
			return err
		}
	} else if err := r.applyEntry(position, at, data); err != nil {
		return r.giveUp(Difference{Position: position,
			What: fmt.Sprintf("position %d of the journal cannot be applied (where every instance was started with --skip %d, verify needs it too): %v", position, position, err)})
	}
	if position+remembered > r.end {
		r.digests[position] = r.state.Digest()
		delete(r.digests, position-2*remembered)
	}
	r.checkSnapshot(position, data)
	return nil
}

func (r *replay) applyEntry(position uint64, at int64, data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	e := &r.decoded
	if err := entry.Decode(data, e); err != nil {
		return err
	}
	h := &e.Header
	if own, ok := r.state.DigestAt(h.DigestAt); ok && h.Epoch == r.state.Epoch() {
		r.report.Digests++
		if own != h.Digest {
			r.report.differs(Difference{Instance: h.Instance, Position: h.DigestAt,
				What: fmt.Sprintf("the entry at position %d says that the digest of position %d is %016x, by the journal it is %016x", position, h.DigestAt, h.Digest, own)})
		}
	}
	_, err = r.state.Apply(e, position, at, false)
	return err
}

// checkSnapshot compares the snapshot of a position, if there is one, with the state.
func (r *replay) checkSnapshot(position uint64, data []byte) {
	for _, x := range r.snapshots {
		if x.Position != position {
			continue
		}
		if !x.TakenOf(data) {
			r.report.differs(Difference{Position: position, What: fmt.Sprintf("the snapshot of position %d was taken of another entry than the journal has there", position)})
		}
		if own := r.state.Digest(); own != x.digest {
			r.report.differs(Difference{Position: position, What: fmt.Sprintf("the snapshot of position %d has the digest %016x, by the journal it is %016x", position, x.digest, own)})
		}
	}
}

// digest returns the state's digest, in the form that instances use.
func (r *replay) digest() string { return hex(r.state.Digest()) }

func hex(digest uint64) string { return fmt.Sprintf("%016x", digest) }

func (r *replay) stop() {
	if r.entries != nil {
		r.entries.Stop()
		r.entries = nil
	}
}
