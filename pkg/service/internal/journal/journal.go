// Package journal keeps the entries of a replicated state machine in a
// JetStream stream: it packs commands into entries, appends them, and follows
// the stream in order. It knows nothing of what the commands mean.
//
//	j, err := journal.Open(ctx, journal.Config[*caller]{
//		JetStream: js, Writer: id, Stamp: …, Apply: …, Failed: …,
//	})
//	go j.Run(ctx)
//	<-j.CaughtUp()
//	err = j.Submit(command, caller)   // → Apply with the caller, or Failed
//
// The stream is Config.Stream (PRESENCE_JOURNAL) with the one subject of the
// same name followed by ".entries"; each message is one entry of package entry,
// and its stream sequence is the entry's position. Nobody else may write there: what
// is on another subject, because somebody added one to the stream, is passed over.
//
//   - Packing: one entry of this writer is in flight at a time. What is
//     submitted meanwhile is the next one; nothing waits for a timer.
//   - Ordering: Apply sees every position once, in order, on one goroutine.
//   - Loss: an entry is published again, unchanged, until it is acknowledged or
//     GiveUp is over since the oldest of its requests arrived; then its callers get
//     Failed with ErrOutcomeUnknown, because it may still have been stored. Entries
//     stored twice, or late, are for Apply to fence: the header carries what that
//     takes.
//   - Snapshots: now and then the state is stored in the object store
//     Config.Bucket (PRESENCE_SNAPSHOTS), while entries go on being applied, and
//     the journal is trimmed behind the older of the last two. A start restores
//     the newest that can be read and applies what is behind it; so does an
//     instance that was away for so long that its next entry is gone.
//   - What an operator does to the stream or the snapshots while the journal is
//     followed is noticed within seconds, see Wrong: a snapshot that is missing is
//     stored, and what cannot be mended from here is said.
//   - A journal that is not the one that was applied, because it was restored or
//     made anew, stops the instance. It stores what it has applied first, see rescue;
//     the next start goes on by Config.NewEpoch only.
//   - Bounds: at most Config.MaxWaiting commands and renewals wait for an answer,
//     with at most Config.MaxWaitingBytes; more are refused with ErrFull. An entry
//     has about MaxBytes bytes at most, and no more than the server takes.
package journal

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"presence/pkg/internal/entry"
)

// DefaultStream is the stream that holds the journal.
const DefaultStream = "PRESENCE_JOURNAL"

// Limits of what waits.
const (
	// DefaultMaxWaiting bounds the callers between Submit and their answer, to what
	// takes about half a second: whoever comes then is better told so.
	// DefaultMaxWaitingBytes bounds their commands.
	DefaultMaxWaiting      = 1 << 14
	DefaultMaxWaitingBytes = 64 << 20
	// MaxBytes bounds an entry: half of what a NATS server accepts by default.
	MaxBytes = 512 << 10
	// gatherTurns bounds how often others are let run before an entry is packed.
	gatherTurns = 8
	// appliedWithin bounds the wait for an acknowledged entry to be applied
	// before the next one is packed.
	appliedWithin = time.Second
)

var (
	// ErrFull refuses a command because too many wait. Nothing was done.
	ErrFull = errors.New("the journal's queue is full")
	// ErrRenewalPending is given to the caller of a renewal that is not answered now. The
	// renewal stays in the queue, and is done with a later entry.
	ErrRenewalPending = errors.New("the renewal is done with a later journal entry")
	// ErrOutcomeUnknown is given to the callers of an entry that was not
	// acknowledged in time: it may still be stored.
	ErrOutcomeUnknown = errors.New("the journal entry was not acknowledged in time")
	// ErrRejected is given to the callers of an entry that the stream refused:
	// it is not stored.
	ErrRejected = errors.New("the journal refused the entry")
	// ErrRestoredJournal says that the stream is not the one that was applied.
	ErrRestoredJournal = errors.New("the journal was restored from a backup, made anew, or damaged: changes that were acknowledged are missing in it")
	// ErrNewer, returned by Restore, stops the journal: a snapshot was written by a
	// later version, and what is older than it must not be gone on from by this one.
	ErrNewer = errors.New("a later version of presenced is needed")
	// ErrRebuild, returned by Apply, has the state restored and the entry applied
	// again.
	ErrRebuild = errors.New("the state must be built anew")
	// ErrStopped refuses a command after Run has ended.
	ErrStopped = errors.New("the journal is stopped")
)

