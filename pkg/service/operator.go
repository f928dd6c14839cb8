package service

import (
	"cmp"
	"context"

	"presence/pkg/internal/api"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// stats implements "stats" of PROTOCOL 4.8.
func (s *Service) stats(c *call) error {
	if err := c.decode(&struct{}{}); err != nil {
		return err
	}
	if err := s.refuseUntrusted(); err != nil {
		return err
	}
	c.reply = s.statsReply
	return s.answerNow(c)
}

func (s *Service) statsReply(*call, *state.Result) (any, error) {
	limits, refusals, stale := s.cfg.limits(), s.refusals(), s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	limits[maxSessions] = int64(s.state.Params().Sessions)
	reply := api.Queries{State: s.state, Stale: stale}.Stats(s.writer)
	reply.Limits, reply.Refusals = limits, refusals
	return reply, nil
}

// limits are those of this instance, by the names of their flags.
func (c *Config) limits() map[string]int64 {
	all := make(map[string]int64)
	for _, l := range c.Limits.List() {
		all[l.Name] = int64(*l.Value)
	}
	return all
}

// refusals counts the errors answered since the start, by name.
func (s *Service) refusals() map[string]uint64 {
	all := make(map[string]uint64)
	for _, e := range s.endpoints {
		e.stats.addErrors(all)
	}
	return all
}

// orderStep is how many users are put in order while the state is locked: for
// about a millisecond.
const orderStep = 500

// list implements "list" of PROTOCOL 4.8. The first one has the users put in
// order, a million in two to three seconds, for which only other lists wait: they have a worker of their
// own.
func (s *Service) list(c *call) error {
	r := protocol.ListRequest{}
	err := c.decode(&r)
	if err == nil {
		err = r.Check()
	}
	if err == nil {
		err = s.refuseUntrusted()
	}
	if err != nil {
		return err
	}
	r.Limit = min(cmp.Or(r.Limit, protocol.MaxUsersPerList), s.cfg.Limits.UsersPerList)
	if reply, ok := s.page(&r); ok {
		c.succeed(s, reply)
		return nil
	}
	return s.gate.Order(func(ctx context.Context) {
		s.handle(c, func() error {
			for ctx.Err() == nil {
				if reply, ok := s.page(&r); ok {
					c.succeed(s, reply)
					return nil
				}
				s.order(orderStep)
			}
			return protocol.ErrUnavailable
		})
	})
}

// order puts some more users in order.
func (s *Service) order(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Order(n)
}

// page returns a page, and false where the users are not in order.
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
func (s *Service) explain(c *call) error {
	var r protocol.UserRequest
	err := c.decode(&r)
	if err == nil {
		err = r.Check()
	}
	if err == nil {
		err = s.refuseUntrusted()
	}
	if err != nil {
		return err
	}
	c.user, c.reply = r.UserID, s.explainReply
	return s.answerNow(c)
}

func (s *Service) explainReply(c *call, _ *state.Result) (any, error) {
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.Queries{State: s.state, Stale: stale}.Explain(c.user), nil
}

// kick implements "admin.kick" of PROTOCOL 4.8.
func (s *Service) kick(c *call) error {
	var r protocol.KickRequest
	err := c.decode(&r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return err
	}
	c.reply = s.kickReply
	return s.submit(c, api.Kick(&r))
}

func (s *Service) kickReply(_ *call, r *state.Result) (any, error) {
	return s.replying().Ended(r), nil
}
