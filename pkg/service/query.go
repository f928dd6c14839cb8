package service

import (
	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// get implements PROTOCOL 4.5. It may wait for the journal, or for a revision.
type get struct {
	query[protocol.GetRequest, *protocol.GetReply]
}

func newGet(c query[protocol.GetRequest, *protocol.GetReply]) request { return &get{c} }

func (s *Service) checkGet(r *protocol.GetRequest) error {
	if err := r.Check(); err != nil {
		return err
	}
	if n := len(r.UserIDList); n > s.limits.Load().UsersPerGet {
		return protocol.ErrTooManyUsers.Withf("userIDList has %d IDs, at most %d are allowed", n, s.limits.Load().UsersPerGet)
	}
	return nil
}

func (c *get) Handle() { c.handle(c.answerOrWait) }

func (c *get) answerOrWait() error {
	s := c.endpoint.service
	if err := c.read(); err != nil {
		return err
	}
	if c.body.Fresh {
		return s.readFresh(c)
	}
	if s.mustWait(&c.body) {
		return s.waitFor(c, c.body.MinRevision/entry.IndexSpan)
	}
	c.answer()
	return nil
}

// answer encodes the reply right from the state, under its lock. A hundred users take less than
// 50 µs, and a list of their statuses would have to be made first.
func (c *get) answer() {
	s := c.endpoint.service
	stale := s.stale()
	c.succeedWith(func(b []byte) ([]byte, error) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return api.Queries{State: s.state, Stale: stale}.Get(b, &c.body), nil
	})
}

// failed says that the caller may try again. A read changes nothing, so it does not matter whether
// its entry is stored.
func (c *get) failed(error) *protocol.Error {
	return protocol.ErrUnavailable.With("the journal did not answer in time: try again")
}

func (c *get) done(a *answer) {
	if a.err != nil {
		c.fail(a.err)
		return
	}
	c.answer()
}

// ownStatus answers user.<user>.status: the owner's view (PROTOCOL 4.5).
func (s *Service) ownStatus(user string, _ *struct{}) protocol.OwnStatusReply {
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.Queries{State: s.state, Stale: stale}.OwnStatus(user)
}

// readFresh answers when an entry is applied that was appended after the query arrived. That makes
// the read linearizable.
func (s *Service) readFresh(c *get) error {
	if err := s.refuseChange(); err != nil {
		return err
	}
	if err := s.journal.Barrier(c); err != nil {
		return journalError(err)
	}
	return nil
}

// mustWait reports whether a query asks for a revision of this epoch that the instance has not
// reached.
func (s *Service) mustWait(r *protocol.GetRequest) bool {
	if r.MinRevision == 0 {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return r.Epoch == s.state.Epoch() && r.MinRevision > s.state.Revision()
}

// waitFor has a query wait until a position is applied, for MinRevisionWait at most.
func (s *Service) waitFor(c *get, position uint64) error {
	if err := s.waiters.add(c, position); err != nil {
		return err
	}
	s.checkWaiters() // it may have been applied since mustWait looked
	return nil
}

// checkWaiters answers the queries that need not wait any longer.
func (s *Service) checkWaiters() {
	s.mu.RLock()
	applied := s.state.Position()
	s.mu.RUnlock()
	s.waiters.applied(applied)
}
