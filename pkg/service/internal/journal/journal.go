// Package journal keeps the entries of a replicated state machine in a JetStream stream. It packs
// commands into entries, appends them, and follows the stream in order. It does not know what the
// commands mean.
//
//	j, err := journal.Open(ctx, journal.Config[*caller]{
//		JetStream: js, Instance: id, Stamp: …, Apply: …, Failed: …,
//	})
//	go j.Run(ctx)
//	<-j.CaughtUp()
//	err = j.Submit(command, caller)   // → Apply with the caller, or Failed
//
// The stream is Config.Stream (PRESENCE_JOURNAL). Its one subject is that name followed by
// ".entries". Each message is one entry of package entry, and its stream sequence is the entry's
// position. Nobody else may write there. Where somebody adds a subject to the stream, the messages
// on it are passed over.
//
//   - Packing: one entry of this instance is in flight at a time. What is submitted meanwhile goes
//     into the next one. Only under load an entry waits for more commands, for gatherWithin.
//   - Ordering: Apply is called for every position once, in order, on one goroutine.
//   - Loss: an entry is published again, unchanged, until it is acknowledged or GiveUp has passed
//     since its oldest request arrived. Then its callers get Failed with ErrOutcomeUnknown,
//     because it may still be stored. So an entry may be stored twice, or late. Apply must ignore
//     such an entry; the header has what it takes to recognize one.
//   - Snapshots: now and then the state is stored in the object store Config.Bucket
//     (PRESENCE_SNAPSHOTS), while entries go on being applied. The journal is trimmed behind the
//     older of the last two. A start restores the newest snapshot that can be read, and applies
//     the entries behind it. An instance does the same if it was away for so long that its next
//     entry is gone.
//   - Operators may change the stream or the snapshots while the journal is followed. That is
//     noticed within seconds, see Wrong. A missing snapshot is stored. What cannot be repaired
//     from here is reported.
//   - A journal that was restored from a backup or made anew is not the one that was applied. It
//     stops the instance, which first stores what it has applied, see rescue. Only a start with
//     Config.NewEpoch goes on.
//   - Bounds: at most Config.MaxWaiting callers wait for an answer, with commands of at most
//     Config.MaxWaitingBytes. More are refused with ErrFull. An entry has about MaxBytes bytes at
//     most, and no more than the server takes.
package journal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"presence/pkg/service/internal/histogram"
)

var (
	// ErrFull refuses a command because too many wait. Nothing was done.
	ErrFull = errors.New("the journal's queue is full")
	// ErrRenewalPending is given to the caller of a renewal that is not answered now. The renewal
	// stays in the queue, and is done with a later entry.
	ErrRenewalPending = errors.New("the renewal is done with a later journal entry")
	// ErrOutcomeUnknown is given to the callers of an entry that was not acknowledged in time. It
	// may still be stored.
	ErrOutcomeUnknown = errors.New("the journal entry was not acknowledged in time")
	// ErrRejected is given to the callers of an entry that the stream refused. It is not stored.
	ErrRejected = errors.New("the journal refused the entry")
	// ErrRestoredJournal says that the stream is not the one that was applied.
	ErrRestoredJournal = errors.New("the journal was restored from a backup, made anew, or damaged: changes that were acknowledged are missing in it")
	// ErrNewer, returned by Restore, stops the journal: a later version wrote the snapshot. To go
	// on from an older snapshot would be wrong.
	ErrNewer = errors.New("a later version of presenced is needed")
	// ErrRebuild, returned by Apply, has the state restored and the entry applied again.
	ErrRebuild = errors.New("the state must be built anew")
	// ErrStopped refuses a command after Run has ended.
	ErrStopped = errors.New("the journal is stopped")
)

