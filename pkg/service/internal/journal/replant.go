package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/streams"
)

// Replanting makes a journal of a state that was backed up:
//
//	r := journal.NewReplanting(js, "", "", 1)
//	err := r.Check(ctx)                       // ErrNotEmpty
//	at, err := r.Begin(ctx, position, data)   // the first entry
//	err = r.Finish(ctx, snapshot)             // taken behind that entry
//
// The stream begins at the position of its first entry, and the snapshot is the last that is
// stored. Before that no instance can start: the stream lacks what was before, and no snapshot has
// it. After that it is a journal like any other. So whatever happens meanwhile, there is no half
// journal. A store that was left between the two is as good as empty for Check.
type Replanting struct {
	js       jetstream.JetStream
	name     string
	replicas int
	store    *store
	stream   jetstream.Stream
	first    []byte // the first entry
	// unfinished says that the store has what another Replanting has begun.
	unfinished bool
}

// ErrNotEmpty says that a store has a journal, or a part of one.
var ErrNotEmpty = errors.New("there is a journal already")

// restoring is in the metadata of a stream that a Replanting made. It stays there.
const restoring = "presence-restore"

// NewReplanting is for a stream and a bucket of these names, or the default ones.
func NewReplanting(js jetstream.JetStream, stream, bucket string, replicas int) *Replanting {
	return &Replanting{js: js, name: cmp.Or(stream, DefaultStream), replicas: max(replicas, 1),
		store: &store{js: js, bucket: cmp.Or(bucket, DefaultBucket), replicas: max(replicas, 1), readOnly: true, stall: storeTimeout}}
}

// Check returns ErrNotEmpty if there is a journal. It changes nothing.
func (r *Replanting) Check(ctx context.Context) error {
	list, err := r.store.list(ctx)
	if err != nil {
		return err
	}
	stream, err := streams.Find(ctx, r.js, r.name)
	missing := errors.Is(err, jetstream.ErrStreamNotFound)
	switch {
	case err != nil && !missing:
		return fmt.Errorf("looking for the journal's stream %s: %w", r.name, err)
	case len(list) > 0:
		return fmt.Errorf("%w: a snapshot of position %d", ErrNotEmpty, list[0].position)
	case missing:
		return nil
	}
	info := stream.CachedInfo()
	if r.unfinished = info.Config.Metadata[restoring] != "" && info.State.Msgs <= 1; !r.unfinished {
		return fmt.Errorf("%w: the stream %s, up to position %d", ErrNotEmpty, r.name, info.State.LastSeq)
	}
	return nil
}

// Unfinished reports whether Check found what an earlier Replanting left unfinished.
func (r *Replanting) Unfinished() bool { return r.unfinished }

// Begin makes the stream with its first entry at a position, and returns the entry's timestamp in
// milliseconds since 1970. Check must have returned nil.
func (r *Replanting) Begin(ctx context.Context, position uint64, entry []byte) (at int64, err error) {
	if r.unfinished {
		if err := r.Undo(ctx); err != nil {
			return 0, err
		}
	}
	want := streamConfig(r.name, r.replicas)
	want.FirstSeq, want.Metadata = position, map[string]string{restoring: time.Now().UTC().Format(time.RFC3339)}
	if r.stream, err = streams.Create(ctx, r.js, want); err != nil {
		return 0, fmt.Errorf("making the journal's stream %s: %w", r.name, err)
	}
	_, err = streams.Ask(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, publishFirst(ctx, r.js, r.name, entry, position-1)
	})
	if err != nil && !errors.Is(err, errNotFirst) { // which may be this entry, by an earlier attempt
		return 0, err
	}
	m, err := streams.Ask(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return r.stream.GetMsg(ctx, position) })
	switch {
	case err != nil:
		return 0, fmt.Errorf("reading the first entry back: %w", err)
	case hashEntry(m.Data) != hashEntry(entry):
		return 0, fmt.Errorf("%w: somebody else has written to the stream %s meanwhile", ErrNotEmpty, r.name)
	}
	r.first = entry
	return m.Time.UnixMilli(), nil
}

// Finish stores the state as of the first entry, reads it back, and so makes the journal complete.
func (r *Replanting) Finish(ctx context.Context, s Snapshot) error {
	r.store.readOnly = false // makes the bucket
	_, err := r.store.put(ctx, begunSnapshot{s, hashEntry(r.first)})
	return err
}

// Undo removes what Begin and Finish have made, or what Check found unfinished.
func (r *Replanting) Undo(ctx context.Context) error {
	for _, name := range []string{r.store.stream(), r.name} { // the stream last: it is what Check finds
		_, err := streams.Ask(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, r.js.DeleteStream(ctx, name) })
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("removing the stream %s: %w", name, err)
		}
	}
	return nil
}
