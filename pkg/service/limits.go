package service

import (
	"cmp"
	"fmt"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/admission"
	"presence/pkg/service/internal/journal"
)

// Limits bound what one instance takes: how often, how much at a time, and how much that waits.
// 0 stands for the default. Unlimited stands for no limit, where Limit.MayBeUnlimited says so.
// What is over a limit is refused at once and changes nothing.
//
// Each instance counts for itself, and instances share the requests. So N instances take N times
// as much. Only SessionsPerUser is one limit for all.
type Limits struct {
	// The rates are allowances. A whole allowance may be used at once. It comes back bit by bit,
	// all of it in RateWindow. Over them is rate_limited.

	// UserChanges are a user's requests in RateWindow that may change something: login, logout,
	// set, contacts that are not only read, and renewals that also change something, such as
	// idle. Refused requests count too.
	UserChanges int
	// UserRenewals are the renewals in RateWindow that are answered, of a user or a gateway.
	// Over it the lease is extended all the same. Over ten times as many, renewals are refused
	// unread. The default is twice what 32 sessions of the shortest TTL need.
	UserRenewals int
	// GatewayOps are the ops of a gateway in a second; those of RateWindow may come at once.
	// They do not count for its users: a gateway is a service of yours that knows its users.
	// The default is a quarter of what a journal takes on two cores. It is more than a gateway
	// needs to bring back 100,000 users at once.
	GatewayOps int

	// The sizes may be smaller than those of the contract, but clients do not know that.

	// CustomStatusBytes bounds a custom status. Over it is custom_status_too_long.
	CustomStatusBytes int
	// BodyBytes bounds the body of a request. Over it is request_too_large.
	BodyBytes int
	// UsersPerGet and OpsPerApply bound lists. Over them is too_many_users.
	UsersPerGet, OpsPerApply int
	// UsersPerList bounds a page of list, whatever the request says.
	UsersPerList int
	// Contacts bounds a user's contacts. Over it is request_too_large.
	Contacts int

	// SessionsPerUser bounds a user's sessions, lost ones included. Over it is
	// too_many_sessions. It is written into the journal, like the rules of Config: the limit of
	// the instance that started last is in force for all, and stats shows it. A lower limit ends
	// no session: the next login forgets the oldest lost ones until there is room. If it is much
	// higher than the default, UserRenewals should be higher too. Another number than the
	// default needs format 2 of the journal. It comes into force when every instance knows that
	// format: a minute after the last one that does not know it was there.
	SessionsPerUser int

	// Bounds of what waits. Over them is overloaded.

	// WaitingChanges bounds the callers whose change or fresh query is on its way through the
	// journal, or whose answer is on its way out. WaitingBytes bounds the bytes of those changes.
	WaitingChanges, WaitingBytes int
	// GatewayApplies bounds the applies of one gateway that wait. Where it is below
	// protocol.ApplyWindow, gateways are told that they may have no more under way.
	GatewayApplies int
	// QueryBytes bounds the queries that wait, by their bodies and a little more for each.
	// AskerBytes bounds the queries of one asker. That is the user whose own status is asked
	// for, or the connection that the answer goes to, as far as its inbox tells.
	QueryBytes, AskerBytes int
	// PendingBytes bounds the requests that have arrived and not been looked at, for each
	// endpoint. nats.go drops what is over it: it comes faster than it could be refused.
	PendingBytes int
}

// maxSessions is the name of SessionsPerUser.
const maxSessions = "max-sessions"

// Limit is one of Limits, with its name.
type Limit struct {
	Name  string // of the flag, and in the reply to stats
	Usage string
	Value *int
	// Default is what 0 stands for. Min and Max bound the value.
	Default, Min, Max int
	// MayBeUnlimited says that the value may also be Unlimited.
	MayBeUnlimited bool
}

// List returns all limits, with their values in l.
func (l *Limits) List() []Limit {
	const many = 1 << 30
	rate := func(name, usage string, value *int, normal, least int) Limit {
		return Limit{Name: name, Usage: usage, Value: value, Default: normal, Min: least, Max: many, MayBeUnlimited: true}
	}
	size := func(name, usage string, value *int, normal, most int) Limit {
		return Limit{Name: name, Usage: usage, Value: value, Default: normal, Min: 1, Max: most}
	}
	return []Limit{
		rate("user-changes", "changes that a user may make in 5 s", &l.UserChanges, 20, 1),
		rate("user-renewals", "renewals of a user or a gateway that are answered in 5 s; more are done, and answered rate_limited", &l.UserRenewals, 200, 1),
		rate("gateway-ops", "ops of a gateway in a second; those of 5 s may come at once", &l.GatewayOps, 100_000, admission.LeastGatewayOps),

		size("max-custom-status", "bytes of a custom status", &l.CustomStatusBytes, protocol.MaxCustomStatusBytes, protocol.MostCustomStatusBytes),
		size("max-body", "bytes of a request's body", &l.BodyBytes, protocol.MaxBodyBytes, protocol.MaxBodyBytes),
		size("max-users-per-get", "users of a get", &l.UsersPerGet, protocol.MaxUsersPerGet, protocol.MaxUsersPerGet),
		size("max-users-per-list", "users on a page of list", &l.UsersPerList, protocol.MaxUsersPerList, protocol.MaxUsersPerList),
		size("max-ops-per-apply", "ops of an apply", &l.OpsPerApply, protocol.MaxOpsPerApply, protocol.MaxOpsPerApply),
		size("max-contacts", "contacts of a user", &l.Contacts, protocol.MaxContacts, protocol.MaxContacts),
		size(maxSessions, "sessions of a user, lost ones included; the number of the instance that started last is in force for all", &l.SessionsPerUser,
			protocol.MaxSessionsPerUser, protocol.MostSessionsPerUser),

		size("waiting-changes", "callers who wait for the journal", &l.WaitingChanges, journal.DefaultMaxWaiting, many),
		size("waiting-bytes", "bytes of the changes that wait for the journal", &l.WaitingBytes, journal.DefaultMaxWaitingBytes, many),
		size("gateway-applies", "applies of a gateway that wait", &l.GatewayApplies, 4, many),
		size("query-bytes", "bytes of the queries that wait", &l.QueryBytes, 8<<20, many),
		size("asker-bytes", "bytes of the queries of one asker that wait", &l.AskerBytes, 1<<20, many),
		size("pending-bytes", "bytes of the requests that have arrived, for each endpoint", &l.PendingBytes, 16<<20, many),
	}
}

// complete fills in the defaults. An error names a limit that is out of bounds.
func (l *Limits) complete() error {
	for _, x := range l.List() {
		*x.Value = cmp.Or(*x.Value, x.Default)
		if *x.Value == Unlimited && x.MayBeUnlimited {
			continue
		}
		if *x.Value < x.Min || *x.Value > x.Max {
			or := ""
			if x.MayBeUnlimited {
				or = ", or -1 for none"
			}
			return fmt.Errorf("the limit %s must be %d to %d%s, not %d", x.Name, x.Min, x.Max, or, *x.Value)
		}
	}
	return nil
}
