package client

import (
	"cmp"
	"log/slog"
	"time"

	"presence/pkg/protocol"
)

// Options configure a Client. The zero value works.
type Options struct {
	// Prefix of all subjects; default protocol.DefaultPrefix.
	Prefix string
	// Timeout is how long one attempt of a request waits for its answer where
	// the context has no earlier deadline; default 5 s.
	Timeout time.Duration
	// Patience is how long a request is tried again, waiting for the connection
	// included, where its context has no deadline; default 30 s, several times
	// as long as a journal in a cluster is without a leader. A context with a
	// deadline decides alone.
	Patience time.Duration
	// Resync is how often everything watched is fetched anew, jittered;
	// default 1 minute.
	Resync time.Duration
	// EventBuffer is how many events may wait to be merged; default 16,384.
	// When it overflows, nats.go drops: the client is blind until it has
	// fetched everything anew.
	EventBuffer int
	// Probe is how long the connection may bring nothing before the broker is asked for a sign of
	// life, by a PING of NATS; default 10 s, jittered. The broker is asked as well when an answer
	// stays away. A PING that is not answered within half of Probe means that the connection is
	// dead, whatever its status: the Client has nats.go make another (nats.Conn.ForceReconnect).
	// That concerns everybody who uses the connection. Negative: the Client never does that. Then a
	// network that forgets connections silently is noticed by the PINGs of nats.go alone: with its
	// defaults after 4 to 6 minutes.
	Probe time.Duration
	// Logger tells what the client recovers from by itself; nil discards.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Prefix = cmp.Or(o.Prefix, protocol.DefaultPrefix)
	o.Timeout = cmp.Or(max(o.Timeout, 0), 5*time.Second)
	o.Patience = cmp.Or(max(o.Patience, 0), 30*time.Second)
	o.Resync = cmp.Or(max(o.Resync, 0), time.Minute)
	o.EventBuffer = cmp.Or(max(o.EventBuffer, 0), 16384)
	o.Probe = cmp.Or(o.Probe, probeDefault)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// LoginOptions say what a session is. The zero value works.
type LoginOptions struct {
	// SessionID resumes the session of that ID; default a new UUID.
	SessionID string
	// Device replaces that device's earlier session.
	Device string
	// Platform as in PROTOCOL 4.1; the service's default is "unknown".
	Platform string
	// TTL in whole seconds, 5 s to 1 h. The default is the service's: 120 s,
	// or 30 s where Unbound, or where the NATS server is one that does not tell the
	// service of broken connections. A program whose timers may stand still needs
	// three times the longest pause: at least 180 s in a hidden browser tab, where
	// they run once a minute.
	TTL time.Duration
	// Idle says that nobody is at the device; SetIdle changes it.
	Idle bool
	// Unbound keeps the session independent of the NATS connection. By default
	// the service learns of a broken connection from the broker and the
	// session is lost after a short grace.
	Unbound bool
}

// request is the login that the options ask for. The session's idleness and connection are those
// of the moment.
func (o *LoginOptions) request(idle bool, connection *protocol.Connection) *protocol.LoginRequest {
	return &protocol.LoginRequest{
		SessionID: o.SessionID, Device: o.Device, Platform: o.Platform, TTLSeconds: ceilSeconds(o.TTL),
		Idle: idle, Connection: connection,
	}
}

// GatewayOptions say what a gateway is. The zero value works.
type GatewayOptions struct {
	// TTL in whole seconds, 5 s to 1 h, is how long the sessions outlive a
	// gateway that has fallen silent. The default is the service's: 30 s.
	TTL time.Duration
	// Unbound keeps the gateway independent of the NATS connection. By default
	// the service learns of a broken connection from the broker and all sessions
	// are lost after a short grace.
	Unbound bool
	// MaxWaiting bounds the changes that wait to be sent; default 65,536. While
	// so many wait, callers wait for room until their context ends.
	MaxWaiting int
	// OnSessionEnded is told of the sessions that could not be logged in again
	// after the lease was lost, and why: protocol.ErrSessionReplaced where the
	// device has logged in elsewhere meanwhile. The Gateway has forgotten them.
	// It is called by one goroutine of the Gateway, in order, and may call the
	// Gateway, except for Close, and the Client, except for Close.
	OnSessionEnded func(userID, sessionID string, err error)
}

// GatewayLogin says what a session is that a gateway logs in. The zero value
// works.
type GatewayLogin struct {
	// Device replaces that device's earlier session.
	Device string
	// Platform as in PROTOCOL 4.1; the service's default is "unknown".
	Platform string
	// Idle says that nobody is at the device; SetIdle changes it.
	Idle bool
}

// A SetOption changes how a custom status or an availability is set.
type SetOption func(*protocol.SetRequest)

// ExpiresIn ends what is set after d: 1 s to 366 days, in whole seconds, rounded
// up. A text is cleared then; without it, it does not expire. An availability is
// an override for so long; without it, it is the lasting value, and ends an
// override.
func ExpiresIn(d time.Duration) SetOption {
	return func(r *protocol.SetRequest) {
		if seconds := protocol.Ptr(ceilSeconds(d)); r.CustomStatus != nil {
			r.ExpiresInSeconds = seconds
		} else {
			r.AvailabilityExpiresInSeconds = seconds
		}
	}
}

// AndAvailability has a text and an availability set by one change: as an
// override for d, or the lasting value where d is 0.
//
//	session.SetSelfStatus(ctx, "in a meeting", client.ExpiresIn(time.Hour), client.AndAvailability(protocol.Busy, time.Hour))
func AndAvailability(a protocol.Availability, d time.Duration) SetOption {
	return func(r *protocol.SetRequest) {
		r.Availability = &a
		if d != 0 {
			r.AvailabilityExpiresInSeconds = protocol.Ptr(ceilSeconds(d))
		}
	}
}

// IfRevision refuses the change with protocol.ErrRevisionConflict unless the
// user's status, in the owner's view, has this revision.
func IfRevision(revision uint64) SetOption {
	return func(r *protocol.SetRequest) { r.IfRevision = protocol.Ptr(revision) }
}

// IfSession refuses the change with protocol.ErrSessionNotFound unless the user
// has a live session of this ID. A Session does that by itself.
func IfSession(sessionID string) SetOption {
	return func(r *protocol.SetRequest) { r.SessionID = sessionID }
}

// A GetOption changes how statuses are asked for.
type GetOption func(*query)

// Fresh makes the get linearizable: it shows every change that was
// acknowledged to anybody before it was asked. It costs a journal entry.
func Fresh() GetOption { return func(q *query) { q.fresh = true } }

// Detail adds the platforms of live sessions.
func Detail() GetOption { return func(q *query) { q.detail = true } }

func ceilSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