// Config is what a journal needs. W is what the caller of Submit wants to get
// back with its command's entry.
type Config[W any] struct {
	JetStream jetstream.JetStream
	Stream    string // default DefaultStream
	Bucket    string // default DefaultBucket
	Replicas  int    // of a stream that is created; default 1
	Instance  string // a new one for every start
	Head      string // path of a file beside the store, see head; none by default
	Logger    *slog.Logger

	// Genesis are the commands of the very first entry, with the epoch that it
	// gives to a new journal.
	Genesis []entry.Command
	Epoch   string

	// Stamp fills in the header's Epoch, LeaseClock and AnnouncedThrough when an entry
	// is packed. arrived is when the request came that has waited longest, now where
	// nobody waits. It is called on the appending goroutine.
	Stamp func(h *entry.Header, arrived time.Time)
	// Apply is called for every entry of the journal in order, on one
	// goroutine. An error stops the journal before the entry. The entry and
	// the batch are valid during the call only.
	Apply func(Applied[W]) error
	// Restore replaces the state by that of a snapshot whose blocks next returns
	// and returns its position. It calls progress now and then. Where it fails
	// the state is not used before another Restore or Reset. Reset replaces it
	// by an empty one as of a position. Both are called where Apply is.
	Restore func(next func() ([]byte, error), progress func(done, total int)) (uint64, error)
	Reset   func(position uint64)
	// Snapshot begins one. It is called where Apply is.
	Snapshot func() Snapshot
	// Rank is the instance's place among those that append, from 0: the first
	// takes the snapshots. ok is false while it has none. Default: 0.
	Rank func() (rank int, ok bool)
	// Alone reports whether no other instance appends, as far as is known. Default: no.
	Alone func() bool
	// Skip are positions that are passed over: Skipped is called in the place
	// of Apply.
	Skip    []uint64
	Skipped func(position uint64, at int64) error
	// NewEpoch has a journal accepted that is not the one that was applied, or
	// whose beginning is lost. A snapshot that does not fit the journal takes its
	// place. BeginEpoch must be called then.
	NewEpoch bool

	// SnapshotBytes and SnapshotEntries are after how much journal a snapshot
	// is due, Keep how old an entry is at least when it is trimmed. Defaults:
	// DefaultSnapshotBytes, DefaultSnapshotEntries, DefaultKeep.
	SnapshotBytes, SnapshotEntries uint64
	Keep                           time.Duration

	// MaxWaiting bounds the callers between Submit and their answer,
	// MaxWaitingBytes their commands, as far as one goes beyond it. Defaults:
	// DefaultMaxWaiting, DefaultMaxWaitingBytes.
	MaxWaiting, MaxWaitingBytes int

	// Failed is called with the callers of an entry that is not going to be
	// applied with them, on any goroutine of Run.
	Failed func(callers []W, err error)
	// Arrived tells when a caller's request arrived, by the monotonic clock. Whoever
	// has waited for more than LateAfter comes back in Failed, in the place of being
	// packed: with ErrRejected, and with ErrRenewalPending where it is a renewal; GiveUp counts from then on. nil: when it is packed.
	Arrived func(caller W) time.Time
}

// Applied is one entry as it is to be applied.
type Applied[W any] struct {
	Entry    *entry.Entry
	Position uint64
	Time     int64 // milliseconds since 1970, by the stream's leader
	// Callers are those of the entry, where this journal packed it; else nil.
	Callers *Callers[W]
}

// Callers are who waits for an entry.
type Callers[W any] struct {
	Commands []W           // one for each of the entry's commands
	Renewals []Renewing[W] // those who want an answer
	Barriers []W           // those who only want the entry applied

	bytes int // of the commands
}

// Renewing is a caller who renewed a lease by its number.
type Renewing[W any] struct {
	Number uint32
	Caller W
}

// Journal is one writer and reader of the stream. Its methods are safe for
// concurrent use.
type Journal[W any] struct {
	cfg    Config[W]
	stream jetstream.Stream
	store  *store
	head   head
	had    uint64                  // position that the journal must have, by the head
	made   bool                    // this instance wrote the first entry
	wanted chan chan begunSnapshot // a snapshot is to begin, and who wants it
	// generation is the highest epoch's that was seen; lost says that the
	// journal's end was reached without the state that it stands for.
	generation uint32
	lost       bool
	damaged    bool // part of it counts for nothing, see BeginEpoch
	// stands says that the state is as of the last position applied; follow's own.
	stands bool
	// shorterSince is since when the stream has been shorter than what was
	// applied; follow's own.
	shorterSince time.Time
	// missing is the position that did not come although the stream says that it
	// has it, and since when; follow's own.
	missing      uint64
	missingSince time.Time
	// replaceWithin is how long the next try to get a consumer may take; follow's own.
	replaceWithin time.Duration
	foreign       foreign
	payload       atomic.Int64 // see Payload
	purged        purged
	watched       watched
	// anewAfter and anewSaid are after which position, and when, it was logged
	// that the journal is followed anew; follow's own.
	anewAfter uint64
	anewSaid  time.Time

	// The constants of these names; tests shorten them.
	attemptTimeout, giveUp, maintainEvery, progressEvery time.Duration

	wake     chan struct{} // something is pending
	caughtUp chan struct{}

	mu       sync.Mutex
	pending  Queue[W]
	waiting  int                     // callers between Submit and their answer
	bytes    int                     // of their commands
	inFlight map[uint64]*inFlight[W] // by sequence: packed, not yet applied
	sequence uint64                  // of the last entry packed
	stopped  bool
	// Of the last entry applied: its position, when that was by the local and by
	// the journal's clock, and its hash; 0: not known.
	applied uint64
	lastAt  time.Time
	wall    int64
	hash    uint64
	target  uint64 // the stream's last position when following began: before it the state is old
	// The last snapshot, what was applied since, since when another is due, and
	// when earlier entries were applied.
	snapshot stored
	since    volume
	dueSince time.Time
	// superseded is what position snapshots shall be of at least; 0: any. See Supersede.
	superseded uint64
	marks      []mark
	progress   Progress
	// Why the last entry was not stored, nil where it was, and when that was
	// logged; since when the one in flight is being published, zero where there
	// is none.
	refused                  error
	refusedSaid, publishedAt time.Time
}

