package state

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
	sessions []uint32 // that it keeps live

	// seq is the number of the last request that was applied. done are the last ones, the latest
	// last. If one of them comes again, it gets its answer again.
	seq  uint64
	done []doneApply

	saved int // index in the snapshot that is being taken
}

// gatewayKey names one process of a gateway.
type gatewayKey struct{ gateway, process string }

func (k gatewayKey) compare(with gatewayKey) int {
	return cmp.Or(cmp.Compare(k.gateway, with.gateway), cmp.Compare(k.process, with.process))
}

// gateways are few, so they are objects.
type gateways struct {
	byKey   map[gatewayKey]*gateway
	byLease map[uint32]*gateway // by the numbers of their leases
}

func newGateways() gateways {
	return gateways{byKey: make(map[gatewayKey]*gateway), byLease: make(map[uint32]*gateway)}
}

// addGateway adds a gateway whose lease has its number.
func (s *State) addGateway(g *gateway) {
	s.gateways.byKey[g.key], s.gateways.byLease[g.number] = g, g
}

// GatewayAnswer is what became of an Apply.
type GatewayAnswer struct {
	Revision uint64
	Applied  int
	Failures []protocol.OpFailure
}

// doneApply is a request that was applied.
type doneApply struct {
	answer GatewayAnswer
	body   uint64 // a hash of the request; 0: not known
}

// windowFormat is the first format in which a gateway may have several requests under way. Below
// it only the last one is remembered.
const windowFormat = 5

// window returns how many requests a gateway may have under way: as many as are remembered. Each
// of those without an answer may have been applied.
func (s *State) window() int {
	if s.format < windowFormat {
		return 1
	}
	return protocol.ApplyWindow
}

// find returns the request with a number; nil: it is not remembered.
func (g *gateway) find(seq uint64) *doneApply {
	if ago := g.seq - seq; seq <= g.seq && ago < uint64(len(g.done)) {
		return &g.done[uint64(len(g.done))-1-ago]
	}
	return nil
}

// last returns the last request; the zero value: there is none.
func (g *gateway) last() (d doneApply) {
	if n := len(g.done); n > 0 {
		d = g.done[n-1]
	}
	return d
}

// earlier are those before the last one.
func (g *gateway) earlier() []doneApply { return g.done[:max(0, len(g.done)-1)] }

// remember adds the next request, and forgets what is more than most.
func (g *gateway) remember(d doneApply, most int) {
	g.seq++
	if more := len(g.done) + 1 - most; more > 0 {
		g.done = slices.Delete(g.done, 0, more)
	}
	g.done = append(g.done, d)
}

// openGateway opens or resumes a gateway's lease. If its connection closed longer ago
// than the grace, the lease ends at once.
func (s *State) openGateway(c *entry.Command, r *Result) *protocol.Error {
	key := gatewayKey{c.Gateway, c.Process}
	g := s.gateways.byKey[key]
	if g == nil {
		g = &gateway{key: key}
		g.number = s.leases.take(s.clock.lease)
		s.leases.byNumber.Set(g.number, holder(g.number|ofGateway))
		s.digest += deadlineHash(g.number, g.deadline)
		s.addGateway(g)
	}
	g.terms = s.termsOf(c)
	s.bind(&g.lease, connectionKey{c.Server, c.Client})
	s.extend(&g.lease)
	if s.overdue(&g.lease) {
		s.endGateway(g, false)
		return protocol.ErrLeaseNotFound.With("the lease was bound to a connection that is closed: open again")
	}
	r.Terms, r.Seq, r.Window = s.termsInForce(&g.lease), g.seq, s.window()
	return nil
}

