package api

import (
	"cmp"
	"time"

	"github.com/google/uuid"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// A change has two halves in this file. A function makes a command of the request, which was
// checked before. A method of Replies makes a reply of the command's result.

// Login opens or resumes a session of a user (PROTOCOL 4.1). reports says that the server of the
// request's connection reports closed connections: then the default TTL is longer.
func Login(user string, r *protocol.LoginRequest, reports bool) entry.Command {
	c := entry.Command{
		Kind: entry.Login, User: user, Session: r.SessionID,
		Device: r.Device, Platform: platform(r.Platform), Idle: r.Idle,
	}
	if c.Session == "" {
		c.Session = uuid.NewString()
	}
	bind(&c, r.Connection)
	ttl := protocol.DefaultTTL
	if c.Server != "" && reports {
		ttl = protocol.DefaultBoundTTL
	}
	chooseTerms(&c, r.TTLSeconds, r.GraceSeconds, ttl)
	return c
}

func platform(name string) string { return cmp.Or(name, "unknown") }

// chooseTerms fills in the terms of a lease. 0 stands for what is left out. With a connection and a
// grace the TTL is such that a lease that is renewed every third of its TTL lasts for the whole grace.
func chooseTerms(c *entry.Command, ttlSeconds, graceSeconds int64, ttl time.Duration) {
	grace := time.Duration(graceSeconds) * time.Second
	switch {
	case ttlSeconds > 0:
		ttl = time.Duration(ttlSeconds) * time.Second
	case grace > 0 && c.Server != "":
		ttl = max(ttl, grace+time.Minute, grace*3/2)
	}
	c.TTL, c.Grace = uint32(ttl.Milliseconds()), uint32(grace.Milliseconds())
}

func milliseconds(seconds int64) int64 { return seconds * 1000 }

func bind(c *entry.Command, to *protocol.Connection) {
	if to != nil {
		c.Server, c.Client = to.ServerID, to.ClientID
	}
}

// Renew extends a session's lease (PROTOCOL 4.2).
func Renew(user string, r *protocol.RenewRequest) entry.Command {
	c := entry.Command{Kind: entry.Renew, User: user, Session: r.SessionID}
	if r.Idle != nil {
		c.SetIdle, c.Idle = true, *r.Idle
	}
	return c
}

// Logout ends one session of a user, or all (PROTOCOL 4.3).
func Logout(user string, r *protocol.LogoutRequest) entry.Command {
	return entry.Command{Kind: entry.Logout, User: user, Session: r.SessionID, Final: r.Final, All: r.All}
}

// availabilities are the journal's numbers of the wire's names.
var availabilities = map[protocol.Availability]entry.Availability{
	protocol.Available: entry.Available,
	protocol.Away:      entry.Away,
	protocol.Busy:      entry.Busy,
	protocol.DND:       entry.DND,
	protocol.Invisible: entry.Invisible,
}

// Set changes what a user says of oneself (PROTOCOL 4.4).
func Set(user string, r *protocol.SetRequest) entry.Command {
	c := entry.Command{Kind: entry.Set, User: user, Session: r.SessionID, KeepText: r.CustomStatus == nil}
	if r.CustomStatus != nil {
		c.Text = *r.CustomStatus
	}
	if r.ExpiresInSeconds != nil {
		c.Expires = milliseconds(*r.ExpiresInSeconds)
	}
	if r.Availability != nil {
		c.Availability = availabilities[*r.Availability]
	}
	if r.AvailabilityExpiresInSeconds != nil {
		c.Override = milliseconds(*r.AvailabilityExpiresInSeconds)
	}
	if r.IfRevision != nil {
		c.CheckRevision, c.IfRevision = true, *r.IfRevision
	}
	return c
}

// Open opens or resumes a gateway's lease (PROTOCOL 4.7).
func Open(gateway string, r *protocol.OpenRequest) entry.Command {
	c := entry.Command{Kind: entry.Open, Gateway: gateway, Process: r.Process}
	bind(&c, r.Connection)
	chooseTerms(&c, r.TTLSeconds, r.GraceSeconds, protocol.DefaultTTL)
	return c
}

// RenewGateway extends a gateway's lease (PROTOCOL 4.7).
func RenewGateway(gateway string, r *protocol.LeaseRequest) entry.Command {
	return entry.Command{Kind: entry.RenewGateway, Gateway: gateway, Process: r.Process}
}

// Close ends a gateway's lease (PROTOCOL 4.7).
func Close(gateway string, r *protocol.CloseRequest) entry.Command {
	return entry.Command{Kind: entry.Close, Gateway: gateway, Process: r.Process, All: r.Logout}
}

// Kick ends one session of a user, or all (PROTOCOL 4.8).
func Kick(r *protocol.KickRequest) entry.Command {
	return entry.Command{Kind: entry.Kick, User: r.UserID, Session: r.SessionID, All: r.SessionID == ""}
}

// Erase forgets a user (PROTOCOL 4.8). Contacts are not in the journal: the caller erases them.
func Erase(r *protocol.EraseRequest) entry.Command {
	return entry.Command{Kind: entry.Erase, User: r.UserID}
}

// Replies answer changes.
type Replies struct{ Epoch string }

// RepliesOf answers changes of a state.
func RepliesOf(s *state.State) Replies { return Replies{Epoch: s.Epoch()} }

// Login answers a login.
func (a Replies) Login(r *state.Result) protocol.LoginReply {
	return protocol.LoginReply{
		SessionID: r.Session, TTLSeconds: r.TTL / 1000, GraceSeconds: seconds(r.Grace), Replaced: r.Replaced,
		Status: r.Status, Revision: r.Revision, Epoch: a.Epoch,
	}
}

// Change answers a renew, a logout and a set.
func (a Replies) Change(r *state.Result) *protocol.ChangeReply {
	return &protocol.ChangeReply{Status: r.Status, Revision: r.Revision, Epoch: a.Epoch, Final: r.Final}
}

// Lease answers a gateway's open, renew and close.
func (a Replies) Lease(r *state.Result) protocol.LeaseReply {
	return protocol.LeaseReply{TTLSeconds: r.TTL / 1000, GraceSeconds: seconds(r.Grace), Seq: r.Seq, Window: r.Window, Revision: r.Revision, Epoch: a.Epoch}
}

// Ended answers a kick and an erase.
func (a Replies) Ended(r *state.Result) *protocol.KickReply {
	return &protocol.KickReply{Ended: list(r.Ended), Revision: r.Revision, Epoch: a.Epoch}
}

// list returns a list that is not null on the wire.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func seconds(milliseconds int64) float64 { return float64(milliseconds) / 1000 }
