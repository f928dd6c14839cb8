package contacts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts/value"
	"presence/pkg/service/internal/streams"
)

const (
	// fillWithin bounds the wait for one acknowledgement of a Filler.
	fillWithin = 30 * time.Second
	// filling is how many values of a Filler wait for their acknowledgement at most.
	filling = 256
)

// ReadAll calls each for every user who has contacts. Contacts that change meanwhile may come
// twice: the later call counts. Values that cannot be read are only counted. A bucket that is not
// there has no contacts. It reads alone. idle bounds the wait for the next value.
func ReadAll(ctx context.Context, js jetstream.JetStream, bucket string, idle time.Duration, each func(userID string, users []string) error) (damaged int, err error) {
	bucket = cmp.Or(bucket, DefaultBucket)
	stream, err := streams.Find(ctx, js, "KV_"+bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("opening the contacts' bucket %s: %w", bucket, err)
	}
	if stream.CachedInfo().State.Msgs == 0 {
		return 0, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{MaxResetAttempts: 1})
	if err != nil {
		return 0, fmt.Errorf("reading the contacts: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(time.Second), jetstream.PullMaxMessages(1024))
	if err != nil {
		return 0, fmt.Errorf("reading the contacts: %w", err)
	}
	defer messages.Stop()
	for pending := uint64(1); pending > 0; {
		m, err := next(ctx, messages, idle)
		if err != nil {
			return damaged, fmt.Errorf("reading the contacts: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return damaged, err
		}
		if pending = meta.NumPending; m.Headers().Get("KV-Operation") != "" { // deleted by hand
			continue
		}
		userID, err := protocol.DecodeToken(strings.TrimPrefix(m.Subject(), "$KV."+bucket+"."))
		users, bad := value.Decode(m.Data())
		if errors.Join(err, bad) != nil {
			damaged++
			continue
		}
		if err := each(userID, users); err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

func next(ctx context.Context, messages jetstream.MessagesContext, idle time.Duration) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}

// CheckEmpty returns an error if the bucket has contacts.
func CheckEmpty(ctx context.Context, js jetstream.JetStream, bucket string) error {
	bucket = cmp.Or(bucket, DefaultBucket)
	stream, err := streams.Find(ctx, js, "KV_"+bucket)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("opening the contacts' bucket %s: %w", bucket, err)
	}
	if n := stream.CachedInfo().State.Msgs; n > 0 {
		return fmt.Errorf("the contacts' bucket %s has the contacts of %d users", bucket, n)
	}
	return nil
}

// Filler writes the contacts of a backup into a bucket of its own. Versions begin above all
// earlier ones, as in a bucket that is made anew. It is for one goroutine.
type Filler struct {
	js     jetstream.JetStream
	prefix string
	sent   []jetstream.PubAckFuture
}

// NewFiller removes the bucket, if there is one, and makes it anew.
func NewFiller(ctx context.Context, js jetstream.JetStream, bucket string, replicas int) (*Filler, error) {
	if err := Remove(ctx, js, bucket); err != nil {
		return nil, err
	}
	want := made(cmp.Or(bucket, DefaultBucket), replicas)
	want.FirstSeq = uint64(time.Now().UnixMicro())
	stream, err := streams.Create(ctx, js, want)
	if err != nil {
		return nil, fmt.Errorf("making the bucket %s: %w", want.Name, err)
	}
	if stream.CachedInfo().State.Msgs > 0 {
		return nil, fmt.Errorf("making the bucket %s: somebody else made it meanwhile", want.Name)
	}
	return &Filler{js: js, prefix: strings.TrimSuffix(want.Subjects[0], ">")}, nil
}

// Put writes the contacts of a user. The error may be that of an earlier call.
func (f *Filler) Put(ctx context.Context, userID string, users []string) error {
	token, err := protocol.EncodeToken(userID)
	if err != nil {
		return err
	}
	data, err := value.Encode(users)
	if err != nil {
		return err
	}
	ack, err := f.js.PublishMsgAsync(&nats.Msg{Subject: f.prefix + token, Data: data})
	if err != nil {
		return fmt.Errorf("writing contacts: %w", err)
	}
	if f.sent = append(f.sent, ack); len(f.sent) < filling {
		return nil
	}
	return f.Flush(ctx)
}

// Flush waits until everything is stored.
func (f *Filler) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	for _, ack := range f.sent {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("writing contacts: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("writing contacts: %w", ctx.Err())
		}
	}
	f.sent = f.sent[:0]
	return nil
}

// Remove removes the bucket, if there is one.
func Remove(ctx context.Context, js jetstream.JetStream, bucket string) error {
	name := "KV_" + cmp.Or(bucket, DefaultBucket)
	_, err := streams.Ask(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, js.DeleteStream(ctx, name) })
	if err != nil && !isDeleted(err) {
		return fmt.Errorf("removing the bucket %s: %w", name, err)
	}
	return nil
}