// findGateway returns the gateway that a command names.
func (s *State) findGateway(c *entry.Command) (*gateway, *protocol.Error) {
	if g := s.gateways.byKey[gatewayKey{c.Gateway, c.Process}]; g != nil {
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
	r.Terms = s.termsInForce(&g.lease)
	return nil
}

// closeGateway ends a lease because its gateway asks for it. Closing a lease that does
// not exist is not an error.
func (s *State) closeGateway(c *entry.Command, r *Result) {
	g, err := s.findGateway(c)
	if err != nil {
		r.Terms = Terms{Grace: s.params.Grace}
		return
	}
	r.Terms = s.termsInForce(&g.lease)
	s.endGateway(g, c.All)
}

// endGateway ends a gateway's lease: its sessions are lost or logged out at once.
func (s *State) endGateway(g *gateway, logout bool) {
	sessions := g.sessions
	g.sessions = nil
	slices.SortFunc(sessions, func(a, b uint32) int { return cmp.Compare(s.session(a).number, s.session(b).number) })
	for _, n := range sessions {
		x := s.session(n)
		s.change(s.userOf(x))
		x.bound, x.place = 0, 0
		if logout {
			s.logoutSession(x)
			continue
		}
		x.loginOnly = true
		s.lose(x)
	}
	s.unbind(&g.lease)
	s.freeLease(&g.lease)
	delete(s.gateways.byKey, g.key)
	delete(s.gateways.byLease, g.number)
}

// applyOps carries out a gateway's ops in order, as one change.
func (s *State) applyOps(c *entry.Command, r *Result) *protocol.Error {
	g, err := s.findGateway(c)
	if err != nil {
		return err
	}
	switch before := g.find(c.Seq); {
	case before != nil && before.body != c.Body && before.body != 0 && c.Body != 0:
		return protocol.ErrOutOfOrder.Withf("request %d came before, with another body", c.Seq)
	case before != nil:
		r.Gateway = before.answer
		return nil
	case c.Seq != g.seq+1:
		return protocol.ErrOutOfOrder.Withf("request %d came where %d is due", c.Seq, g.seq+1)
	}
	if on := s.connectionOf(&g.lease); on != nil && on.closed && s.hasLateLogin(c.Ops, g) {
		return protocol.ErrUnavailable.With("the gateway's connection is closed, and its sessions are elsewhere by now: nothing was done, open from the present connection")
	}
	answer := GatewayAnswer{Revision: s.revision}
	for i := range c.Ops {
		op := &c.Ops[i]
		if err := s.applyOp(g, op); err != nil {
			answer.Failures = append(answer.Failures, protocol.OpFailure{Index: i, UserFailure: protocol.Failure(op.User, err)})
			continue
		}
		answer.Applied++
	}
	body := c.Body
	if s.format < fencesFormat {
		body = 0
	}
	g.remember(doneApply{answer, body}, s.window())
	r.Gateway = answer
	return nil
}

// hasLateLogin reports whether one of the ops is a late login, see isLate. The gateway's
// connection has closed.
func (s *State) hasLateLogin(ops []entry.Command, g *gateway) bool {
	return slices.ContainsFunc(ops, func(op entry.Command) bool {
		return op.Kind == entry.Login && s.isLate(s.connectionOf(&g.lease), s.users.get(op.User), &op, g)
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
	x := s.sessionNamed(u, op.Session)
	if x == nil || s.gatewayOf(x) != g {
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
	old := s.gatewayOf(x)
	if old == g {
		return
	}
	n := uint32(s.holderOf(&x.lease))
	if old != nil {
		last := len(old.sessions) - 1
		moved := old.sessions[last]
		old.sessions[x.place], s.session(moved).place = moved, x.place
		old.sessions = old.sessions[:last]
		x.bound, x.place = 0, 0
	}
	if g != nil {
		s.unbind(&x.lease)
		g.add(n, x)
	}
}

// add makes a gateway keep a session live that is not bound.
func (g *gateway) add(n uint32, x *session) {
	x.bound, x.place = bound(g.number|ofGateway), uint32(len(g.sessions))
	g.sessions = append(g.sessions, n)
}
