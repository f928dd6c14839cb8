package service

import (
	"presence/pkg/internal/api"
	"presence/pkg/protocol"
)

// describe implements PROTOCOL 4.9. The instance answers whatever its health is: the question is
// what it holds, right or wrong.
func (s *Service) describe(_ string, r *protocol.InstanceRequest) *protocol.InstanceReply {
	stale := s.stale()
	reply := &protocol.InstanceReply{Writer: s.instance, Host: s.cfg.Host, Version: s.cfg.Version}
	if err := s.Health(); err != nil {
		reply.NotReady = err.Error()
	}
	s.mu.Lock() // not RLock: making digests uses scratch space of the state
	defer s.mu.Unlock()
	api.Queries{State: s.state, Stale: stale}.Describe(r, s.digestsFit(), reply)
	return reply
}
