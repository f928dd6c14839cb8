package service

import (
	"fmt"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// describe implements PROTOCOL 4.9. It is answered whatever the instance's health:
// who asks wants to know what it holds, be it wrong.
func (s *Service) describe(c *call) error {
	var r protocol.InstanceRequest
	err := c.decode(&r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return err
	}
	c.reply = func(*call, *state.Result) (any, error) { return s.description(&r), nil }
	return s.answerNow(c)
}

func (s *Service) description(r *protocol.InstanceRequest) *protocol.InstanceReply {
	reply := &protocol.InstanceReply{Writer: s.writer, Host: s.cfg.Host, Version: s.cfg.Version, Stale: s.stale()}
	if err := s.Health(); err != nil {
		reply.NotReady = err.Error()
	}
	s.mu.Lock() // digests are made in the state's own scratch space
	defer s.mu.Unlock()
	reply.Digest, reply.Facts, reply.Users = fmt.Sprintf("%016x", s.state.Digest()), s.state.Facts(), s.state.Users()
	if limit := min(r.Limit, s.digestsFit()); limit > 0 {
		reply.Page, reply.Next = s.state.UserDigests(r.From, limit)
	}
	for _, id := range r.UserIDList {
		reply.Explained = append(reply.Explained, s.state.Explain(id))
	}
	reply.Revision, reply.Epoch, reply.AsOf = s.state.Revision(), s.state.Epoch(), s.state.AsOf()
	return reply
}
