package journal

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

// DefaultStream is the stream that holds the journal.
const DefaultStream = "PRESENCE_JOURNAL"

// DefaultMaxWaiting bounds the callers between Submit and their answer. That many are answered in
// about half a second, so it is better to refuse more. DefaultMaxWaitingBytes bounds their
// commands.
const (
	DefaultMaxWaiting      = 1 << 14
	DefaultMaxWaitingBytes = 64 << 20
)

// Config is what a journal needs. W is what Apply and Failed give back of a call of Submit.
type Config[W any] struct {
	JetStream jetstream.JetStream
	Stream    string // default DefaultStream
	Bucket    string // default DefaultBucket
	Replicas  int    // of a stream that is created; default 1
	Instance  string // a new one for every start
	Head      string // path of a file beside the store, see head; none by default
	Logger    *slog.Logger

	// Genesis are the commands of the very first entry. Epoch is what that entry gives to a new
	// journal.
	Genesis []entry.Command
	Epoch   string

	// Stamp fills in the header's Epoch, LeaseClock and AnnouncedThrough when an entry is packed.
	// arrived is when the entry's oldest request arrived, or now if nobody waits. It is called on
	// the appending goroutine.
	Stamp func(h *entry.Header, arrived time.Time)
	// Apply is called for every entry of the journal in order, on one goroutine. If it returns an
	// error, the journal stops before that entry. The entry and its callers are valid during the
	// call only.
	Apply func(Applied[W]) error
	// Restore replaces the state by a snapshot, whose blocks next returns, and returns the
	// snapshot's position. It calls progress now and then. If it fails, the state is not used
	// before the next Restore or Reset. Reset replaces the state by an empty one as of a position.
	// Both are called on the goroutine of Apply.
	Restore func(next func() ([]byte, error), progress func(done, total int)) (uint64, error)
	Reset   func(position uint64)
	// Snapshot begins a snapshot. It is called on the goroutine of Apply.
	Snapshot func() Snapshot
	// Rank is the instance's place among those that append, from 0. The first one takes the
	// snapshots. ok is false while the instance has no place. Default: always 0.
	Rank func() (rank int, ok bool)
	// Alone reports whether no other instance appends, as far as is known. Default: no.
	Alone func() bool
	// Idle reports whether nobody need append for a while. Then silence does not show that the
	// instance is cut off, and the journal asks the stream each second whether it has more. Its
	// server must be the only one, so that the answer is right. Default: no.
	Idle func() bool
	// Skip are positions that are passed over. Skipped is called for them instead of Apply.
	Skip    []uint64
	Skipped func(position uint64, at int64) error
	// NewEpoch accepts a journal that is not the one that was applied, or whose beginning is lost.
	// If a snapshot does not fit the journal, the snapshot is used and not the journal.
	// BeginEpoch must be called then.
	NewEpoch bool

	// A snapshot is due after SnapshotBytes or SnapshotEntries of journal, whichever is first.
	// Entries are trimmed when they are older than Keep. Defaults: DefaultSnapshotBytes,
	// DefaultSnapshotEntries, DefaultKeep.
	SnapshotBytes, SnapshotEntries uint64
	Keep                           time.Duration

	// MaxWaiting bounds the callers between Submit and their answer. MaxWaitingBytes bounds their
	// commands; the last one may exceed it. Defaults: DefaultMaxWaiting, DefaultMaxWaitingBytes.
	MaxWaiting, MaxWaitingBytes int

	// Failed is called with the callers of an entry that will not be applied with them. Any
	// goroutine of Run may call it.
	Failed func(callers []W, err error)
	// Arrived tells when a caller's request arrived, by the monotonic clock. A caller that has
	// waited for more than LateAfter gets Failed instead of being packed: with ErrRejected, or
	// with ErrRenewalPending for a renewal. GiveUp counts from the arrival, too. Without Arrived
	// it counts from when the entry is packed, and nobody is late.
	Arrived func(caller W) time.Time
}

func (c *Config[W]) setDefaults() {
	c.Stream = cmp.Or(c.Stream, DefaultStream)
	c.Bucket = cmp.Or(c.Bucket, DefaultBucket)
	c.Replicas = max(c.Replicas, 1)
	c.SnapshotBytes = cmp.Or(c.SnapshotBytes, DefaultSnapshotBytes)
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, DefaultSnapshotEntries)
	c.Keep = cmp.Or(c.Keep, DefaultKeep)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, DefaultMaxWaiting)
	c.MaxWaitingBytes = cmp.Or(c.MaxWaitingBytes, DefaultMaxWaitingBytes)
	if c.Rank == nil {
		c.Rank = func() (int, bool) { return 0, true }
	}
	if c.Alone == nil {
		c.Alone = func() bool { return false }
	}
	if c.Idle == nil {
		c.Idle = func() bool { return false }
	}
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
}

// Applied is one entry that is to be applied.
type Applied[W any] struct {
	Entry    *entry.Entry
	Position uint64
	Time     int64 // milliseconds since 1970, by the stream's leader
	// Callers wait for the entry. nil if another journal packed it.
	Callers *Callers[W]
}