// Journal appends to the stream and follows it, for one instance. Its methods are safe for
// concurrent use.
type Journal[W any] struct {
	cfg    Config[W]
	stream jetstream.Stream
	store  *store
	head   head
	// headPosition is what the head file said at the start. The journal must have that position.
	headPosition uint64
	made         bool // this instance wrote the first entry
	// snapshotRequests are channels by which maintain wants to get a snapshot, begun between two
	// entries.
	snapshotRequests chan chan begunSnapshot
	// generation is the highest generation of an epoch that was seen.
	generation uint32
	// stateLost says that the journal's end was reached without the state that belongs to it.
	// damaged says that a part of the journal is not used, see BeginEpoch.
	stateLost, damaged bool

	// append alone uses these:

	lastCommands int    // of the last entry packed
	encoded      []byte // the last entry; publishing copies it

	// follow alone uses these:

	stateValid   bool      // the state is as of the last position applied
	shorterSince time.Time // since when the stream has been shorter than what was applied
	// missing is a position that did not come although the stream says that it has it.
	missing       uint64
	missingSince  time.Time
	replaceWithin time.Duration // how long the next attempt to get a consumer may take
	foreign       foreign
	purged        purged
	// retryPosition and retryLogged are where, and when, it was last logged that the journal is
	// followed anew.
	retryPosition uint64
	retryLogged   time.Time

	payload           atomic.Int64 // see Payload
	appended, applies histogram.Histogram
	watched           watched

	opened time.Time // by Open

	// The constants of these names. Tests shorten them.
	attemptTimeout, giveUp, maintainEvery, progressEvery, gatherWithin time.Duration

	wake     chan struct{} // something is pending
	headDue  chan struct{} // something was applied
	called   chan struct{} // somebody waits for an entry
	caughtUp chan struct{}

	mu      sync.Mutex // guards what follows
	pending Queue[W]
	many    int // see callAt; 0 but while gatherMany waits
	waiting int // callers between Submit and their answer
	bytes   int // of their commands
	// maxWaiting and maxBytes bound both: Config's, until SetLimits.
	maxWaiting, maxBytes int
	inFlight             map[uint64]*inFlight[W] // by sequence: packed, not yet applied
	sequence             uint64                  // of the last entry packed
	stopped              bool
	// Of the last entry applied: its position, when it was applied by the local clock, its time
	// by the journal's clock, and its hash. hash is 0 where it is not known.
	applied uint64
	lastAt  time.Time
	// currentAt is when the stream last said that it has no more entries while Config.Idle held.
	currentAt time.Time
	wall      int64
	hash      uint64
	target    uint64 // the stream's last position when following began; before it the state is old
	// The last snapshot, how much was applied since, and since when another is due.
	snapshot stored
	since    volume
	dueSince time.Time
	// superseded is a position that the kept snapshots must have reached; 0: any. See Supersede.
	superseded uint64
	marks      []mark // when earlier entries were applied
	progress   Progress
	// refused is why the last entry was not stored, nil where it was. refusedLogged is when that
	// was last logged. publishedAt is when the entry in flight was first published, zero where
	// there is none.
	refused                    error
	refusedLogged, publishedAt time.Time
}

// Open finds the stream, or creates it with the first entry in it. It starts no goroutine.
func Open[W any](ctx context.Context, cfg Config[W]) (*Journal[W], error) {
	cfg.setDefaults()
	j := &Journal[W]{
		cfg:              cfg,
		store:            &store{js: cfg.JetStream, bucket: cfg.Bucket, replicas: cfg.Replicas, stall: storeTimeout},
		snapshotRequests: make(chan chan begunSnapshot),
		attemptTimeout:   AttemptTimeout,
		giveUp:           GiveUp,
		maintainEvery:    maintainEvery,
		progressEvery:    progressEvery,
		gatherWithin:     gatherWithin,
		wake:             make(chan struct{}, 1),
		headDue:          make(chan struct{}, 1),
		called:           make(chan struct{}, 1),
		caughtUp:         make(chan struct{}),
		inFlight:         make(map[uint64]*inFlight[W]),
		lastAt:           time.Now(),
		maxWaiting:       cfg.MaxWaiting,
		maxBytes:         cfg.MaxWaitingBytes,
		opened:           time.Now(),
	}
	j.notePayload()
	j.store.payload = j.Payload
	var err error
	if j.head, j.headPosition, err = openHead(cfg.Head); err != nil {
		return nil, err
	}
	if err := j.openStream(ctx); err != nil {
		j.head.close()
		return nil, err
	}
	return j, nil
}

// Run appends and follows until ctx is done. Then it returns nil. If it returns an error, the
// instance must not go on. It may be called once.
func (j *Journal[W]) Run(ctx context.Context) error {
	err := j.runAll(ctx)
	if errors.Is(err, ErrRestoredJournal) {
		return j.rescue(ctx, err)
	}
	return err
}

// runAll runs the goroutines of the journal until one of them fails, and waits for all.
func (j *Journal[W]) runAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return j.follow(ctx) })
	g.Go(func() error {
		// At once: the follower may be in the middle of an entry or of a snapshot, and
		// callers should not wait for that.
		defer j.stop()
		return j.append(ctx)
	})
	g.Go(func() error { return j.failOverdue(ctx) })
	g.Go(func() error { return j.maintain(ctx) })
	g.Go(func() error { return j.reportProgress(ctx) })
	g.Go(func() error { return j.keepHead(ctx) })
	return g.Wait()
}

// CaughtUp is closed when everything is applied that the stream held when Run began.
func (j *Journal[W]) CaughtUp() <-chan struct{} { return j.caughtUp }

func (j *Journal[W]) isCaughtUp() bool {
	select {
	case <-j.caughtUp:
		return true
	default:
		return false
	}
}

// SinceCurrent returns how long ago the state was last known to be as of the journal's end: an entry
// was applied, or while Config.Idle holds the stream said that it has no more.
func (j *Journal[W]) SinceCurrent() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.currentAt.After(j.lastAt) {
		return time.Since(j.currentAt)
	}
	return time.Since(j.lastAt)
}

// SinceApplied returns how long ago the last entry was applied, by the local monotonic clock.
// After an interruption it is the last of the missed entries that counts.
func (j *Journal[W]) SinceApplied() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Since(j.lastAt)
}
