package service

import (
	"errors"

	"presence/pkg/internal/api"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// login implements PROTOCOL 4.1.
func (s *Service) login(c *call) error {
	var r protocol.LoginRequest
	user, err := s.decodeUser(c, &r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return err
	}
	r.Connection = s.bindable(r.Connection)
	reports := r.Connection != nil && s.connections.Reports(r.Connection.ServerID)
	c.reply = s.loginReply
	return s.submit(c, api.Login(user, &r, reports))
}

// bindable returns the connection that a lease may be bound to. Without a system
// account nobody reports that a connection closed, so then it is none.
func (s *Service) bindable(c *protocol.Connection) *protocol.Connection {
	if s.cfg.System == nil {
		return nil
	}
	return c
}

func (s *Service) loginReply(_ *call, r *state.Result) (any, error) {
	return s.replying().Login(r), nil
}

// renew implements PROTOCOL 4.2. A renewal of a live session that changes
// nothing else is packed as a number; any other is a command.
func (s *Service) renew(c *call) error {
	var r protocol.RenewRequest
	user, err := s.decodeUser(c, &r)
	if err == nil {
		err = r.Check()
	}
	if err == nil {
		err = s.refuseStale()
	}
	if err != nil {
		return err
	}
	c.reply, c.gone, c.session = s.changeReply, protocol.ErrSessionNotFound, r.SessionID
	s.mu.RLock()
	number, ok := s.state.Lease(user, r.SessionID, r.Idle)
	s.mu.RUnlock()
	if ok {
		return s.submitRenewal(c, number, s.subjects.UserToken(c.request.Subject()))
	}
	if err := s.admitChange(c); err != nil {
		s.renewAtLeast(user, r.SessionID)
		return err
	}
	err = s.submit(c, api.Renew(user, &r))
	if errors.Is(err, protocol.ErrOverloaded) {
		s.renewAtLeast(user, r.SessionID)
	}
	return err
}

// renewAtLeast extends the lease of a live session whose renewal is refused for
// want of room, or because its user changes too much, whatever else it said:
// nobody is lost because there is too much to do (PROTOCOL 6).
func (s *Service) renewAtLeast(user, session string) {
	s.mu.RLock()
	number, ok := s.state.Lease(user, session, nil)
	s.mu.RUnlock()
	if ok {
		_ = s.journal.Renew(number, nil, false) // it fails when the journal has stopped
	}
}

// submitRenewal has a lease renewed by its number. Nobody is told of a renewal
// that nobody waits for, so that is done at once. whose is the allowance of
// those that are answered, which take room until they are; over it the answer is
// refused and not the renewal.
func (s *Service) submitRenewal(c *call, number uint32, whose string) error {
	var err error
	if c.wantsReply() {
		err = s.gate.AnswerRenewal(whose, c.begun)
	}
	if err := s.journal.Renew(number, c, c.wantsReply() && err == nil); err != nil {
		return journalError(err)
	}
	if err != nil {
		return err
	}
	if !c.wantsReply() {
		c.endpoint.stats.done(c.begun, nil)
	}
	return nil
}

// logout implements PROTOCOL 4.3.
func (s *Service) logout(c *call) error {
	var r protocol.LogoutRequest
	user, err := s.decodeUser(c, &r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return err
	}
	c.reply = s.changeReply
	return s.submit(c, api.Logout(user, &r))
}

// set implements PROTOCOL 4.4.
func (s *Service) set(c *call) error {
	var r protocol.SetRequest
	user, err := s.decodeUser(c, &r)
	if err == nil {
		err = r.Check(s.cfg.Limits.CustomStatusBytes)
	}
	if err != nil {
		return err
	}
	c.reply = s.changeReply
	return s.submit(c, api.Set(user, &r))
}

func (s *Service) changeReply(_ *call, r *state.Result) (any, error) {
	return s.replying().Change(r), nil
}

// replying makes replies to changes.
func (s *Service) replying() api.Replies {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.RepliesOf(s.state)
}
