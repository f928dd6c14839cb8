package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
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
	// storeTimeout bounds one request to the store, and for how long nothing comes
	// while it is read; transferTimeout bounds the writing or reading of one
	// snapshot.
	storeTimeout    = 10 * time.Second
	transferTimeout = 10 * time.Minute
	// orphanAge is how old something half written is when it is swept. Nobody
	// writes for longer than transferTimeout.
	orphanAge = 20 * time.Minute
	// maxBlock bounds one block of a snapshot that is read.
	maxBlock = 64 << 20
)

// store keeps snapshots in a JetStream object store. An object is the snapshot's
// blocks, each behind its length as an unsigned varint, compressed as an S2
// stream. Its name is
//
//	snapshot.<position, 20 digits>.<random>    one that counts
//	writing.<position, 20 digits>.<random>     one that may be torn
//
// An object is written under the second name, read back whole, and only then
// renamed: writing one is not atomic, its list of contents may be stored without
// them. What the first name promises is checked again when it is read: the store
// keeps an SHA-256 of each object, S2 a CRC of each block.
type store struct {
	js       jetstream.JetStream
	bucket   string
	replicas int
	readOnly bool          // a bucket that is not there is not made
	stall    time.Duration // how long nothing may come while an object is read
	payload  func() int    // how many bytes the server takes; nil: as many as usual
}

// stored is a snapshot in the store.
type stored struct {
	name       string
	position   uint64 // that it is as of
	generation uint32 // of its epoch
	epoch      string
	entry      uint64 // hash of the entry at its position
	wall       int64  // the journal's time then
	bytes      uint64
	at         time.Time // when it was stored

	pieces   uint64 // of its contents
	contents string // subject of those
}

const (
	counts  = "snapshot."
	writing = "writing."
)

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

// requirements are what the bucket's stream must be set to. It is written by the library, whose
// objects are pieces of chunkBytes on one subject, and a note that replaces the one before it.
func (s *store) requirements() streams.Requirements {
	return streams.Requirements{
		Name: "OBJ_" + s.bucket, What: "the snapshots",
		Subjects: []string{"$O." + s.bucket + ".C.>", "$O." + s.bucket + ".M.>"},
		Replicas: s.replicas,
		Message:  chunkBytes + headerBytes,
		Rollup:   true,
		Direct:   true, // what is read is checked
	}
}

// chunkBytes is the largest message of the object store.
const chunkBytes = 128 << 10

// check refuses a bucket that could lose snapshots by itself.
func (s *store) check(ctx context.Context) error {
	stream, err := streams.Find(ctx, s.js, "OBJ_"+s.bucket)
	if err != nil {
		return fmt.Errorf("opening the object store %s: %w", s.bucket, err)
	}
	if err := streams.Check(stream.CachedInfo().Config, s.requirements()); err != nil {
		return fmt.Errorf("the object store %s cannot hold the snapshots: %w", s.bucket, err)
	}
	return nil
}

// list returns the snapshots that count, the newest first.
func (s *store) list(ctx context.Context) ([]stored, error) {
	all, err := s.all(ctx)
	return slices.DeleteFunc(all, func(x stored) bool { return !strings.HasPrefix(x.name, counts) }), err
}

