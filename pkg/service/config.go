package service

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/internal/journal"
)

// Policies of the custom status (PROTOCOL 3).
const (
	// PolicySession clears the text when the user stops being ONLINE.
	PolicySession = "session"
	// PolicyPersistent keeps it until it is cleared or expires.
	PolicyPersistent = "persistent"
)

// Defaults of how the journal is kept.
const (
	DefaultSnapshotEntries = journal.DefaultSnapshotEntries
	DefaultJournalKeep     = journal.DefaultKeep
)

// Config is what a Service needs. Clients and Journal are required; every other
// field has a default. The connections belong to whoever opened them and should
// have MaxReconnects(-1).
type Config struct {
	// Clients is a connection in the clients' account, on which requests arrive.
	// Journal is one in the account that holds the journal's stream, which
	// clients must not be able to enter. System is one in the system account;
	// without it sessions end by their TTL only.
	Clients, Journal, System *nats.Conn
	// Answers is a second connection in the clients' account, on which replies and events
	// leave. Default: Clients. With a second connection, the user of Clients can be denied to
	// publish events and requests, and the broker need not check permissions for every reply
	// and event.
	//
	// It should be on the same server as Clients, and follow it over reconnects. If it is on
	// another server, or is lost, replies leave by Clients. So the user of Clients must be
	// allowed to publish them. While it is lost, no requests are taken.
	Answers *nats.Conn
	// ClientsAccount is the name of the clients' account as the system account
	// sees it. Default "APP".
	ClientsAccount string
	// Prefix begins every subject. Default protocol.DefaultPrefix.
	Prefix string
	// Stream holds the journal. Default PRESENCE_JOURNAL.
	Stream string
	// Snapshots is the object store that holds the snapshots of the state. Default
	// PRESENCE_SNAPSHOTS.
	Snapshots string
	// Contacts is the KV bucket that holds the contacts. Default PRESENCE_CONTACTS.
	Contacts string
	// Replicas is how many replicas all three have, if this instance creates them. Default 1.
	Replicas int
	// Head is the path of a file in which the journal's end is noted. It is for an instance that
	// has a NATS server of its own, and lies beside that server's store. So the instance notices
	// a store that lost entries. Default: none.
	Head string
	// Alone says that the journal is kept by one NATS server, which starts and stops with this
	// instance. Then every start begins a new epoch. Nothing else tells whether the store was
	// put back to an earlier state while it was stopped, and the clients have lost their
	// connections in any case.
	Alone bool
	// Heard reports whether anybody in the clients' account subscribes to a subject. A subscription
	// counts from before the subscriber's next message is read. Any goroutine calls it, and it does
	// not wait. With it, events that nobody would get are not sent. Default: every one is sent.
	Heard func(subject string) bool
	// Server tells how the NATS server in this process is doing. One goroutine calls it every few
	// seconds, and it may take its time. Default: there is no server in this process.
	Server func() (protocol.ServerVitals, error)
	// SnapshotBytes and SnapshotEntries say after how much journal the state is stored,
	// whichever is first. Defaults: 32 MiB more than the last snapshot has, and 65,536 entries.
	SnapshotBytes, SnapshotEntries uint64
	// JournalKeep is how long an entry is kept at least. Default 10 min.
	JournalKeep time.Duration
	// Skip are positions of journal entries that are left out because they cannot be applied.
	// Every instance must have the same.
	Skip []uint64
	// NewEpoch accepts a journal that was restored from a backup, or made anew, or whose
	// beginning is lost. It begins a new epoch at the journal's end. Set it once, for one
	// instance, while no other runs.
	NewEpoch bool

	// The following rules are written into the journal. Those of the instance that started last
	// are in force for all.

	// Grace is how long a session outlives its closed connection. Default 5 s,
	// at most an hour.
	Grace time.Duration
	// MaxGrace is the longest grace that a session or a gateway gets, whatever it chose: 1 s to
	// 300 s. Default 60 s. Where Grace is longer, that is the longest. Closed
	// connections are remembered for 60 s more than the longest grace.
	MaxGrace time.Duration
	// Retention is how long lost sessions and users with nothing else to
	// remember are kept. Default 7 days, at least a minute.
	Retention time.Duration
	// CustomStatusPolicy is PolicySession (the default) or PolicyPersistent.
	CustomStatusPolicy string

	// Limits bound what this instance takes.
	Limits Limits
	// FriendNotifications tells clients to watch their user's contacts by
	// themselves (PROTOCOL 4.6).
	FriendNotifications bool
	// Host is this instance's name for people: 1 to protocol.MaxHostBytes of UTF-8. Every
	// instance knows it. Default: the name of this machine.
	Host string
	// Version is a semantic version. It is shown by "nats service info", and beside Host.
	// Default "0.0.0".
	Version string
	// Logger gets the log. Default: none.
	Logger *slog.Logger
}

