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
	// Timeout is how long one attempt of a request waits for its answer, unless the
	// context ends earlier; default 5 s.
	Timeout time.Duration
	// Patience is how long a request is tried again, waiting for the connection
	// included, if its context has no deadline; default 30 s, several times as long
	// as a journal in a cluster has no leader. If the context has a deadline, only
	// that counts.
	Patience time.Duration
	// Resync is how often everything watched is fetched anew, jittered;
	// default 1 minute.
	Resync time.Duration
	// EventBuffer is how many events may wait to be merged; default 16,384. If there
	// are more, nats.go drops them, and the client is blind until it has fetched
	// everything anew.
	EventBuffer int
	// Probe is how long the connection may bring nothing before the broker is asked for a sign of
	// life, by a PING of NATS; default 10 s, jittered. The broker is also asked when an answer does
	// not come. A connection without an answer to the PING within half of Probe is dead, whatever
	// its status: the Client makes nats.go connect again (nats.Conn.ForceReconnect), for all users
	// of the connection. If Probe is negative the Client never does that. Then only the PINGs of
	// nats.go notice a network that forgets connections silently: with its defaults after 4 to 6
	// minutes.
	Probe time.Duration
	// Logger gets what the client recovers from by itself; nil discards it.
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

// LoginOptions describe a session. The zero value works.
type LoginOptions struct {
	// SessionID resumes the session of that ID; default a new UUID.
	SessionID string
	// Device replaces that device's earlier session.
	Device string
	// Platform as in PROTOCOL 4.1; the service's default is "unknown".
	Platform string
	// TTL in whole seconds, 5 s to 1 h. The default is the service's: 120 s, or 30 s
	// if Unbound, or if the NATS server does not report broken connections to the
	// service. If the program's timers may stand still, the TTL must be three times
	// the longest pause: at least 180 s in a hidden browser tab, where timers run once
	// a minute.
	TTL time.Duration
	// Grace in whole seconds, 1 s to 5 min, is how long the session outlives its broken
	// connection. The operator may allow less, 1 min unless configured: then it is as much.
	// The default is the service's: 5 s unless configured. A new connection is there about
	// 1 to 2 s after the network is, so with less than 3 s everybody may see a reconnect. A
	// TTL that is left out is long enough for the grace.
	Grace time.Duration
	// Idle says that nobody is at the device; SetIdle changes it.
	Idle bool
	// Unbound keeps the session independent of the NATS connection. By default
	// the service learns of a broken connection from the broker, and the
	// session is lost after its grace.
	Unbound bool
}

// request returns the login that the options ask for, with the session's current idleness and
// connection.
func (o *LoginOptions) request(idle bool, connection *protocol.Connection) *protocol.LoginRequest {
	return &protocol.LoginRequest{
		SessionID: o.SessionID, Device: o.Device, Platform: o.Platform, TTLSeconds: ceilSeconds(o.TTL), GraceSeconds: ceilSeconds(o.Grace),
		Idle: idle, Connection: connection,
	}
}

// GatewayOptions describe a gateway. The zero value works.
type GatewayOptions struct {
	// TTL in whole seconds, 5 s to 1 h, is how long the sessions live on when the
	// gateway has fallen silent. The default is the service's: 30 s.
	TTL time.Duration
	// Grace is how long they outlive the gateway's broken connection, as in LoginOptions.
	Grace time.Duration
	// Unbound keeps the gateway independent of the NATS connection. By default
	// the service learns of a broken connection from the broker, and all sessions
	// are lost after the grace.
	Unbound bool
	// MaxWaiting bounds the changes that wait to be sent; default 65,536. While so many
	// wait, callers wait for room until their context ends.
	MaxWaiting int
	// OnSessionEnded is called for each session that could not be logged in again
	// after the lease was lost, with the reason: protocol.ErrSessionReplaced if the
	// device has logged in elsewhere meanwhile. The Gateway has forgotten the session.
	// One goroutine of the Gateway calls it, in order. It may call the Gateway and the
	// Client, but not their Close.
	OnSessionEnded func(userID, sessionID string, err error)
}

// request is the open that the options ask for.
func (o *GatewayOptions) request(process string, connection *protocol.Connection) *protocol.OpenRequest {
	return &protocol.OpenRequest{Process: process, TTLSeconds: ceilSeconds(o.TTL), GraceSeconds: ceilSeconds(o.Grace), Connection: connection}
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

// ExpiresIn limits what is set to d: 1 s to 366 days, rounded up to whole seconds. A text
// is cleared after d; without ExpiresIn it does not expire. An availability is an override
// for d; without ExpiresIn it is the lasting value, and ends an override.
func ExpiresIn(d time.Duration) SetOption {
	return func(r *protocol.SetRequest) {
		if seconds := protocol.Ptr(ceilSeconds(d)); r.CustomStatus != nil {
			r.ExpiresInSeconds = seconds
		} else {
			r.AvailabilityExpiresInSeconds = seconds
		}
	}
}

// AndAvailability sets an availability together with a text, by one change: as an override
// for d or, if d is 0, as the lasting value.
//
//	session.SetSelfStatus(ctx, "in a meeting",
//		client.ExpiresIn(time.Hour), client.AndAvailability(protocol.Busy, time.Hour))
func AndAvailability(a protocol.Availability, d time.Duration) SetOption {
	return func(r *protocol.SetRequest) {
		r.Availability = &a
		if d != 0 {
			r.AvailabilityExpiresInSeconds = protocol.Ptr(ceilSeconds(d))
		}
	}
}

// IfRevision makes the change fail with protocol.ErrRevisionConflict unless the user's
// status, in the owner's view, has this revision.
func IfRevision(revision uint64) SetOption {
	return func(r *protocol.SetRequest) { r.IfRevision = protocol.Ptr(revision) }
}

// IfSession makes the change fail with protocol.ErrSessionNotFound unless the user has a
// live session with this ID. A Session does that by itself.
func IfSession(sessionID string) SetOption {
	return func(r *protocol.SetRequest) { r.SessionID = sessionID }
}

// A GetOption changes how statuses are asked for.
type GetOption func(*query)

// Fresh makes the get linearizable: it includes every change that was acknowledged to
// anybody before the get was sent. It costs a journal entry.
func Fresh() GetOption { return func(q *query) { q.fresh = true } }

// Detail adds the platforms of live sessions.
func Detail() GetOption { return func(q *query) { q.detail = true } }

func ceilSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