// whole returns the snapshots that count and whose contents are all there, the newest
// first.
func (s *store) whole(ctx context.Context) ([]stored, error) {
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
		x := stored{pieces: uint64(o.Chunks), contents: "$O." + s.bucket + ".C." + o.NUID, name: o.Name, epoch: o.Metadata["epoch"], bytes: o.Size, at: o.ModTime}
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

// infos returns what the objects are. The library's List waits on a consumer, and for
// as long as it may where that is given to a server that has just died, or where the
// bucket was just made; this can be asked again.
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
			continue // not one of the store's
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

// subjects returns the bucket's stream, and how many messages there are of each of
// its subjects that a filter matches, behind the bucket's prefix.
func (s *store) subjects(ctx context.Context, filter string) (jetstream.Stream, map[string]uint64, error) {
	stream, err := s.js.Stream(ctx, "OBJ_"+s.bucket)
	if err != nil {
		return nil, nil, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("$O."+s.bucket+"."+filter))
	if err != nil {
		return nil, nil, err
	}
	return stream, info.State.Subjects, nil
}

// put writes a snapshot, reads it back, and makes it count. It ends it.
func (s *store) put(ctx context.Context, of begunSnapshot) (stored, error) {
	defer of.End()
	x := stored{position: of.Position(), wall: of.Wall(), entry: of.hash}
	x.epoch, x.generation = of.Epoch()
	return s.write(ctx, x, of.Next)
}

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
		if err := ctx.Err(); err != nil { // Put looks at ctx between messages, of which each may be many blocks
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
	x.name, meta.Name = counts+name, counts+name
	if err := os.UpdateMeta(ctx, writing+name, meta); err != nil {
		return x, fmt.Errorf("making a snapshot count: %w", err)
	}
	return x, nil
}

// readBack reads an object whole. A replica may not know it yet.
func (s *store) readBack(ctx context.Context, name string) (err error) {
	for range 5 {
		if err = func() error {
			o, err := s.read(ctx, name)
			if err != nil {
				return err
			}
			defer o.Close()
			_, err = io.Copy(io.Discard, s2.NewReader(o))
			return err
		}(); err == nil {
			return nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// open returns a function that reads a snapshot's blocks, and one to call when
// it is not needed any more.
func (s *store) open(ctx context.Context, name string) (next func() ([]byte, error), done func(), err error) {
	o, err := s.read(ctx, name)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the snapshot %s: %w", name, err)
	}
	return readBlocks(s2.NewReader(o)), func() { _ = o.Close() }, nil
}

// object is one that is being read, for at most transferTimeout, and where nothing
// comes for the store's stall no longer. Its error is transient then: the server that
// was to send it may have died.
type object struct {
	jetstream.ObjectResult
	ctx    context.Context
	cancel context.CancelFunc
	stall  time.Duration
}

// read begins to read an object whose contents are complete: reading one that lacks
// some would wait for them.
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

// sliding is a context whose deadline is always the same time away. The library sets
// it anew for each read of an object, and looks at nothing else while it waits.
type sliding struct {
	context.Context
	away time.Duration
}

func (c sliding) Deadline() (time.Time, bool) { return time.Now().Add(c.away), true }

func (s *store) get(ctx context.Context, name string) (jetstream.ObjectResult, error) {
	bucket, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	info, err := bucket.GetInfo(ctx, name)
	if err != nil {
		return nil, err
	}
	_, subjects, err := s.subjects(ctx, "C."+info.NUID)
	if err != nil {
		return nil, err
	}
	if have := subjects["$O."+s.bucket+".C."+info.NUID]; have != uint64(info.Chunks) {
		return nil, fmt.Errorf("it is damaged: %d of its %d pieces are there", have, info.Chunks)
	}
	return bucket.Get(ctx, name)
}

func (o *object) Read(p []byte) (int, error) {
	n, err := o.ObjectResult.Read(p)
	return n, o.explain(err)
}

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

// remove deletes an object and every trace of it: the store would keep a note
// of each name for ever.
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
	stream, err := s.js.Stream(ctx, "OBJ_"+s.bucket)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+s.bucket+".M."+base64.URLEncoding.EncodeToString([]byte(name))))
}

// sweep removes what is not needed: all but the newest keep snapshots, and what
// was left half written long ago.
func (s *store) sweep(ctx context.Context, keep int) error {
	all, err := s.all(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		switch {
		case strings.HasPrefix(x.name, counts):
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

// sweepChunks removes contents that no object lists: those of a writer that
// died before its object was complete.
func (s *store) sweepChunks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	objects, err := streams.Ask(ctx, s.infos)
	if err != nil {
		return err
	}
	chunks := "$O." + s.bucket + ".C."
	listed := make(map[string]bool)
	for _, o := range objects {
		listed[chunks+o.NUID] = true
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
			continue // it is gone, or somebody may be writing it
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return err
		}
	}
	return nil
}

// blockWriter compresses blocks as they are read from it.
type blockWriter struct {
	next func([]byte) ([]byte, bool, error)
	more bool
	out  bytes.Buffer
	s2   *s2.Writer
	b    []byte
}

func newBlockWriter(next func([]byte) ([]byte, bool, error)) *blockWriter {
	w := &blockWriter{next: next, more: true}
	w.s2 = s2.NewWriter(&w.out, s2.WriterConcurrency(1))
	return w
}

// Read fills p unless the end is near, because each reading becomes a message.
// It takes a third of a processor at most: nothing waits for a snapshot.
func (w *blockWriter) Read(p []byte) (n int, err error) {
	for w.more && w.out.Len() < len(p) {
		begun := time.Now()
		if w.b, w.more, err = w.next(w.b[:0]); err != nil {
			return 0, err
		}
		if err := w.write(); err != nil {
			return 0, err
		}
		time.Sleep(2 * time.Since(begun))
	}
	return w.out.Read(p)
}

func (w *blockWriter) write() error {
	var length [binary.MaxVarintLen64]byte
	if _, err := w.s2.Write(binary.AppendUvarint(length[:0], uint64(len(w.b)))); err != nil {
		return err
	}
	if _, err := w.s2.Write(w.b); err != nil {
		return err
	}
	if !w.more {
		return w.s2.Close()
	}
	return w.s2.Flush()
}

// readBlocks is the inverse of a blockWriter.
func readBlocks(r io.Reader) func() ([]byte, error) {
	in := bufio.NewReader(r)
	var b []byte
	return func() ([]byte, error) {
		n, err := binary.ReadUvarint(in)
		switch {
		case err != nil:
			return nil, err // io.EOF is the end
		case n > maxBlock:
			return nil, fmt.Errorf("a block of %d bytes: at most %d are written", n, maxBlock)
		}
		b = slices.Grow(b[:0], int(n))[:n]
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
		return b, nil
	}
}
