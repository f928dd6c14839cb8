package service

import (
	"errors"

	"github.com/google/uuid"

	"presence/pkg/internal/entry"
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
	command := entry.Command{
		Kind: entry.Login, User: user, Session: r.SessionID,
		Device: r.Device, Platform: r.Platform, Idle: r.Idle,
		TTL: uint32(r.TTLSeconds * 1000),
	}
	setDefault(&command.Session, uuid.NewString())
	setDefault(&command.Platform, "unknown")
	s.bind(&command, r.Connection)
	// Who is bound to a server that may not report needs no other TTL than who is not.
	if command.Server != "" && s.servers.answers(command.Server) {
		setDefault(&command.TTL, uint32(protocol.DefaultBoundTTL.Milliseconds()))
	}
	setDefault(&command.TTL, uint32(protocol.DefaultTTL.Milliseconds()))
	c.reply = s.loginReply
	return s.submit(c, command)
}

// bind has a command name a connection. Without a system account nobody would report
// its end, so then it names none.
func (s *Service) bind(command *entry.Command, to *protocol.Connection) {
	if to != nil && s.cfg.System != nil {
		command.Server, command.Client = to.ServerID, to.ClientID
	}
}

func (s *Service) loginReply(_ *call, r *state.Result) (any, error) {
	epoch, rules := s.rules()
	return protocol.LoginReply{
		SessionID:    r.Session,
		TTLSeconds:   r.TTL / 1000,
		GraceSeconds: float64(rules.Grace) / 1000,
		Replaced:     r.Replaced,
		Status:       r.Status,
		Revision:     r.Revision,
		Epoch:        epoch,
	}, nil
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
	command := entry.Command{Kind: entry.Renew, User: user, Session: r.SessionID}
	if r.Idle != nil {
		command.SetIdle, command.Idle = true, *r.Idle
	}
	err = s.submit(c, command)
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
		err = s.admitTo(s.renewals, whose, 1, c)
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
	return s.submit(c, entry.Command{Kind: entry.Logout, User: user, Session: r.SessionID, All: r.All})
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
	return s.submit(c, setCommand(user, &r))
}

// availabilities are the journal's numbers of the wire's names.
var availabilities = map[protocol.Availability]entry.Availability{
	protocol.Available: entry.Available,
	protocol.Away:      entry.Away,
	protocol.Busy:      entry.Busy,
	protocol.DND:       entry.DND,
	protocol.Invisible: entry.Invisible,
}

// setCommand is what a checked set says, on either way to it.
func setCommand(user string, r *protocol.SetRequest) entry.Command {
	c := entry.Command{Kind: entry.Set, User: user, Session: r.SessionID, KeepText: r.CustomStatus == nil}
	if r.CustomStatus != nil {
		c.Text = *r.CustomStatus
	}
	if r.ExpiresInSeconds != nil {
		c.Expires = milliseconds(*r.ExpiresInSeconds)
	}
	if r.Availability != nil {
		c.Availability = availabilities[*r.Availability]
	}
	if r.AvailabilityExpiresInSeconds != nil {
		c.Override = milliseconds(*r.AvailabilityExpiresInSeconds)
	}
	if r.IfRevision != nil {
		c.CheckRevision, c.IfRevision = true, *r.IfRevision
	}
	return c
}

func milliseconds(seconds int64) int64 { return seconds * 1000 }

func (s *Service) changeReply(_ *call, r *state.Result) (any, error) {
	epoch, _ := s.rules()
	return &protocol.ChangeReply{Status: r.Status, Revision: r.Revision, Epoch: epoch}, nil
}

// rules returns the journal's name and the rules in force.
func (s *Service) rules() (epoch string, p entry.Params) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.Epoch(), s.state.Params()
}
