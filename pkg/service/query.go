package service

import (
	"slices"
	"sync"
	"time"

	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// maxWaiters bounds the queries that wait for a revision; more are refused.
const maxWaiters = 1 << 14

// waiter is a query that waits until the instance has reached a position.
type waiter struct {
	call     *call
	position uint64
	deadline time.Time
}

// get implements PROTOCOL 4.5.
func (s *Service) get(c *call) error {
	var r protocol.GetRequest
	err := c.decode(&r)
	if err == nil {
		err = r.Check()
	}
	if n := len(r.UserIDList); err == nil && n > s.cfg.Limits.UsersPerGet {
		err = protocol.ErrTooManyUsers.Withf("userIDList has %d IDs, at most %d are allowed", n, s.cfg.Limits.UsersPerGet)
	}
	if err != nil {
		return err
	}
	if err := s.refuseUntrusted(); err != nil {
		return err
	}
	c.get, c.reply = &r, s.getReply
	if r.Fresh {
		return s.readFresh(c)
	}
	if s.mustWait(&r) {
		return s.waitFor(c, r.MinRevision/entry.IndexSpan)
	}
	return s.answerNow(c)
}

// ownStatus answers user.<user>.status: the owner's view (PROTOCOL 4.5).
func (s *Service) ownStatus(c *call) error {
	if _, err := s.decodeUser(c, &struct{}{}); err != nil {
		return err
	}
	if err := s.refuseUntrusted(); err != nil {
		return err
	}
	c.reply = s.ownStatusReply
	return s.answerNow(c)
}

// refuseUntrusted refuses queries while the state is known to be wrong (G14).
func (s *Service) refuseUntrusted() error {
	if !s.trusted() {
		return protocol.ErrUnavailable.With("this instance is building its state anew: try again")
	}
	return nil
}

func (s *Service) answerNow(c *call) error {
	body, err := c.reply(c, nil)
	if err != nil {
		return err
	}
	c.succeed(s, body)
	return nil
}

// readFresh answers once an entry is applied that was appended after the query
// arrived: that makes the read linearizable.
func (s *Service) readFresh(c *call) error {
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

func (s *Service) getReply(c *call, _ *state.Result) (any, error) {
	reply := getReplies.Get().(*getReply)
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	api.Queries{State: s.state, Stale: stale}.Get(c.get, &reply.GetReply, reply.asked)
	return reply, nil
}

func (s *Service) ownStatusReply(c *call, _ *state.Result) (any, error) {
	stale := s.stale()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.Queries{State: s.state, Stale: stale}.OwnStatus(c.user), nil
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
func (s *Service) waitFor(c *call, position uint64) error {
	s.waitMu.Lock()
	if len(s.waiters) >= maxWaiters {
		s.waitMu.Unlock()
		return protocol.ErrOverloaded
	}
	s.waiters = append(s.waiters, waiter{call: c, position: position, deadline: time.Now().Add(protocol.MinRevisionWait)})
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
		answers = append(answers, answer{call: w.call, err: protocol.ErrUnavailable})
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
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		switch {
		case w.position <= applied:
			answers = append(answers, answer{call: w.call})
		case now.After(w.deadline):
			answers = append(answers, answer{call: w.call, err: protocol.ErrUnavailable.With("this instance has not reached minRevision in time: try again")})
		default:
			return false
		}
		return true
	})
	s.waitMu.Unlock()
	s.responder.push(answers)
}