// Open finds the stream or creates it with the first entry in it. It starts
// no goroutine.
func Open[W any](ctx context.Context, cfg Config[W]) (*Journal[W], error) {
	cfg.Stream = cmp.Or(cfg.Stream, DefaultStream)
	cfg.Bucket = cmp.Or(cfg.Bucket, DefaultBucket)
	cfg.Replicas = max(cfg.Replicas, 1)
	cfg.SnapshotBytes = cmp.Or(cfg.SnapshotBytes, DefaultSnapshotBytes)
	cfg.SnapshotEntries = cmp.Or(cfg.SnapshotEntries, DefaultSnapshotEntries)
	cfg.Keep = cmp.Or(cfg.Keep, DefaultKeep)
	cfg.MaxWaiting = cmp.Or(cfg.MaxWaiting, DefaultMaxWaiting)
	cfg.MaxWaitingBytes = cmp.Or(cfg.MaxWaitingBytes, DefaultMaxWaitingBytes)
	if cfg.Rank == nil {
		cfg.Rank = func() (int, bool) { return 0, true }
	}
	if cfg.Alone == nil {
		cfg.Alone = func() bool { return false }
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	j := &Journal[W]{
		cfg:            cfg,
		store:          &store{js: cfg.JetStream, bucket: cfg.Bucket, replicas: cfg.Replicas, stall: storeTimeout},
		wanted:         make(chan chan begunSnapshot),
		attemptTimeout: AttemptTimeout,
		giveUp:         GiveUp,
		maintainEvery:  maintainEvery,
		progressEvery:  progressEvery,
		wake:           make(chan struct{}, 1),
		caughtUp:       make(chan struct{}),
		inFlight:       make(map[uint64]*inFlight[W]),
		lastAt:         time.Now(),
	}
	j.notePayload()
	j.store.payload = j.Payload
	var err error
	if j.head, j.had, err = openHead(cfg.Head); err != nil {
		return nil, err
	}
	if err := j.openStream(ctx); err != nil {
		j.head.close()
		return nil, err
	}
	return j, nil
}

// Run appends and follows until ctx is done, and returns nil then. Any other
// return is an error after which the instance must not go on. It may be called
// once.
func (j *Journal[W]) Run(ctx context.Context) error {
	err := j.runAll(ctx)
	if errors.Is(err, ErrRestoredJournal) {
		return j.rescue(ctx, err)
	}
	return err
}

// runAll runs what a journal consists of until one part fails, and all have ended.
func (j *Journal[W]) runAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return j.follow(ctx) })
	g.Go(func() error {
		// Not when all have ended: the follower may be in the middle of an entry
		// or of a snapshot, and callers should not wait for that.
		defer j.stop()
		return j.append(ctx)
	})
	g.Go(func() error { return j.giveBackOverdue(ctx) })
	g.Go(func() error { return j.maintain(ctx) })
	g.Go(func() error { return j.reportProgress(ctx) })
	g.Go(func() error { return j.keepHead(ctx) })
	return g.Wait()
}

// CaughtUp is closed when everything that the stream held when Run began has
// been applied.
func (j *Journal[W]) CaughtUp() <-chan struct{} { return j.caughtUp }

func (j *Journal[W]) isCaughtUp() bool {
	select {
	case <-j.caughtUp:
		return true
	default:
		return false
	}
}

// SinceApplied returns how long ago the last entry was applied, by the local
// monotonic clock. Entries that are caught up with after an interruption do not
// count, but for the last.
func (j *Journal[W]) SinceApplied() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Since(j.lastAt)
}

