package api

import (
	"cmp"

	"github.com/google/uuid"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// The functions of this file make commands of requests that were checked.

// Login opens or resumes a session of a user (PROTOCOL 4.1). reports says that the server of the
// request's connection reports closed connections: then the default TTL is longer.
func Login(user string, r *protocol.LoginRequest, reports bool) entry.Command {
	c := entry.Command{
		Kind: entry.Login, User: user, Session: r.SessionID,
		Device: r.Device, Platform: platform(r.Platform), Idle: r.Idle,
		TTL: ttl(r.TTLSeconds),
	}
	if c.Session == "" {
		c.Session = uuid.NewString()
	}
	bind(&c, r.Connection)
	if c.Server != "" && reports && r.TTLSeconds == 0 {
		c.TTL = uint32(protocol.DefaultBoundTTL.Milliseconds())
	}
	return c
}

func platform(name string) string { return cmp.Or(name, "unknown") }

// ttl is a TTL in milliseconds; 0 seconds stand for the default.
func ttl(seconds int64) uint32 {
	return cmp.Or(uint32(milliseconds(seconds)), uint32(protocol.DefaultTTL.Milliseconds()))
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
	return entry.Command{Kind: entry.Logout, User: user, Session: r.SessionID, All: r.All}
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
	c := entry.Command{Kind: entry.Open, Gateway: gateway, Process: r.Process, TTL: ttl(r.TTLSeconds)}
	bind(&c, r.Connection)
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
