package service

import (
	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// login implements PROTOCOL 4.1.
func (s *Service) login(user string, r *protocol.LoginRequest) entry.Command {
	r.Connection = s.bindable(r.Connection)
	reports := r.Connection != nil && s.connections.Reports(r.Connection.ServerID)
	return api.Login(user, r, reports)
}

// bindable returns the connection that a lease may be bound to: none without a system account,
// because then nobody reports that a connection closed.
func (s *Service) bindable(c *protocol.Connection) *protocol.Connection {
	if s.cfg.System == nil {
		return nil
	}
	return c
}

// checkSet checks a request of PROTOCOL 4.4.
func (s *Service) checkSet(r *protocol.SetRequest) error {
	return r.Check(s.limits.Load().CustomStatusBytes)
}

// kick implements "admin.kick" of PROTOCOL 4.8.
func kick(_ string, r *protocol.KickRequest) entry.Command { return api.Kick(r) }

// replying returns what makes replies to changes.
func (s *Service) replying() api.Replies {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.RepliesOf(s.state)
}
