package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/internal/journal"
)

const (
	// makeWithin bounds the making of a stream with its first message.
	makeWithin = 30 * time.Second
	// undoWithin bounds the removal of what a Restore that failed has made.
	undoWithin = 30 * time.Second
)

// Target says where a backup is restored to.
type Target struct {
	// Journal is a connection in the journal's account, which may do everything there.
	Journal *nats.Conn
	// Stream, Snapshots, Contacts and Replicas are as in the service's configuration, and have the
	// same defaults.
	Stream, Snapshots, Contacts string
	Replicas                    int
	// Progress is called with what is done next, in one line for people. Default: nothing.
	Progress func(string)
}

// Check reads all of a backup, and says what is in it. An error says why it cannot be restored by
// this program: ErrDamaged, ErrNewer, or an error of r.
func Check(r io.Reader) (*Info, error) {
	x, err := newReader(r)
	if err != nil {
		return nil, err
	}
	if _, err = readState(x.info, x.block); err != nil {
		return nil, err
	}
	err = x.rest(func(string, []string) error { return nil })
	return x.info, err
}

// Restore makes a journal of a backup. The store must be empty, or have what is left of a Restore
// that was interrupted; otherwise the error is ErrNotEmpty. No instance may run on it. If Restore
// fails it removes what it has made. If r is an io.Seeker, such as a file, it is read whole before
// anything is written.
func Restore(ctx context.Context, r io.Reader, to Target) (*Info, error) {
	if to.Progress == nil {
		to.Progress = func(string) {}
	}
	js, err := jetstream.New(to.Journal)
	if err != nil {
		return nil, err
	}
	replanting := journal.NewReplanting(js, to.Stream, to.Snapshots, to.Replicas)
	if err := checkEmpty(ctx, js, &to, replanting); err != nil {
		return nil, err
	}
	if err := skim(r); err != nil {
		return nil, err
	}
	x, err := newReader(r)
	if err != nil {
		return nil, err
	}
	to.Progress(fmt.Sprintf("reading %d users", x.info.Users))
	s, err := readState(x.info, x.block)
	if err != nil {
		return nil, err
	}
	if err := (&restoring{Target: &to, js: js, file: x, state: s, Replanting: replanting}).run(ctx); err != nil {
		return nil, err
	}
	return x.info, nil
}

// skim reads all of a file that can be read twice, so that a damaged one is refused before anything
// is written.
func skim(r io.Reader) error {
	f, ok := r.(io.Seeker)
	if !ok {
		return nil
	}
	begun, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // such as a pipe
	}
	x, err := newReader(r)
	for err == nil {
		_, err = x.block()
	}
	if err == io.EOF {
		err = x.rest(func(string, []string) error { return nil })
	}
	if err == nil {
		_, err = f.Seek(begun, io.SeekStart)
	}
	return err
}

func checkEmpty(ctx context.Context, js jetstream.JetStream, to *Target, r *journal.Replanting) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	err := r.Check(ctx)
	if errors.Is(err, journal.ErrNotEmpty) {
		return fmt.Errorf("%w: %w", ErrNotEmpty, err)
	}
	if err == nil && !r.Unfinished() {
		if err = contacts.CheckEmpty(ctx, js, to.Contacts); err != nil {
			return fmt.Errorf("%w: %w", ErrNotEmpty, err)
		}
	}
	return err
}

// restoring is a Restore that writes.
type restoring struct {
	*Target
	*journal.Replanting
	js    jetstream.JetStream
	file  *reader
	state *state.State
}

func (r *restoring) run(ctx context.Context) error {
	err := r.write(ctx)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	if e := errors.Join(contacts.Remove(ctx, r.js, r.Contacts), r.Undo(ctx)); e != nil {
		return fmt.Errorf("%w; what was written could not be removed (no presenced starts on it, and another restore begins anew): %w", err, e)
	}
	return err
}

// write writes what is in the file, the snapshot last.
func (r *restoring) write(ctx context.Context) error {
	if err := r.beginEpoch(ctx); err != nil {
		return err
	}
	r.Progress("writing the contacts")
	making, cancel := context.WithTimeout(ctx, makeWithin)
	filler, err := contacts.NewFiller(making, r.js, r.Contacts, r.Replicas)
	cancel()
	if err != nil {
		return err
	}
	if err := r.file.rest(func(userID string, users []string) error { return filler.Put(ctx, userID, users) }); err != nil {
		return err
	}
	if err := filler.Flush(ctx); err != nil {
		return err
	}
	r.Progress(fmt.Sprintf("writing %d users", r.state.Users()))
	return r.Finish(ctx, &snapshot{Snapshot: r.state.BeginSnapshot(), state: r.state})
}

// beginEpoch begins a new epoch by the entry behind the state, and applies it.
func (r *restoring) beginEpoch(ctx context.Context) error {
	e := &entry.Entry{
		Header: entry.Header{Epoch: uuid.NewString(), Generation: r.state.Generation() + 1, Instance: protocol.InstanceID{Host: "restore", Start: uuid.NewString()}.String(), Sequence: 1,
			LeaseClock: r.state.LeaseClock(), MaxFormat: entry.Format},
		Commands: []entry.Command{{Kind: entry.NewEpoch}},
	}
	data, err := entry.Append(nil, e)
	if err != nil {
		return err
	}
	position := r.state.Position() + 1
	ctx, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	at, err := r.Begin(ctx, position, data)
	if err != nil {
		return err
	}
	_, err = r.state.Apply(e, position, at, false)
	return err
}

// snapshot is a state.Snapshot of a state that nobody else uses.
type snapshot struct {
	*state.Snapshot
	state *state.State
}

func (x *snapshot) Epoch() (string, uint32) { return x.state.Epoch(), x.state.Generation() }