// Check returns what is wrong with the configuration, connections aside: New
// would refuse it.
func (c Config) Check() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults returns the configuration with all defaults, or an error that says what is wrong.
func (c Config) withDefaults() (Config, error) {
	c.Answers = cmp.Or(c.Answers, c.Clients)
	c.ClientsAccount = cmp.Or(c.ClientsAccount, "APP")
	c.Prefix = cmp.Or(c.Prefix, protocol.DefaultPrefix)
	c.Stream = cmp.Or(c.Stream, journal.DefaultStream)
	c.Snapshots = cmp.Or(c.Snapshots, journal.DefaultBucket)
	c.Contacts = cmp.Or(c.Contacts, contacts.DefaultBucket)
	c.Replicas = cmp.Or(c.Replicas, 1)
	c.SnapshotBytes = cmp.Or(c.SnapshotBytes, journal.DefaultSnapshotBytes)
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, journal.DefaultSnapshotEntries)
	c.JournalKeep = cmp.Or(c.JournalKeep, journal.DefaultKeep)
	c.Grace = cmp.Or(c.Grace, protocol.DefaultGrace)
	c.MaxGrace = cmp.Or(c.MaxGrace, protocol.DefaultMaxGrace)
	c.Retention = cmp.Or(c.Retention, protocol.DefaultRetention)
	c.CustomStatusPolicy = cmp.Or(c.CustomStatusPolicy, PolicySession)
	c.Version = cmp.Or(c.Version, "0.0.0")
	c.Host = cmp.Or(c.Host, DefaultHost())
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if err := protocol.CheckPrefix(c.Prefix); err != nil {
		return c, err
	}
	if err := protocol.CheckHost(c.Host); err != nil {
		return c, err
	}
	switch {
	case c.Grace < time.Millisecond || c.Grace > time.Hour:
		return c, fmt.Errorf("the grace must be 1ms to 1h, not %v", c.Grace)
	case c.MaxGrace < protocol.MinGrace || c.MaxGrace > protocol.MaxGrace:
		return c, fmt.Errorf("the longest grace must be %v to %v, not %v", protocol.MinGrace, protocol.MaxGrace, c.MaxGrace)
	case c.Retention < time.Minute:
		return c, fmt.Errorf("the retention must be at least 1m, not %v", c.Retention)
	case c.CustomStatusPolicy != PolicySession && c.CustomStatusPolicy != PolicyPersistent:
		return c, fmt.Errorf("the custom status policy must be %q or %q, not %q", PolicySession, PolicyPersistent, c.CustomStatusPolicy)
	case c.JournalKeep < 0:
		return c, fmt.Errorf("journal entries cannot be kept for %v", c.JournalKeep)
	case c.Replicas < 1 || c.Replicas > 5:
		return c, fmt.Errorf("the journal must have 1 to 5 replicas, not %d", c.Replicas)
	}
	return c, c.Limits.complete()
}

// DefaultHost is the name of this machine, cut to what an instance's name may have, or "unknown".
func DefaultHost() string {
	name, err := os.Hostname()
	if name = strings.ToValidUTF8(name[:min(len(name), protocol.MaxHostBytes)], ""); err != nil || protocol.CheckHost(name) != nil {
		return "unknown"
	}
	return name
}

// newInstanceID returns an ID for this start of the instance.
func (c *Config) newInstanceID() string {
	start := strings.ReplaceAll(uuid.NewString(), "-", "")
	return protocol.InstanceID{Host: c.Host, Version: c.Version, Start: start[:startDigits]}.String()
}

// startDigits is how many hex digits tell starts apart. They have 62 random bits, so no two
// starts have the same.
const startDigits = 16

// params returns the rules that go into the journal.
func (c *Config) params() entry.Params {
	return entry.Params{
		Grace:      c.Grace.Milliseconds(),
		MaxGrace:   c.MaxGrace.Milliseconds(),
		Retention:  c.Retention.Milliseconds(),
		Persistent: c.CustomStatusPolicy == PolicyPersistent,
		Sessions:   c.Limits.SessionsPerUser,
	}
}
