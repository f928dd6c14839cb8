package state

import (
	"iter"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// Epoch names the journal; empty before the first entry.
func (s *State) Epoch() string { return s.epoch }

// Generation counts epochs: entries of a lower one are of an earlier epoch.
func (s *State) Generation() uint32 { return s.generation }

// Position is that of the last entry applied.
func (s *State) Position() uint64 { return s.position }

// Revision is what the state is as of: all of the last entry's commands.
func (s *State) Revision() uint64 {
	if s.position == 0 {
		return 0
	}
	return s.position<<12 | (entry.IndexSpan - 1)
}

// AsOf is the journal's time at Revision.
func (s *State) AsOf() protocol.Time { return protocol.Time(s.clock.wall) }

// LeaseClock, in milliseconds, goes into the headers of entries.
func (s *State) LeaseClock() int64 { return s.clock.lease }

// InAmnesty reports whether deadlines are suspended after an outage (G6).
func (s *State) InAmnesty() bool { return s.clock.inAmnesty() }

// Params returns the rules in force.
func (s *State) Params() entry.Params { return s.params }

// Users, Sessions and Gateways count what is remembered, lost sessions included.
func (s *State) Users() int    { return s.users.table.Len() }
func (s *State) Sessions() int { return s.sessions.Len() }
func (s *State) Gateways() int { return len(s.gateways.byKey) }

// Leases counts those of sessions, lost ones included, and of gateways.
func (s *State) Leases() int { return s.leases.count() }

// Status returns what everybody sees of a user; UNLOGINED with revision 0 of
// one never seen. With detail it names the platforms of live sessions.
func (s *State) Status(userID string, detail bool) protocol.Status {
	u := s.users.get(userID)
	return s.seen(u, userID, detail)
}

// Statuses appends the Status of each of some users to a list. Most of its time is spent
// waiting for memory. So it takes each step for several users, one right after the other:
// the processor then waits for the memory of several at once.
func (s *State) Statuses(list []protocol.Status, userIDs []string, detail bool) []protocol.Status {
	const several = table.Several
	var numbers [several]uint32
	var ids [several]table.Text
	var lengths [several]int
	for some := range slices.Chunk(userIDs, several) {
		s.users.index.Likely(some, &numbers)
		for i := range some {
			ids[i] = 0
			if u := s.user(numbers[i]); u != nil {
				ids[i] = u.id
			}
		}
		for i := range some {
			lengths[i] = s.texts.Length(ids[i])
		}
		for i, id := range some {
			u := s.user(numbers[i])
			if u != nil && (lengths[i] != len(id) || s.texts.Get(ids[i]) != id) {
				u = s.users.get(id) // its hash is much like another one's
			}
			list = append(list, s.seen(u, id, detail))
		}
	}
	return list
}

// seen is the Status of a user, who may be nil.
func (s *State) seen(u *user, userID string, detail bool) protocol.Status {
	if u == nil {
		return unknownUser(userID)
	}
	st := s.publicView(u)
	st.UserID = userID // the same, but not a part of the arena
	if detail && s.hidden(u) == nil {
		for x := s.first(u); x != nil; x = s.after(x) {
			if x.live {
				st.Platforms = append(st.Platforms, s.platform(x))
			}
		}
		slices.Sort(st.Platforms)
		st.Platforms = slices.Compact(st.Platforms)
	}
	return st
}

// OwnStatus returns what the user's own devices see, what is set, and all
// sessions in the order of their logins.
func (s *State) OwnStatus(userID string) (protocol.Status, protocol.AvailabilitySettings, []protocol.Session) {
	u := s.users.get(userID)
	if u == nil {
		return unknownUser(userID), protocol.AvailabilitySettings{Lasting: protocol.Available}, []protocol.Session{}
	}
	return s.ownerView(u), s.settings(u), s.sessionList(u)
}

// sessionList returns all sessions in the order of their logins.
func (s *State) sessionList(u *user) []protocol.Session {
	sessions := []protocol.Session{}
	for x := s.first(u); x != nil; x = s.after(x) {
		sessions = append(sessions, s.wire(x))
	}
	return sessions
}

// wire returns the session as its owner sees it.
func (s *State) wire(x *session) protocol.Session {
	shown := protocol.Session{
		SessionID:  s.sessionID(x).String(),
		Device:     s.device(x),
		Platform:   s.platform(x),
		Live:       x.live,
		Idle:       x.idle,
		Connection: s.boundTo(&x.lease),
		LoginAt:    protocol.Time(x.loginAt),
		LostAt:     protocol.Time(x.lostAt),
	}
	shown.Bound = shown.Connection != nil
	if g := s.gatewayOf(x); g != nil {
		shown.Gateway = g.key.gateway
	}
	s.showTerms(s.effectiveLease(x), &shown)
	return shown
}

// boundTo is the connection that a lease is bound to; nil for none.
func (s *State) boundTo(l *lease) *protocol.Connection {
	c := s.connectionOf(l)
	if c == nil {
		return nil
	}
	return &protocol.Connection{ServerID: s.server(c), ClientID: c.client}
}

// Lease returns the number of a session's lease, by which an entry may renew
// it, and false where it is not live or its idleness would change: such a
// renewal is a command.
func (s *State) Lease(userID, session string, idle *bool) (uint32, bool) {
	u := s.users.get(userID)
	if u == nil {
		return 0, false
	}
	x := s.sessionNamed(u, session)
	if x == nil || !x.live || x.bound.isGateway() || idle != nil && *idle != x.idle {
		return 0, false
	}
	return x.number, true
}

// WasReplaced reports whether a user's session was ended so that it must not come
// back by itself.
func (s *State) WasReplaced(userID, session string) bool {
	return s.wasEnded(s.users.get(userID), userID, session)
}

// GatewayLease returns the number of a gateway's lease, by which an entry may
// renew it.
func (s *State) GatewayLease(gatewayID, process string) (uint32, bool) {
	g := s.gateways.byKey[gatewayKey{gatewayID, process}]
	if g == nil {
		return 0, false
	}
	return g.number, true
}

// Renewed returns the result of a renewal by number, right after its entry was applied. It has
// the owner's view if a session was renewed, and not if a gateway was. Renewed returns false if
// the lease has ended since the renewal was packed.
func (s *State) Renewed(number uint32) (Result, bool) {
	h := s.leases.get(number)
	if h == 0 || !s.leaseOf(h).live {
		return Result{}, false
	}
	l := s.leaseOf(h)
	r := Result{Revision: s.Revision(), Terms: s.termsInForce(l)}
	if x := s.sessionOf(l); x != nil {
		r.Status = s.ownerView(s.userOf(x))
	}
	return r, true
}

// BoundTo goes through the live leases that are bound to a connection: the number of each, by which
// an entry may renew it, and whether it is a gateway's.
func (s *State) BoundTo(server string, client uint64) iter.Seq2[uint32, bool] {
	return func(yield func(uint32, bool) bool) {
		for _, h := range s.connections.leases(s.connections.find(connectionKey{server, client})) {
			if l := s.leaseOf(h); l.live && !yield(l.number, h.isGateway()) {
				return
			}
		}
	}
}

// Bound returns the connections that leases are bound to and that are not known
// to be closed, by server.
func (s *State) Bound() map[string][]uint64 {
	bound := make(map[string][]uint64)
	for _, c := range s.connections.table.All() {
		if server := s.server(c); !c.closed && c.leases > 0 {
			bound[server] = append(bound[server], c.client)
		}
	}
	return bound
}
