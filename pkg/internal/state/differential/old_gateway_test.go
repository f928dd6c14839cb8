package differential

import (
	"cmp"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// gateway is one process of a gateway. It has one lease for all of its sessions
// (PROTOCOL 4.7). After a restart there is another process, with another lease. The
// sessions of the earlier process end with its lease, unless the new process logs them
// in again. Nothing that the earlier process sends late touches those.
type gateway struct {
	lease
	key      gatewayKey
	sessions []*session

	// seq is the number of the last request that was applied, answer is its result.
	// If that request comes again, it is answered with answer.
	seq    uint64
	answer GatewayAnswer
	body   uint64 // a hash of that request; 0: not known

	saved int // index in the snapshot that is being taken
}

// gatewayKey names one process of a gateway.
type gatewayKey struct{ gateway, process string }

func (k gatewayKey) compare(with gatewayKey) int {
	return cmp.Or(cmp.Compare(k.gateway, with.gateway), cmp.Compare(k.process, with.process))
}

// GatewayAnswer is what became of an Apply.
type GatewayAnswer struct {
	Revision uint64
	Applied  int
	Failures []protocol.OpFailure
}

// openGateway opens or resumes a gateway's lease. If its connection closed longer ago
// than the grace, the lease ends at once.
func (s *State) openGateway(c *entry.Command, r *Result) *protocol.Error {
	key := gatewayKey{c.Gateway, c.Process}
	g := s.gateways[key]
	if g == nil {
		g = &gateway{key: key}
		g.lease.gateway = g
		s.takeLease(&g.lease)
		s.gateways[key] = g
	}
	g.ttl = c.TTL
	s.bind(&g.lease, connectionKey{c.Server, c.Client})
	s.extend(&g.lease)
	if s.overdue(&g.lease) {
		s.endGateway(g, false)
		return protocol.ErrLeaseNotFound.With("the lease was bound to a connection that is closed: open again")
	}
	r.TTL, r.Seq = int64(g.ttl), g.seq
	return nil
}

// findGateway returns the gateway that a command names.
func (s *State) findGateway(c *entry.Command) (*gateway, *protocol.Error) {
	if g := s.gateways[gatewayKey{c.Gateway, c.Process}]; g != nil {
		return g, nil
	}
	return nil, protocol.ErrLeaseNotFound
}

func (s *State) renewGateway(c *entry.Command, r *Result) *protocol.Error {
	g, err := s.findGateway(c)
	if err != nil {
		return err
	}
	s.extend(&g.lease)
	r.TTL = int64(g.ttl)
	return nil
}

// closeGateway ends a lease because its gateway asks for it. Closing a lease that does
// not exist is not an error.
func (s *State) closeGateway(c *entry.Command, r *Result) {
	if g, err := s.findGateway(c); err == nil {
		r.TTL = int64(g.ttl)
		s.endGateway(g, c.All)
	}
}

// endGateway ends a gateway's lease: its sessions are lost or logged out at once.
func (s *State) endGateway(g *gateway, logout bool) {
	sessions := g.sessions
	g.sessions = nil
	slices.SortFunc(sessions, func(a, b *session) int { return cmp.Compare(a.number, b.number) })
	for _, x := range sessions {
		s.change(x.user)
		x.gateway = nil
		if logout {
			s.logoutSession(x)
			continue
		}
		x.loginOnly = true
		s.lose(x)
	}
	s.unbind(&g.lease)
	s.freeLease(&g.lease)
	delete(s.gateways, g.key)
}

// applyOps carries out a gateway's ops in order, as one change.
func (s *State) applyOps(c *entry.Command, r *Result) *protocol.Error {
	g, err := s.findGateway(c)
	if err != nil {
		return err
	}
	switch {
	case c.Seq == g.seq && c.Seq > 0 && g.body != c.Body && g.body != 0 && c.Body != 0:
		return protocol.ErrOutOfOrder.Withf("request %d came before, with another body", c.Seq)
	case c.Seq == g.seq && c.Seq > 0:
		r.Gateway = g.answer
		return nil
	case c.Seq != g.seq+1:
		return protocol.ErrOutOfOrder.Withf("request %d came where %d is due", c.Seq, g.seq+1)
	}
	if g.connection != nil && g.connection.closed && s.hasLateLogin(c.Ops, g) {
		return protocol.ErrUnavailable.With("the gateway's connection is closed, and its sessions are elsewhere by now: nothing was done, open from the present connection")
	}
	g.seq = c.Seq
	if s.format >= 3 {
		g.body = c.Body
	}
	g.answer = GatewayAnswer{Revision: s.revision}
	for i := range c.Ops {
		op := &c.Ops[i]
		if err := s.applyOp(g, op); err != nil {
			g.answer.Failures = append(g.answer.Failures, protocol.OpFailure{Index: i, UserFailure: protocol.Failure(op.User, err)})
			continue
		}
		g.answer.Applied++
	}
	r.Gateway = g.answer
	return nil
}

// hasLateLogin reports whether one of the ops is a late login, see isLate. The gateway's
// connection has closed.
func (s *State) hasLateLogin(ops []entry.Command, g *gateway) bool {
	return slices.ContainsFunc(ops, func(op entry.Command) bool {
		return op.Kind == entry.Login && s.isLate(g.connection, s.users.get(op.User), &op, g)
	})
}

// applyOp carries out one op. A gateway can change only its own sessions.
func (s *State) applyOp(g *gateway, op *entry.Command) *protocol.Error {
	switch op.Kind {
	case entry.Login:
		return s.login(op, g, &Result{})
	case entry.Set:
		return s.set(op)
	}
	u := s.users.get(op.User)
	if u == nil {
		return protocol.ErrSessionNotFound
	}
	x := u.session(op.Session)
	if x == nil || x.gateway != g {
		return protocol.ErrSessionNotFound
	}
	switch op.Kind {
	case entry.Logout:
		s.logoutSession(x)
	case entry.Lost:
		s.lose(x)
	case entry.Idle:
		s.setIdle(x, op.Idle)
	default:
		return protocol.ErrInvalidRequest.With("an op of this kind is not known")
	}
	return nil
}

// setGateway makes a gateway keep a session live, instead of another gateway or the
// session's own lease. nil gives the session back to its own lease.
func (s *State) setGateway(x *session, g *gateway) {
	if x.gateway == g {
		return
	}
	if old := x.gateway; old != nil {
		last := len(old.sessions) - 1
		moved := old.sessions[last]
		old.sessions[x.place], moved.place = moved, x.place
		old.sessions[last] = nil
		old.sessions = old.sessions[:last]
	}
	x.gateway = g
	if g != nil {
		x.place = int32(len(g.sessions))
		g.sessions = append(g.sessions, x)
	}
}
