package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/streams"
)

// DefaultBucket is the object store that holds the snapshots.
const DefaultBucket = "PRESENCE_SNAPSHOTS"

const (
	// storeTimeout bounds one request to the store, and the time in which nothing comes while a
	// snapshot is read.
	storeTimeout = 10 * time.Second
	// transferTimeout bounds the writing or reading of one snapshot.
	transferTimeout = 10 * time.Minute
	// orphanAge is the age at which an unfinished object is removed. No object is written for
	// longer than transferTimeout.
	orphanAge = 20 * time.Minute
	// chunkBytes is the largest message of the object store.
	chunkBytes = 128 << 10
)

// store keeps snapshots in a JetStream object store. For what is in an object see blockWriter. Its
// name is
//
//	snapshot.<position, 20 digits>.<random>    a finished snapshot
//	writing.<position, 20 digits>.<random>     one that may be incomplete
//
// An object is written under the second name, read back whole, and then renamed. The reason: it is
// not written atomically. The store may have the note that lists its contents, and not all
// contents. A finished snapshot is checked again when it is read: the store keeps a SHA-256 of
// each object, and S2 a CRC of each block.
type store struct {
	js       jetstream.JetStream
	bucket   string
	replicas int
	readOnly bool          // a missing bucket is not made
	stall    time.Duration // for how long nothing may come while an object is read
	payload  func() int    // how many bytes a message may have; nil: as many as usual
}

// stored is a snapshot in the store.
type stored struct {
	name       string
	position   uint64 // of the last entry that is in it
	generation uint32 // of its epoch
	epoch      string
	entry      uint64 // hash of the entry at its position
	wall       int64  // the journal's time of that entry
	bytes      uint64
	at         time.Time // when it was stored

	pieces   uint64 // how many messages its contents are
	contents string // the subject of those messages
}

const (
	finished = "snapshot."
	writing  = "writing."
)

// stream is the name of the bucket's stream.
func (s *store) stream() string { return streamOf(s.bucket) }

func streamOf(bucket string) string { return "OBJ_" + bucket }

// contents is the subject of an object's contents.
func (s *store) contents(nuid string) string { return "$O." + s.bucket + ".C." + nuid }

