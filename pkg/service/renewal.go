package service

import (
	"errors"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// renewals is a route of requests that extend leases.
type renewals[Request, Reply any] struct {
	route[Request, Reply]
	// lease finds the number of a live lease, if the renewal extends it and changes nothing else.
	lease func(st *state.State, owner string, r *Request) (number uint32, ok bool)
	// least finds the number of a live lease, also if the renewal would change something else.
	// A refused renewal still extends that lease. It may be nil.
	least func(st *state.State, owner string, r *Request) (number uint32, ok bool)
	// lost returns the error of a renewal whose lease does not exist any more.
	lost func(st *state.State, owner string, r *Request) *protocol.Error
	// allowance returns the key of the allowance of answered renewals, by the subject.
	allowance func(subject string) string
	// admitCommand admits a renewal that becomes a command.
	admitCommand func(*call) error
}

// renewal extends a lease. If it changes nothing else, an entry holds only the lease's number.
// Otherwise it becomes a command.
type renewal[Request, Reply any] struct {
	change[Request, Reply]
	renewals *renewals[Request, Reply]
}

func (r renewals[Request, Reply]) renewal(s *Service) *endpoint {
	e := r.changeOf(s, func(c change[Request, Reply]) request { return &renewal[Request, Reply]{c, &r} })
	e.renewal = true
	return e
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
	if errors.Is(err, protocol.ErrOverloaded) && c.extendAtLeast() {
		err = protocol.ErrOverloaded.With("too much is waiting: the lease is renewed, and nothing else was done")
	}
	return err
}

// extend has the lease extended by its number. A renewal that wants no reply is done at once. One
// that wants a reply takes room until it is answered, so it has an allowance. Over the allowance
// the lease is extended all the same, and the answer is an error.
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

// extendAtLeast extends the live lease of a renewal that is refused because too much waits, or
// because its user changes too much. Nobody is lost because there is too much to do (PROTOCOL 6).
// It reports whether there is such a lease.
func (c *renewal[Request, Reply]) extendAtLeast() bool {
	if c.renewals.least == nil {
		return false
	}
	s := c.endpoint.service
	s.mu.RLock()
	number, ok := c.renewals.least(s.state, c.owner, &c.body)
	s.mu.RUnlock()
	return ok && s.journal.Renew(number, nil, false) == nil // it fails only if the journal has stopped
}

// lost returns the error if the renewal's lease does not exist any more.
func (c *renewal[Request, Reply]) lost(st *state.State) *protocol.Error {
	return c.renewals.lost(st, c.owner, &c.body)
}
