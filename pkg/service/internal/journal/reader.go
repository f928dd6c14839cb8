package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Reader reads a journal and its snapshots. It makes nothing and changes nothing,
// so that the right to read is enough.
type Reader struct {
	stream jetstream.Stream
	store  *store
}

// StoredSnapshot is a snapshot that counts.
type StoredSnapshot struct {
	Position uint64
	Bytes    uint64
	At       time.Time // when it was stored

	stored stored
}

// OpenReader finds a journal by the names of its stream and its bucket; defaults
// where they are empty.
func OpenReader(ctx context.Context, js jetstream.JetStream, stream, bucket string) (*Reader, error) {
	stream, bucket = cmp.Or(stream, DefaultStream), cmp.Or(bucket, DefaultBucket)
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's stream %s: %w", stream, err)
	}
	return &Reader{stream: s, store: &store{js: js, bucket: bucket, readOnly: true, stall: storeTimeout}}, nil
}

// Positions returns those of the journal's first and last entry. Of an empty one
// the first is behind the last.
func (r *Reader) Positions(ctx context.Context) (first, last uint64, err error) {
	info, err := r.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the journal's state: %w", err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// Snapshots returns those that count, the newest first.
func (r *Reader) Snapshots(ctx context.Context) ([]StoredSnapshot, error) {
	list, err := r.store.list(ctx)
	snapshots := make([]StoredSnapshot, 0, len(list))
	for _, x := range list {
		snapshots = append(snapshots, StoredSnapshot{Position: x.position, Bytes: x.bytes, At: x.at, stored: x})
	}
	return snapshots, err
}

// Open returns a function that reads a snapshot's blocks, and one to call when it
// is not needed any more.
func (r *Reader) Open(ctx context.Context, x StoredSnapshot) (next func() ([]byte, error), done func(), err error) {
	return r.store.open(ctx, x.stored.name)
}

// TakenOf reports whether an entry is the one at whose position a snapshot was
// taken, by its data.
func (x *StoredSnapshot) TakenOf(data []byte) bool { return hashEntry(data) == x.stored.entry }

// Entries are read one after the other.
type Entries struct {
	messages jetstream.MessagesContext
	subject  string // of entries
	next     uint64
	foreign  bool
}

// Entries begins to read at a position. Stop must be called.
func (r *Reader) Entries(ctx context.Context, from uint64) (*Entries, error) {
	consumer, err := r.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1), MaxResetAttempts: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("reading the journal from position %d: %w", from, err)
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.PullMaxMessages(1024))
	if err != nil {
		return nil, fmt.Errorf("reading the journal from position %d: %w", from, err)
	}
	return &Entries{messages: messages, subject: subjectOf(r.stream.CachedInfo().Config.Name), next: max(from, 1)}, nil
}

// Next returns the next entry's position, its timestamp in milliseconds since
// 1970, and its data. It waits for one until ctx is done. A *GapError says that
// the journal lacks some.
func (e *Entries) Next(ctx context.Context) (position uint64, at int64, data []byte, err error) {
	for {
		m, err := e.messages.Next(jetstream.NextContext(ctx))
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
			return 0, 0, nil, fmt.Errorf("position %d of the journal did not come in time: %w", e.next, err)
		}
		if err != nil {
			return 0, 0, nil, fmt.Errorf("reading position %d of the journal: %w", e.next, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return 0, 0, nil, err
		}
		position := meta.Sequence.Stream
		switch {
		case position < e.next:
			continue // delivered again
		case position > e.next:
			return 0, 0, nil, &GapError{From: e.next, To: position - 1}
		}
		e.next++
		e.foreign = m.Subject() != e.subject
		return position, meta.Timestamp.UnixMilli(), m.Data(), nil
	}
}

// Foreign reports whether what Next returned last is no entry but a message of another
// subject, which every instance passes over.
func (e *Entries) Foreign() bool { return e.foreign }

// Stop ends the reading.
func (e *Entries) Stop() { e.messages.Stop() }

// GapError says which positions the journal lacks, or has dropped behind a
// snapshot meanwhile.
type GapError struct{ From, To uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("the journal lacks positions %d to %d", e.From, e.To)
}
