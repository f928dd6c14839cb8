package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/entry"
)

// subject is the stream's one subject.
func (j *Journal[W]) subject() string { return j.cfg.Stream + ".entries" }

// openStream finds the stream, or creates it, and sees to its first entry.
func (j *Journal[W]) openStream(ctx context.Context) error {
	want := jetstream.StreamConfig{
		Name:        j.cfg.Stream,
		Description: "presence: the journal of all changes; written and trimmed by presenced only",
		Subjects:    []string{j.subject()},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    j.cfg.Replicas,
		Discard:     jetstream.DiscardNew,
		DenyDelete:  true,
		MaxMsgs:     -1,
		MaxBytes:    -1,
		MaxMsgSize:  -1,
	}
	stream, err := j.cfg.JetStream.Stream(ctx, j.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = j.cfg.JetStream.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance was faster
			stream, err = j.cfg.JetStream.Stream(ctx, j.cfg.Stream)
		}
	}
	if err != nil {
		return fmt.Errorf("opening the journal's stream %s: %w", j.cfg.Stream, err)
	}
	j.stream = stream
	if err := checkStream(stream.CachedInfo().Config, want); err != nil {
		return fmt.Errorf("the stream %s cannot be the journal: %w", j.cfg.Stream, err)
	}
	return j.writeGenesis(ctx)
}

// checkStream refuses a stream that could lose or reorder entries by itself.
func checkStream(have, want jetstream.StreamConfig) error {
	switch {
	case len(have.Subjects) != 1 || have.Subjects[0] != want.Subjects[0]:
		return fmt.Errorf("its subjects are %v, not %v", have.Subjects, want.Subjects)
	case have.Retention != want.Retention:
		return fmt.Errorf("its retention is %v, not %v", have.Retention, want.Retention)
	case have.Storage != want.Storage:
		return fmt.Errorf("its storage is %v, not %v", have.Storage, want.Storage)
	case have.Discard != want.Discard:
		return fmt.Errorf("it discards %v, not %v", have.Discard, want.Discard)
	case have.MaxAge != 0 || have.MaxMsgs > 0 || have.MaxMsgsPerSubject > 0:
		return errors.New("it drops messages by age or number")
	case have.Mirror != nil || len(have.Sources) > 0:
		return errors.New("it mirrors or sources another stream")
	}
	return nil
}

// writeGenesis appends the first entry, which gives the journal its epoch,
// unless there is one.
func (j *Journal[W]) writeGenesis(ctx context.Context) error {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("reading the journal's state: %w", err)
	}
	if info.State.LastSeq > 0 {
		return nil
	}
	j.sequence = 1
	data, err := entry.Append(nil, &entry.Entry{
		Header:   entry.Header{Epoch: j.cfg.Epoch, Writer: j.cfg.Writer, Sequence: 1},
		Commands: j.cfg.Genesis,
	})
	if err != nil {
		return err
	}
	_, err = j.cfg.JetStream.PublishMsg(ctx, &nats.Msg{Subject: j.subject(), Data: data},
		jetstream.WithExpectStream(j.cfg.Stream), jetstream.WithExpectLastSequence(0))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil // another instance was faster
	}
	if err != nil {
		return fmt.Errorf("writing the journal's first entry: %w", err)
	}
	return nil
}

// lastPosition returns the position of the stream's last entry.
func (j *Journal[W]) lastPosition(ctx context.Context) (uint64, error) {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the journal's state: %w", err)
	}
	if info.State.FirstSeq > 1 {
		return 0, fmt.Errorf("the journal begins at position %d: it was trimmed, and this version reads no snapshots", info.State.FirstSeq)
	}
	if info.State.LastSeq == 0 {
		return 0, errors.New("the journal is empty though its first entry was written: it was purged")
	}
	return info.State.LastSeq, nil
}
