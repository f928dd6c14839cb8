package service

import (
	"cmp"
	"context"

	"presence/pkg/internal/api"
	"presence/pkg/protocol"
)

// stats implements "stats" of PROTOCOL 4.8.
func (s *Service) stats(string, *struct{}) *protocol.StatsReply {
	limits, refusals, stale := s.limits.Load().values(), s.refusals(), s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	limits[maxSessions] = int64(s.state.Params().Sessions)
	reply := api.Queries{State: s.state, Stale: stale}.Stats(s.instance)
	reply.Limits, reply.Refusals = limits, refusals
	return reply
}

// values returns the limits by the names of their flags.
func (l *Limits) values() map[string]int64 {
	all := make(map[string]int64)
	for _, l := range l.List() {
		all[l.Name] = int64(*l.Value)
	}
	return all
}

// refusals returns how often each error was answered since the start, by name.
func (s *Service) refusals() map[string]uint64 {
	all := make(map[string]uint64)
	for _, e := range s.endpoints {
		for name, n := range e.stats.figures(e.name).Errors {
			all[name] += n
		}
	}
	return all
}

// orderStep is how many users are put in order at a time. The state is locked for about a
// millisecond meanwhile.
const orderStep = 500

// list implements "list" of PROTOCOL 4.8. The first list puts the users in order, a million in two
// to three seconds. Only other lists wait for that: they have a worker of their own.
type list struct {
	query[protocol.ListRequest, *protocol.ListReply]
}

func newList(c query[protocol.ListRequest, *protocol.ListReply]) request { return &list{c} }

func (c *list) Handle() { c.handle(c.answerOrWait) }

func (c *list) answerOrWait() error {
	s := c.endpoint.service
	if err := c.read(); err != nil {
		return err
	}
	c.body.Limit = min(cmp.Or(c.body.Limit, protocol.MaxUsersPerList), s.limits.Load().UsersPerList)
	if reply, ok := s.page(&c.body); ok {
		c.succeed(reply)
		return nil
	}
	return s.gate.Order(func(ctx context.Context) {
		c.handle(func() error { return c.order(ctx) })
	})
}

// order puts the users in order, and answers.
func (c *list) order(ctx context.Context) error {
	s := c.endpoint.service
	for ctx.Err() == nil {
		if reply, ok := s.page(&c.body); ok {
			c.succeed(reply)
			return nil
		}
		s.order(orderStep)
	}
	return protocol.ErrUnavailable
}

// order puts n more users in order.
func (s *Service) order(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Order(n)
}

// page returns a page, or false while the users are not in order.
func (s *Service) page(r *protocol.ListRequest) (*protocol.ListReply, bool) {
	stale, most := s.stale(), s.maxBody()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.state.Ordered() {
		return nil, false
	}
	return api.Queries{State: s.state, Stale: stale}.List(r, most), true
}

// explain implements "explain" of PROTOCOL 4.8.
func (s *Service) explain(_ string, r *protocol.UserRequest) *protocol.ExplainReply {
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.Queries{State: s.state, Stale: stale}.Explain(r.UserID)
}

// describe implements PROTOCOL 4.9. The instance answers whatever its health is: the question is
// what it holds, right or wrong.
func (s *Service) describe(_ string, r *protocol.InstanceRequest) *protocol.InstanceReply {
	stale := s.stale()
	reply := &protocol.InstanceReply{Writer: s.instance, Host: s.cfg.Host, Version: s.cfg.Version}
	if err := s.Health(); err != nil {
		reply.NotReady = err.Error()
	}
	if r.Limit == 0 && len(r.UserIDList) == 0 { // else the reply is large already
		reply.Vitals = s.vitals()
	}
	s.mu.Lock() // not RLock: making digests uses scratch space of the state
	defer s.mu.Unlock()
	api.Queries{State: s.state, Stale: stale}.Describe(r, s.digestsFit(), reply)
	return reply
}