// Submit has a command appended. Its caller comes back in Apply, at the
// command's place, or in Failed. The error is ErrFull, ErrTooLarge or ErrStopped; then
// the caller does not come back.
func (j *Journal[W]) Submit(c entry.Command, caller W) error {
	bytes := c.Size()
	if !j.fitsAlone(&c, bytes) {
		return ErrTooLarge
	}
	return j.admit(bytes, func(q *Queue[W]) { q.Command(c, caller) })
}

// Renew has a lease renewed by its number. The caller comes back where answer
// is true. One renewal of a lease is enough for an entry, so those of the same
// lease coalesce, and a renewal is never shed: where too many wait for an answer
// the error is ErrRenewalPending.
func (j *Journal[W]) Renew(number uint32, caller W, answer bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return ErrStopped
	}
	full := j.waiting >= j.cfg.MaxWaiting
	j.pending.Renew(number, caller, answer && !full)
	j.poke()
	if answer && full {
		return ErrRenewalPending
	}
	if answer {
		j.waiting++
	}
	return nil
}

// Barrier has the caller go with the next entry, be it an empty one, and gives it
// back when that is applied: a read of the state is linearizable then. What was
// submitted before may be in a later entry, see Waiting.
func (j *Journal[W]) Barrier(caller W) error {
	return j.admit(0, func(q *Queue[W]) { q.Barrier(caller) })
}

// Waiting returns how many callers of commands, renewals and barriers have not
// come back yet.
func (j *Journal[W]) Waiting() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting
}

// Unpacked reports whether anything waits that is in no entry yet, such as
// reports and renewals that nobody waits for.
func (j *Journal[W]) Unpacked() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.pending.Empty()
}

// Report appends a command that nobody waits for and that must not be refused
// for want of room, such as a closed connection. Where maxReports of them wait,
// it returns ErrFull all the same.
func (j *Journal[W]) Report(c entry.Command) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return ErrStopped
	}
	if err := j.pending.Report(c); err != nil {
		return err
	}
	j.poke()
	return nil
}

// PutBack, called by Apply, has what must not be lost of an entry that counts as
// empty appended with the next one: the reports and renewals of this writer.
func (j *Journal[W]) PutBack(a Applied[W]) {
	if a.Callers == nil { // another's, or put back when it was given up
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending.PutBack(a.Entry, a.Callers)
	if !j.pending.Empty() {
		j.poke()
	}
}

// Tick has an entry appended, be it empty, so that time goes on.
func (j *Journal[W]) Tick() {
	j.mu.Lock()
	j.pending.Tick()
	j.mu.Unlock()
	j.poke()
}

func (j *Journal[W]) admit(bytes int, add func(*Queue[W])) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.stopped:
		return ErrStopped
	case j.waiting >= j.cfg.MaxWaiting, bytes > 0 && j.bytes >= j.cfg.MaxWaitingBytes:
		return ErrFull
	}
	j.waiting++
	j.bytes += bytes
	add(&j.pending)
	j.poke()
	return nil
}

// take makes the next entry of what is pending, and returns nil where nothing is.
func (j *Journal[W]) take() (*entry.Entry, *Callers[W]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending.Bytes = entryBytes(j.Payload())
	e, callers := j.pending.Take()
	if !j.pending.Empty() {
		j.poke()
	}
	return e, callers
}

// giveBackLate answers the callers who have waited for too long. Their commands are dropped.
// Their renewals stay in the queue.
func (j *Journal[W]) giveBackLate() {
	if j.cfg.Arrived == nil {
		return
	}
	before := time.Now().Add(-LateAfter)
	j.mu.Lock()
	callers := j.pending.TakeLate(func(w W) bool { return j.cfg.Arrived(w).Before(before) })
	j.mu.Unlock()
	j.fail(callers, ErrRejected)
}

// poke wakes the appending goroutine.
func (j *Journal[W]) poke() {
	select {
	case j.wake <- struct{}{}:
	default: // it is woken already
	}
}

// stop gives back everybody who still waits.
func (j *Journal[W]) stop() {
	j.mu.Lock()
	j.stopped = true
	batches := j.inFlight
	j.inFlight = map[uint64]*inFlight[W]{}
	j.mu.Unlock()
	for _, b := range batches {
		j.fail(b.callers, ErrOutcomeUnknown)
	}
	for {
		_, callers := j.take()
		if callers == nil {
			return
		}
		j.fail(callers, ErrStopped)
	}
}

func (j *Journal[W]) fail(callers *Callers[W], err error) {
	j.mu.Lock()
	j.release(callers)
	j.mu.Unlock()
	callers.Fail(err, j.cfg.Failed)
}

// release makes room for as many as come back. It needs mu.
func (j *Journal[W]) release(c *Callers[W]) {
	j.waiting -= len(c.Commands) + len(c.Renewals) + len(c.Barriers)
	j.bytes -= c.bytes
}
