package service

import (
	"slices"
	"sync"
	"time"

	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// maxWaiters bounds the queries that wait for a revision; more are refused.
const maxWaiters = 1 << 14

// waitingGet is a query that waits until the instance has reached a position.
type waitingGet struct {
	call     *get
	position uint64
	deadline time.Time
}

// get implements PROTOCOL 4.5. It may wait for the journal, or for a revision.
type get struct {
	query[protocol.GetRequest, *getReply]
}

func (s *Service) getRoute(r route[protocol.GetRequest, *getReply]) *endpoint {
	return r.queryEndpoint(s, func() request {
		c := &get{}
		c.route = &r
		return c
	})
}

func (s *Service) checkGet(r *protocol.GetRequest) error {
	if err := r.Check(); err != nil {
		return err
	}
	if n := len(r.UserIDList); n > s.cfg.Limits.UsersPerGet {
		return protocol.ErrTooManyUsers.Withf("userIDList has %d IDs, at most %d are allowed", n, s.cfg.Limits.UsersPerGet)
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
	c.succeed(s.getReply(&c.body))
	return nil
}

// failed: a read changes nothing, whether its entry is stored or not.
func (c *get) failed(error) *protocol.Error {
	return protocol.ErrUnavailable.With("the journal did not answer in time: try again")
}

func (c *get) done(a *answer) {
	if a.err != nil {
		c.fail(a.err)
		return
	}
	c.succeed(c.endpoint.service.getReply(&c.body))
}

// ownStatus answers user.<user>.status: the owner's view (PROTOCOL 4.5).
func (s *Service) ownStatus(user string, _ *struct{}) protocol.OwnStatusReply {
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.Queries{State: s.state, Stale: stale}.OwnStatus(user)
}

// readFresh answers once an entry is applied that was appended after the query
// arrived: that makes the read linearizable.
func (s *Service) readFresh(c *get) error {
	if err := s.refuseChange(); err != nil {
		return err
	}
	if err := s.journal.Barrier(c); err != nil {
		return journalError(err)
	}
	return nil
}

// getReply is a reply with what it takes to make it, used again and again.
type getReply struct {
	protocol.GetReply
	asked map[string]struct{}
}

var getReplies = sync.Pool{New: func() any {
	return &getReply{asked: make(map[string]struct{}), GetReply: protocol.GetReply{
		SuccessUserList: []protocol.Status{}, FailureUserList: []protocol.UserFailure{}}}
}}

// release gives the reply back once it is sent.
func (r *getReply) release() {
	clear(r.asked)
	clear(r.SuccessUserList)
	clear(r.FailureUserList)
	r.SuccessUserList, r.FailureUserList = r.SuccessUserList[:0], r.FailureUserList[:0]
	getReplies.Put(r)
}

func (s *Service) getReply(r *protocol.GetRequest) *getReply {
	reply := getReplies.Get().(*getReply)
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	api.Queries{State: s.state, Stale: stale}.Get(r, &reply.GetReply, reply.asked)
	return reply
}

// mustWait reports whether a query asks for a revision of this journal that the
// instance has not reached.
func (s *Service) mustWait(r *protocol.GetRequest) bool {
	if r.MinRevision == 0 {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return r.Epoch == s.state.Epoch() && r.MinRevision > s.state.Revision()
}

// waitFor keeps a query until a position is applied, or MinRevisionWait is over.
func (s *Service) waitFor(c *get, position uint64) error {
	s.waitMu.Lock()
	if len(s.waiters) >= maxWaiters {
		s.waitMu.Unlock()
		return protocol.ErrOverloaded
	}
	s.waiters = append(s.waiters, waitingGet{call: c, position: position, deadline: time.Now().Add(protocol.MinRevisionWait)})
	s.waitMu.Unlock()
	// It may have been applied since mustWait looked.
	s.mu.RLock()
	applied := s.state.Position()
	s.mu.RUnlock()
	s.releaseWaiters(applied)
	return nil
}

// waits reports whether queries wait for a revision.
func (s *Service) waits() bool {
	s.waitMu.Lock()
	defer s.waitMu.Unlock()
	return len(s.waiters) > 0
}

// refuseWaiters refuses the queries that wait, because the instance stops.
func (s *Service) refuseWaiters() {
	s.waitMu.Lock()
	waiters := s.waiters
	s.waiters = nil
	s.waitMu.Unlock()
	var answers []answer
	for _, w := range waiters {
		answers = append(answers, answer{to: w.call, err: protocol.ErrUnavailable})
	}
	s.responder.push(answers)
}

// releaseWaiters answers the queries whose position is applied, and refuses
// those that waited too long.
func (s *Service) releaseWaiters(applied uint64) {
	s.waitMu.Lock()
	if len(s.waiters) == 0 {
		s.waitMu.Unlock()
		return
	}
	now := time.Now()
	var answers []answer
	s.waiters = slices.DeleteFunc(s.waiters, func(w waitingGet) bool {
		switch {
		case w.position <= applied:
			answers = append(answers, answer{to: w.call})
		case now.After(w.deadline):
			answers = append(answers, answer{to: w.call, err: protocol.ErrUnavailable.With("this instance has not reached minRevision in time: try again")})
		default:
			return false
		}
		return true
	})
	s.waitMu.Unlock()
	s.responder.push(answers)
}
