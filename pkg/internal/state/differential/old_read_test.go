package differential

import (
	"iter"
	"slices"

	"presence/pkg/internal/entry"
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
func (s *State) Users() int    { return len(s.users.list) }
func (s *State) Sessions() int { return s.leases.count() - len(s.gateways) }
func (s *State) Gateways() int { return len(s.gateways) }

// Leases counts those of sessions, lost ones included, and of gateways.
func (s *State) Leases() int { return s.leases.count() }

// Status returns what everybody sees of a user; UNLOGINED with revision 0 of
// one never seen. With detail it names the platforms of live sessions.
func (s *State) Status(userID string, detail bool) protocol.Status {
	u := s.users.get(userID)
	return u.seen(userID, u.statusType(), detail)
}

// Statuses appends the Status of each of some users to a list. Most of its time is spent
// waiting for memory. So it takes each step for several users, one right after the other:
// the processor then waits for the memory of several at once.
func (s *State) Statuses(list []protocol.Status, userIDs []string, detail bool) []protocol.Status {
	var users [32]*user
	var types [len(users)]protocol.StatusType
	for some := range slices.Chunk(userIDs, len(users)) {
		for i, id := range some {
			users[i] = s.users.get(id)
		}
		for i := range some {
			types[i] = users[i].statusType()
		}
		for i, id := range some {
			list = append(list, users[i].seen(id, types[i], detail))
		}
	}
	return list
}

// seen is the Status of a user, who may be nil, of that type.
func (u *user) seen(userID string, t protocol.StatusType, detail bool) protocol.Status {
	if u == nil {
		return unknownUser(userID)
	}
	st := u.publicViewOf(t)
	if detail && u.hidden == nil {
		for x := u.sessions; x != nil; x = x.next {
			if x.live {
				st.Platforms = append(st.Platforms, x.platform.Value())
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
	return s.ownerView(u), u.settings(), u.sessionList()
}

// sessionList returns all sessions in the order of their logins.
func (u *user) sessionList() []protocol.Session {
	sessions := []protocol.Session{}
	for x := u.sessions; x != nil; x = x.next {
		sessions = append(sessions, x.wire())
	}
	return sessions
}

// wire returns the session as its owner sees it.
func (x *session) wire() protocol.Session {
	return protocol.Session{
		SessionID:  x.id.String(),
		Device:     x.device,
		Platform:   x.platform.Value(),
		Live:       x.live,
		Idle:       x.idle,
		TTLSeconds: int64(x.effectiveLease().ttl) / 1000,
		Bound:      x.connection != nil,
		Connection: x.boundTo(),
		Gateway:    x.gatewayID(),
		LoginAt:    protocol.Time(x.loginAt),
		LostAt:     protocol.Time(x.lostAt),
	}
}

// boundTo is the connection that the session is bound to by itself, nil for none.
func (x *session) boundTo() *protocol.Connection {
	if x.connection == nil {
		return nil
	}
	return &protocol.Connection{ServerID: x.connection.key.server, ClientID: x.connection.key.client}
}

// Lease returns the number of a session's lease, by which an entry may renew
// it, and false where it is not live or its idleness would change: such a
// renewal is a command.
func (s *State) Lease(userID, session string, idle *bool) (uint32, bool) {
	u := s.users.get(userID)
	if u == nil {
		return 0, false
	}
	x := u.session(session)
	if x == nil || !x.live || x.gateway != nil || idle != nil && *idle != x.idle {
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
	g := s.gateways[gatewayKey{gatewayID, process}]
	if g == nil {
		return 0, false
	}
	return g.number, true
}

// Renewed answers a renewal by number, right after its entry was applied: the
// owner's view of a session's user, nothing of a gateway's, and the TTL in
// milliseconds. It returns false where the lease is gone since it was packed.
func (s *State) Renewed(number uint32) (status protocol.Status, ttl int64, ok bool) {
	l := s.leases.get(number)
	if l == nil || !l.live {
		return protocol.Status{}, 0, false
	}
	if l.session != nil {
		status = s.ownerView(l.session.user)
	}
	return status, int64(l.ttl), true
}

func (x *session) gatewayID() string {
	if x.gateway == nil {
		return ""
	}
	return x.gateway.key.gateway
}

// BoundTo goes through the live leases that are bound to a connection: the number of each, by which
// an entry may renew it, and whether it is a gateway's.
func (s *State) BoundTo(server string, client uint64) iter.Seq2[uint32, bool] {
	return func(yield func(uint32, bool) bool) {
		c := s.connections.known[connectionKey{server, client}]
		if c == nil {
			return
		}
		for _, l := range c.leases {
			if l.live && !yield(l.number, l.session == nil) {
				return
			}
		}
	}
}

// Bound returns the connections that leases are bound to and that are not known
// to be closed, by server.
func (s *State) Bound() map[string][]uint64 {
	bound := make(map[string][]uint64)
	for key, c := range s.connections.known {
		if !c.closed && len(c.leases) > 0 {
			bound[key.server] = append(bound[key.server], key.client)
		}
	}
	return bound
}