// note is the subject of the note that says what an object is.
func (s *store) note(name string) string {
	return "$O." + s.bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

func (s *store) objects(ctx context.Context) (jetstream.ObjectStore, error) {
	os, err := s.js.ObjectStore(ctx, s.bucket)
	missing := errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
	if missing && !s.readOnly {
		os, err = s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: s.bucket, Description: "presence: snapshots of the state", Storage: jetstream.FileStorage, Replicas: s.replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another instance was faster
			os, err = s.js.ObjectStore(ctx, s.bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the object store %s: %w", s.bucket, err)
	}
	return os, nil
}

func (s *store) requirements() streams.Requirements {
	return SnapshotRequirements(s.bucket, s.replicas)
}

// SnapshotRequirements are what the stream of the snapshots' bucket must be set to, with so many
// replicas at least. The library writes each object as messages of chunkBytes on one subject, and a
// note that replaces the note before it.
func SnapshotRequirements(bucket string, replicas int) streams.Requirements {
	return streams.Requirements{
		Name: streamOf(bucket), What: "the snapshots",
		Subjects: []string{"$O." + bucket + ".C.>", "$O." + bucket + ".M.>"},
		Replicas: replicas,
		Message:  chunkBytes + headerBytes,
		Rollup:   true,
		Direct:   true, // what is read is checked
	}
}

// check refuses a bucket that could lose snapshots by itself.
func (s *store) check(ctx context.Context) error {
	stream, err := streams.Find(ctx, s.js, s.stream())
	if err != nil {
		return fmt.Errorf("opening the object store %s: %w", s.bucket, err)
	}
	if err := streams.Check(stream.CachedInfo().Config, s.requirements()); err != nil {
		return fmt.Errorf("the object store %s cannot hold the snapshots: %w", s.bucket, err)
	}
	return nil
}

// list returns the finished snapshots, the newest first.
func (s *store) list(ctx context.Context) ([]stored, error) {
	all, err := s.all(ctx)
	return slices.DeleteFunc(all, func(x stored) bool { return !strings.HasPrefix(x.name, finished) }), err
}

// complete returns the finished snapshots whose contents are all there, the newest first.
func (s *store) complete(ctx context.Context) ([]stored, error) {
	list, err := s.list(ctx)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, subjects, err := s.subjects(ctx, "C.>")
	if err != nil {
		return nil, fmt.Errorf("looking at the snapshots: %w", err)
	}
	return slices.DeleteFunc(list, func(x stored) bool { return subjects[x.contents] != x.pieces }), nil
}

// all returns all objects, the newest epoch first, and in it the latest position.
func (s *store) all(ctx context.Context) ([]stored, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	objects, err := streams.Ask(ctx, s.infos)
	if s.readOnly && errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	var list []stored
	for _, o := range objects {
		x := stored{pieces: uint64(o.Chunks), contents: s.contents(o.NUID), name: o.Name, epoch: o.Metadata["epoch"], bytes: o.Size, at: o.ModTime}
		x.position, _ = strconv.ParseUint(o.Metadata["position"], 10, 64)
		x.entry, _ = strconv.ParseUint(o.Metadata["entry"], 16, 64)
		x.wall, _ = strconv.ParseInt(o.Metadata["wall"], 10, 64)
		generation, _ := strconv.ParseUint(o.Metadata["generation"], 10, 32)
		x.generation = uint32(generation)
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b stored) int {
		if a.generation != b.generation {
			return int(int64(b.generation) - int64(a.generation))
		}
		return int(int64(b.position) - int64(a.position))
	})
	return list, nil
}

// infos lists the objects. The library's List waits on a consumer. It waits for as long as it may
// if a server that has just died was given the consumer, or if the bucket was just made. infos
// asks in a way that can be repeated.
func (s *store) infos(ctx context.Context) ([]*jetstream.ObjectInfo, error) {
	os, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	_, subjects, err := s.subjects(ctx, "M.>")
	if err != nil {
		return nil, err
	}
	var list []*jetstream.ObjectInfo
	for subject := range subjects {
		name, err := base64.URLEncoding.DecodeString(subject[strings.LastIndexByte(subject, '.')+1:])
		if err != nil {
			continue // no object's note
		}
		info, err := os.GetInfo(ctx, string(name))
		if errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrBadObjectMeta) {
			continue // removed meanwhile, or damaged
		}
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// subjects returns the bucket's stream, and how many messages each of its subjects has that a
// filter matches. The filter is without the bucket's prefix.
func (s *store) subjects(ctx context.Context, filter string) (jetstream.Stream, map[string]uint64, error) {
	stream, err := s.js.Stream(ctx, s.stream())
	if err != nil {
		return nil, nil, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("$O."+s.bucket+"."+filter))
	if err != nil {
		return nil, nil, err
	}
	return stream, info.State.Subjects, nil
}

// put stores a snapshot, and ends it.
func (s *store) put(ctx context.Context, of begunSnapshot) (stored, error) {
	defer of.End()
	x := stored{position: of.Position(), wall: of.Wall(), entry: of.hash}
	x.epoch, x.generation = of.Epoch()
	return s.write(ctx, x, of.Next)
}

// write writes a snapshot, reads it back and renames it to a finished one.
func (s *store) write(ctx context.Context, x stored, next func([]byte) ([]byte, bool, error)) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	os, err := s.objects(ctx)
	if err != nil {
		return x, err
	}
	name := fmt.Sprintf("%020d.%s", x.position, uuid.NewString())
	meta := jetstream.ObjectMeta{Name: writing + name, Metadata: map[string]string{
		"epoch":      x.epoch,
		"generation": strconv.FormatUint(uint64(x.generation), 10),
		"position":   strconv.FormatUint(x.position, 10),
		"entry":      strconv.FormatUint(x.entry, 16),
		"wall":       strconv.FormatInt(x.wall, 10),
	}}
	if s.payload != nil {
		meta.Opts = &jetstream.ObjectMetaOptions{ChunkSize: uint32(min(chunkBytes, s.payload()-headersOfEntry))}
	}
	info, err := os.Put(ctx, meta, newBlockWriter(func(b []byte) ([]byte, bool, error) {
		if err := ctx.Err(); err != nil { // Put looks only between messages, and one may have many blocks
			return nil, false, err
		}
		return next(b)
	}))
	if err != nil {
		return x, fmt.Errorf("storing a snapshot: %w", err)
	}
	x.bytes, x.at = info.Size, info.ModTime
	if err := s.readBack(ctx, meta.Name); err != nil {
		_ = s.remove(ctx, meta.Name)
		return x, fmt.Errorf("reading a snapshot back: %w", err)
	}
	x.name, meta.Name = finished+name, finished+name
	if err := os.UpdateMeta(ctx, writing+name, meta); err != nil {
		return x, fmt.Errorf("renaming a snapshot that is written: %w", err)
	}
	return x, nil
}

// readBack reads a whole object. It tries several times, because a replica may not know it yet.
func (s *store) readBack(ctx context.Context, name string) (err error) {
	for range 5 {
		if err = s.compare(ctx, name); err == nil {
			return nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// compare reads an object and compares it with the SHA-256 that the note of it has.
func (s *store) compare(ctx context.Context, name string) error {
	info, stream, err := s.whole(ctx, name)
	if err != nil {
		return err
	}
	want, err := jetstream.DecodeObjectDigest(info.Digest)
	if err != nil {
		return err
	}
	have := sha256.New()
	p := &pieces{ctx: ctx, stream: stream, subject: s.contents(info.NUID), left: uint64(info.Chunks), stall: s.stall}
	if _, err := io.Copy(io.Discard, s2.NewReader(io.TeeReader(p, have))); err != nil {
		return err
	}
	if !bytes.Equal(have.Sum(nil), want) {
		return jetstream.ErrDigestMismatch
	}
	return nil
}

// open returns a function that reads a snapshot's blocks, and one to call in the end.
func (s *store) open(ctx context.Context, name string) (next func() ([]byte, error), done func(), err error) {
	o, err := s.read(ctx, name)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the snapshot %s: %w", name, err)
	}
	return readBlocks(s2.NewReader(o)), func() { _ = o.Close() }, nil
}

// object is an object that is being read. Reading fails after transferTimeout, or where nothing
// comes for stall. That error is transient: the server that was to send the object may have died.
type object struct {
	jetstream.ObjectResult
	ctx    context.Context
	cancel context.CancelFunc
	stall  time.Duration
}

// read begins to read an object. It refuses one that lacks contents, because to read those would
// wait for ever.
func (s *store) read(ctx context.Context, name string) (*object, error) {
	o := &object{stall: s.stall}
	o.ctx, o.cancel = context.WithTimeout(ctx, transferTimeout)
	begun := time.AfterFunc(s.stall, o.cancel)
	defer begun.Stop()
	var err error
	if o.ObjectResult, err = s.get(sliding{o.ctx, s.stall}, name); err != nil {
		err = o.explain(err)
		o.cancel()
		return nil, err
	}
	return o, nil
}

// sliding is a context whose deadline is always the same time away. For each read of an object the
// library asks for the deadline again, and looks at nothing else of the context while it waits.
type sliding struct {
	context.Context
	away time.Duration
}

func (c sliding) Deadline() (time.Time, bool) { return time.Now().Add(c.away), true }

func (s *store) get(ctx context.Context, name string) (jetstream.ObjectResult, error) {
	if _, _, err := s.whole(ctx, name); err != nil {
		return nil, err
	}
	bucket, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	return bucket.Get(ctx, name)
}

// whole returns the note of an object whose contents are all there, and the bucket's stream.
func (s *store) whole(ctx context.Context, name string) (*jetstream.ObjectInfo, jetstream.Stream, error) {
	bucket, err := s.objects(ctx)
	if err != nil {
		return nil, nil, err
	}
	info, err := bucket.GetInfo(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	stream, subjects, err := s.subjects(ctx, "C."+info.NUID)
	if err != nil {
		return nil, nil, err
	}
	if have := subjects[s.contents(info.NUID)]; have != uint64(info.Chunks) {
		return nil, nil, fmt.Errorf("it is damaged: %d of its %d pieces are there", have, info.Chunks)
	}
	return info, stream, nil
}

func (o *object) Read(p []byte) (int, error) {
	n, err := o.ObjectResult.Read(p)
	return n, o.explain(err)
}

// explain makes a timeout a transient error.
func (o *object) explain(err error) error {
	if err != nil && (o.ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)) {
		return &transientError{fmt.Errorf("nothing came for %v, or not all of it within %v: %w", o.stall, transferTimeout, err)}
	}
	return err
}

// Close ends the reading.
func (o *object) Close() error {
	defer o.cancel()
	return o.ObjectResult.Close()
}

// remove deletes an object and its note, which the library would keep for ever.
func (s *store) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	os, err := s.objects(ctx)
	if err != nil {
		return err
	}
	if err := os.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("removing the snapshot %s: %w", name, err)
	}
	stream, err := s.js.Stream(ctx, s.stream())
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(s.note(name)))
}

// sweep removes all finished snapshots but the newest, of which it keeps so many. It also removes
// what was left unfinished long ago.
func (s *store) sweep(ctx context.Context, keep int) error {
	all, err := s.all(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		switch {
		case strings.HasPrefix(x.name, finished):
			if keep--; keep >= 0 {
				continue
			}
		case time.Since(x.at) < orphanAge:
			continue
		}
		if err := s.remove(ctx, x.name); err != nil {
			return err
		}
	}
	return s.sweepChunks(ctx)
}

// sweepChunks removes contents that belong to no object. The instance that wrote them died before it
// wrote the note.
func (s *store) sweepChunks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	objects, err := streams.Ask(ctx, s.infos)
	if err != nil {
		return err
	}
	listed := make(map[string]bool)
	for _, o := range objects {
		listed[s.contents(o.NUID)] = true
	}
	stream, subjects, err := s.subjects(ctx, "C.>")
	if err != nil {
		return err
	}
	for subject := range subjects {
		if listed[subject] {
			continue
		}
		last, err := stream.GetLastMsgForSubject(ctx, subject)
		if err != nil || time.Since(last.Time) < orphanAge {
			continue // it is gone, or is perhaps being written
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return err
		}
	}
	return nil
}
