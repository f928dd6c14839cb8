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

// Reader reads a journal and its snapshots. It creates and changes nothing, so the permission to
// read is enough.
type Reader struct {
	stream jetstream.Stream
	store  *store
}

// StoredSnapshot is a finished snapshot.
type StoredSnapshot struct {
	Position uint64
	Bytes    uint64
	At       time.Time // when it was stored

	stored stored
}

// OpenReader finds a journal by the names of its stream and its bucket. An empty name stands for
// the default.
func OpenReader(ctx context.Context, js jetstream.JetStream, stream, bucket string) (*Reader, error) {
	stream, bucket = cmp.Or(stream, DefaultStream), cmp.Or(bucket, DefaultBucket)
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's stream %s: %w", stream, err)
	}
	return &Reader{stream: s, store: &store{js: js, bucket: bucket, readOnly: true, stall: storeTimeout}}, nil
}

// Positions returns the positions of the journal's first and last entry. If the journal is empty,
// the first is behind the last.
func (r *Reader) Positions(ctx context.Context) (first, last uint64, err error) {
	info, err := r.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the journal's state: %w", err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// Snapshots returns the finished snapshots, the newest first.
func (r *Reader) Snapshots(ctx context.Context) ([]StoredSnapshot, error) {
	list, err := r.store.list(ctx)
	snapshots := make([]StoredSnapshot, 0, len(list))
	for _, x := range list {
		snapshots = append(snapshots, StoredSnapshot{Position: x.position, Bytes: x.bytes, At: x.at, stored: x})
	}
	return snapshots, err
}

// Open returns a function that reads a snapshot's blocks, and one to call in the end.
func (r *Reader) Open(ctx context.Context, x StoredSnapshot) (next func() ([]byte, error), done func(), err error) {
	return r.store.open(ctx, x.stored.name)
}

// TakenOf reports whether the snapshot was taken right behind the entry with this data.
func (x *StoredSnapshot) TakenOf(data []byte) bool { return hashEntry(data) == x.stored.entry }

// Entries reads entries one after the other.
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

// Next returns the position of the next entry, its timestamp in milliseconds since 1970, and its
// data. It waits for an entry until ctx is done. A *GapError says that the journal lacks entries.
func (e *Entries) Next(ctx context.Context) (position uint64, at int64, data []byte, err error) {
	for {
		m, err := e.messages.Next(jetstream.NextContext(ctx))
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
			return 0, 0, nil, fmt.Errorf("position %d of the journal was not delivered in time: %w", e.next, err)
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

// Foreign reports whether Next last returned a message on another subject than the entries'. Every
// instance passes over such a message.
func (e *Entries) Foreign() bool { return e.foreign }

// Stop ends the reading.
func (e *Entries) Stop() { e.messages.Stop() }

// GapError says which positions the journal lacks. They may have been trimmed meanwhile.
type GapError struct{ From, To uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("the journal lacks positions %d to %d", e.From, e.To)
}
