package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/internal/journal"
)

const (
	// attempts is how often the reading begins, because the journal was trimmed meanwhile.
	attempts = 3
	// sayEvery is after how many entries Progress is called.
	sayEvery = 50_000
)

// Source says of what a backup is taken.
type Source struct {
	// Journal is a connection in the journal's account, which may read there.
	Journal *nats.Conn
	// By is the program that writes, and its version.
	By string
	// Stream, Snapshots, Contacts and Skip are as in the service's configuration, and have the
	// same defaults.
	Stream, Snapshots, Contacts string
	Skip                        []uint64
	// Timeout bounds the wait for one answer, one entry, and one user's contacts. Default
	// DefaultTimeout.
	Timeout time.Duration
	// Progress is called with what is done next, in one line for people. Default: nothing.
	Progress func(string)
}

// Take writes a backup to w. It changes nothing. If it fails, what was written is no backup, and
// is refused as one that was cut.
func Take(ctx context.Context, w io.Writer, src Source) (*Info, error) {
	src.Timeout = cmp.Or(src.Timeout, DefaultTimeout)
	if src.Progress == nil {
		src.Progress = func(string) {}
	}
	js, err := jetstream.New(src.Journal)
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, src.Timeout)
	defer cancel()
	r, err := journal.OpenReader(opening, js, src.Stream, src.Snapshots)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, ErrNoJournal
	}
	if err != nil {
		return nil, err
	}
	s, err := (&rebuilding{src: &src, reader: r}).run(ctx)
	if err != nil {
		return nil, err
	}
	x, err := newWriter(w, src.By)
	if err != nil {
		return nil, err
	}
	info := infoOf(s, src.By)
	if err := x.json(partInfo, info); err != nil {
		return nil, err
	}
	src.Progress(fmt.Sprintf("writing %d users", info.Users))
	if err := writeState(ctx, x, s); err != nil {
		return nil, err
	}
	src.Progress("reading and writing the contacts")
	if info.Damaged, err = contacts.ReadAll(ctx, js, src.Contacts, src.Timeout, x.contact); err != nil {
		return nil, err
	}
	info.Contacts = x.n
	return info, x.end(info.Damaged)
}

func writeState(ctx context.Context, x *writer, s *state.State) error {
	snapshot := s.BeginSnapshot()
	defer snapshot.End()
	var block []byte
	for more := true; more; {
		var err error
		if block, more, err = snapshot.Next(block[:0]); err != nil {
			return err
		}
		if err := cmp.Or(ctx.Err(), x.compressed(partState, block)); err != nil {
			return err
		}
	}
	return nil
}

// rebuilding makes the state as of the journal's end.
type rebuilding struct {
	src     *Source
	reader  *journal.Reader
	state   *state.State
	decoded entry.Entry
}

// run begins again where the journal was trimmed, or a snapshot dropped, while it was read.
func (r *rebuilding) run(ctx context.Context) (*state.State, error) {
	for attempt := 1; ; attempt++ {
		err := r.once(ctx)
		gap, isGap := errors.AsType[*journal.GapError](err)
		switch {
		case err == nil:
			return r.state, nil
		case ctx.Err() != nil || attempt == attempts:
			return nil, err
		case isGap: // trimmed, or missing?
			if first, _, e := r.reader.Positions(ctx); e != nil || first <= gap.From {
				return nil, cmp.Or(e, err)
			}
		case !errors.Is(err, errNoBeginning):
			return nil, err
		}
	}
}

// errNoBeginning says that the journal's beginning is trimmed, and that no snapshot has it.
var errNoBeginning = errors.New("no snapshot can be used for what the journal does not have any more")

func (r *rebuilding) once(ctx context.Context) error {
	list, err := r.reader.Snapshots(ctx)
	if err != nil {
		return err
	}
	first, last, err := r.reader.Positions(ctx) // after the snapshots, so that none is beyond the end
	switch {
	case err != nil:
		return err
	case last == 0:
		return ErrNoJournal
	case len(list) > 0 && list[0].Position > last:
		return fmt.Errorf("the newest snapshot is of position %d, and the journal ends at %d: it went back, and presenced would not start on it (docs/restore.md)", list[0].Position, last)
	}
	if err := r.begin(ctx, list, first); err != nil || r.state.Position() == last {
		return err
	}
	r.src.Progress(fmt.Sprintf("applying positions %d to %d of the journal", r.state.Position()+1, last))
	entries, err := r.reader.Entries(ctx, r.state.Position()+1)
	if err != nil {
		return err
	}
	defer entries.Stop()
	for r.state.Position() < last {
		waiting, cancel := context.WithTimeout(ctx, r.src.Timeout)
		position, at, data, err := entries.Next(waiting)
		cancel()
		if err != nil {
			return err
		}
		if err := r.apply(position, at, data, entries.Foreign()); err != nil {
			return fmt.Errorf("position %d of the journal cannot be applied: %w", position, err)
		}
		if position%sayEvery == 0 {
			r.src.Progress(fmt.Sprintf("at position %d of the journal", position))
		}
	}
	return nil
}

// begin begins with the newest snapshot that can be read and that the journal continues, or with
// the journal's first entry.
func (r *rebuilding) begin(ctx context.Context, list []journal.StoredSnapshot, first uint64) error {
	r.state = nil
	var failed error
	for _, x := range list {
		if x.Position+1 < first {
			continue
		}
		r.src.Progress(fmt.Sprintf("reading the snapshot of position %d, %d bytes", x.Position, x.Bytes))
		s, err := r.restore(ctx, x)
		if _, newer := errors.AsType[*state.NewerSnapshotError](err); newer || ctx.Err() != nil {
			return err
		}
		if err == nil {
			r.state = s
			return nil
		}
		failed = cmp.Or(failed, fmt.Errorf("the snapshot of position %d: %w", x.Position, err))
	}
	if first > 1 {
		return errors.Join(fmt.Errorf("the journal begins at position %d: %w", first, errNoBeginning), failed)
	}
	r.state = state.New()
	return nil
}

func (r *rebuilding) restore(ctx context.Context, x journal.StoredSnapshot) (*state.State, error) {
	next, done, err := r.reader.Open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := state.Restore(next, nil)
	if err == nil && s.Position() != x.Position {
		err = fmt.Errorf("it holds the state of position %d", s.Position())
	}
	return s, err
}

// apply applies an entry as every instance does, and compares the digest in it.
func (r *rebuilding) apply(position uint64, at int64, data []byte, foreign bool) (err error) {
	if foreign || slices.Contains(r.src.Skip, position) {
		return r.state.Skip(position, at)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	e := &r.decoded
	if err := entry.Decode(data, e); err != nil {
		return fmt.Errorf("%w (where every instance was started with --skip %d, a backup needs it too)", err, position)
	}
	h := &e.Header
	if own, ok := r.state.DigestAt(h.DigestAt); ok && h.Epoch == r.state.Epoch() && own != h.Digest {
		return fmt.Errorf("it says that the digest of position %d is %016x, by the journal it is %016x; instance %s or a snapshot is wrong: presencectl verify tells which",
			h.DigestAt, h.Digest, own, protocol.ParseInstanceID(h.Instance).Name())
	}
	_, err = r.state.Apply(e, position, at, false)
	return err
}
