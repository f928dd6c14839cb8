package service

import (
	"errors"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// renewals is the route of what extends leases.
type renewals[Request, Reply any] struct {
	route[Request, Reply]
	// lease finds the number of a live lease that a renewal extends and does no more.
	lease func(st *state.State, owner string, r *Request) (number uint32, ok bool)
	// least, where there is one, finds the number of a live lease, whatever else the renewal
	// says: the lease is extended even where the renewal is refused.
	least func(st *state.State, owner string, r *Request) (number uint32, ok bool)
	// lost is the error of a renewal whose lease is not there any more.
	lost func(st *state.State, owner string, r *Request) *protocol.Error
	// allowance names the allowance of renewals that are answered, by the subject.
	allowance func(subject string) string
	// admitCommand admits a renewal that becomes a command.
	admitCommand func(*call) error
}

// renewal extends a lease. Where that is all that it does it is packed as a number; else it is a
// command.
type renewal[Request, Reply any] struct {
	change[Request, Reply]
	renewals *renewals[Request, Reply]
}

func (r renewals[Request, Reply]) renewal(s *Service) *endpoint {
	return r.endpoint(s, func() request {
		c := &renewal[Request, Reply]{renewals: &r}
		c.route = &r.route
		return c
	})
}

// Renewals of sessions (PROTOCOL 4.2).

func sessionLease(st *state.State, user string, r *protocol.RenewRequest) (uint32, bool) {
	return st.Lease(user, r.SessionID, r.Idle)
}

func leastSessionLease(st *state.State, user string, r *protocol.RenewRequest) (uint32, bool) {
	return st.Lease(user, r.SessionID, nil)
}

func lostSession(st *state.State, user string, r *protocol.RenewRequest) *protocol.Error {
	if st.WasReplaced(user, r.SessionID) {
		return protocol.ErrSessionReplaced
	}
	return protocol.ErrSessionNotFound
}

func (c *renewal[Request, Reply]) Handle() { c.handle(c.renew) }

func (c *renewal[Request, Reply]) renew() error {
	s, r := c.endpoint.service, c.renewals
	err := r.read(&c.call, &c.body)
	if err == nil {
		err = s.refuseStale()
	}
	if err != nil {
		return err
	}
	s.mu.RLock()
	number, ok := r.lease(s.state, c.owner, &c.body)
	s.mu.RUnlock()
	if ok {
		return c.extend(number)
	}
	if err := r.admitCommand(&c.call); err != nil {
		c.extendAtLeast()
		return err
	}
	// Its lease may have been opened by an entry that is not applied here yet.
	err = s.submit(c, r.command(c.owner, &c.body))
	if errors.Is(err, protocol.ErrOverloaded) {
		c.extendAtLeast()
	}
	return err
}

// extend has the lease renewed by its number. Nobody is told of a renewal that
// nobody waits for, so that is done at once. Those that are answered take room until
// they are, and have an allowance; over it the answer is refused and not the renewal.
func (c *renewal[Request, Reply]) extend(number uint32) error {
	s, wanted := c.endpoint.service, c.wantsReply()
	var err error
	if wanted {
		err = s.gate.AnswerRenewal(c.renewals.allowance(c.msg.Subject), c.begun)
	}
	if err := s.journal.Renew(number, c, wanted && err == nil); err != nil {
		return journalError(err)
	}
	if err != nil {
		return err
	}
	if !wanted {
		c.endpoint.stats.done(c.begun, nil)
	}
	return nil
}

// extendAtLeast extends the live lease of a renewal that is refused for want of room,
// or because its user changes too much: nobody is lost because there is too much to
// do (PROTOCOL 6).
func (c *renewal[Request, Reply]) extendAtLeast() {
	if c.renewals.least == nil {
		return
	}
	s := c.endpoint.service
	s.mu.RLock()
	number, ok := c.renewals.least(s.state, c.owner, &c.body)
	s.mu.RUnlock()
	if ok {
		_ = s.journal.Renew(number, nil, false) // it fails when the journal has stopped
	}
}

// lost returns the error of a renewal whose lease is not there any more.
func (c *renewal[Request, Reply]) lost(st *state.State) *protocol.Error {
	return c.renewals.lost(st, c.owner, &c.body)
}
