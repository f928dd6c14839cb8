package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/streams"
)

// subject is the stream's one subject.
func (j *Journal[W]) subject() string { return subjectOf(j.cfg.Stream) }

// subjectOf returns the subject of the entries in a stream.
func subjectOf(stream string) string { return stream + ".entries" }

// openStream finds the stream, or creates it, and has a first entry in it.
func (j *Journal[W]) openStream(ctx context.Context) error {
	want := streamConfig(j.cfg.Stream, j.cfg.Replicas)
	list, err := j.store.list(ctx)
	if err != nil {
		return err
	}
	j.noteGeneration(list)
	stream, err := streams.Find(ctx, j.cfg.JetStream, j.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if j.headPosition > 0 && !j.cfg.NewEpoch {
			return j.lostBehind(j.headPosition, 0)
		}
		if len(list) > 0 {
			if !j.cfg.NewEpoch {
				return fmt.Errorf("the stream %s is gone, but there are snapshots of it: where the NATS server's log says that its meta.inf or meta.sum cannot be used, copy those files from a backup, however old, and nothing is lost; otherwise %w; stop every instance, then start one with --new-epoch to go on with what the snapshot of position %d holds", j.cfg.Stream, ErrRestoredJournal, list[0].position)
			}
			want.FirstSeq = list[0].position + 1 // so that the journal goes on from the snapshot
		}
		stream, err = streams.Create(ctx, j.cfg.JetStream, want)
	}
	if err != nil {
		return fmt.Errorf("opening the journal's stream %s: %w", j.cfg.Stream, err)
	}
	j.stream = stream
	if err := streams.Check(stream.CachedInfo().Config, j.requirements()); err != nil {
		return fmt.Errorf("the stream %s cannot be the journal: %w", j.cfg.Stream, err)
	}
	if err := j.store.check(ctx); err != nil {
		return err
	}
	return j.writeGenesis(ctx, list)
}

// streamConfig returns the configuration that a journal's stream is made with.
func streamConfig(stream string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        stream,
		Description: "presence: the journal of all changes; written and trimmed by presenced only",
		Subjects:    []string{subjectOf(stream)},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
		Discard:     jetstream.DiscardNew,
		DenyDelete:  true,
		MaxMsgs:     -1,
		MaxBytes:    -1,
		MaxMsgSize:  -1,
	}
}

func (j *Journal[W]) requirements() streams.Requirements {
	return Requirements(j.cfg.Stream, j.cfg.Replicas)
}

// Requirements are what the journal's stream must be set to, with so many replicas at least.
func Requirements(stream string, replicas int) streams.Requirements {
	return streams.Requirements{
		Name: stream, What: "the journal",
		Subjects:   []string{subjectOf(stream)},
		Replicas:   replicas,
		Message:    MaxBytes*3/2 + headerBytes, // see fits
		DenyDelete: true,
	}
}

// headerBytes bounds the headers of a message that presenced or the library writes, in bytes.
const headerBytes = 4 << 10

// writeGenesis appends the first entry, if the journal is empty. It gives the journal its epoch.
func (j *Journal[W]) writeGenesis(ctx context.Context, snapshots []stored) error {
	info, err := streams.Ask(ctx, j.streamInfo)
	switch {
	case err != nil:
		return err
	case info.State.LastSeq > 0:
		return nil
	case j.headPosition > 0 && !j.cfg.NewEpoch:
		return j.lostBehind(j.headPosition, 0)
	case len(snapshots) > 0 && !j.cfg.NewEpoch:
		return j.endsBefore(snapshots, 0)
	}
	j.sequence = 1
	data, err := entry.Append(nil, &entry.Entry{
		Header:   entry.Header{Epoch: j.cfg.Epoch, Generation: j.generation + 1, Instance: j.cfg.Instance, Sequence: 1, MaxFormat: entry.Format},
		Commands: j.cfg.Genesis,
	})
	if err != nil {
		return err
	}
	_, err = streams.Ask(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, j.publishFirst(ctx, data, 0) // if it is stored already, this is errNotFirst
	})
	if errors.Is(err, errNotFirst) {
		return nil // another instance was faster
	}
	j.made = err == nil
	return err
}

// errNotFirst says that another entry was appended meanwhile.
var errNotFirst = errors.New("another instance appended an entry meanwhile: start one after the other")

// publishFirst appends an entry right behind a position, or not at all.
func (j *Journal[W]) publishFirst(ctx context.Context, data []byte, last uint64) error {
	return publishFirst(ctx, j.cfg.JetStream, j.cfg.Stream, data, last)
}

func publishFirst(ctx context.Context, js jetstream.JetStream, stream string, data []byte, last uint64) error {
	_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subjectOf(stream), Data: data},
		jetstream.WithExpectStream(stream), jetstream.WithExpectLastSequence(last))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return errNotFirst
	}
	if err != nil {
		return fmt.Errorf("writing the epoch's first entry: %w", err)
	}
	return nil
}

// streamInfo asks for the stream's state.
func (j *Journal[W]) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.AskTimeout)
	defer cancel()
	info, err := j.stream.Info(ctx)
	if err != nil {
		return nil, &transientError{fmt.Errorf("reading the journal's state: %w", err)}
	}
	return info, nil
}

// single reports whether the stream is on a server that is in no cluster. What that server says of
// the stream is never out of date.
func single(info *jetstream.StreamInfo) bool { return info.Cluster == nil || info.Cluster.Name == "" }

// noteGeneration remembers the highest generation of the snapshots.
func (j *Journal[W]) noteGeneration(list []stored) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, x := range list {
		j.generation = max(j.generation, x.generation)
	}
}

// hashEntry returns a hash by which entries are told apart.
func hashEntry(data []byte) uint64 { return xxhash.Sum64(data) }

// Check returns what a stream is like, and an error if it cannot be the journal. It changes nothing.
func Check(ctx context.Context, js jetstream.JetStream, stream string, replicas int) (*jetstream.StreamInfo, error) {
	found, err := streams.Find(ctx, js, stream)
	if err != nil {
		return nil, err
	}
	info := found.CachedInfo()
	if err := streams.Check(info.Config, Requirements(stream, replicas)); err != nil {
		return nil, fmt.Errorf("the stream %s cannot be the journal: %w", stream, err)
	}
	return info, nil
}
