package service

import (
	"presence/pkg/internal/api"
	"presence/pkg/protocol"
)

// describe implements PROTOCOL 4.9. It is answered whatever the instance's health:
// who asks wants to know what it holds, be it wrong.
func (s *Service) describe(_ string, r *protocol.InstanceRequest) *protocol.InstanceReply {
	stale := s.stale()
	reply := &protocol.InstanceReply{Writer: s.writer, Host: s.cfg.Host, Version: s.cfg.Version}
	if err := s.Health(); err != nil {
		reply.NotReady = err.Error()
	}
	s.mu.Lock() // digests are made in the state's own scratch space
	defer s.mu.Unlock()
	api.Queries{State: s.state, Stale: stale}.Describe(r, s.digestsFit(), reply)
	return reply
}
