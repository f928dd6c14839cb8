package service

import (
	"bytes"
	"sync"

	"presence/pkg/protocol"
)

// admit refuses a call by what it costs nothing to know, before its body is read.
func (s *Service) admit(c *call) error {
	if n := len(c.request.Data()); n > s.cfg.Limits.BodyBytes {
		return protocol.ErrRequestTooLarge.Withf("the body has %d bytes, at most %d are allowed", n, s.cfg.Limits.BodyBytes)
	}
	if c.endpoint.admit == nil {
		return nil
	}
	return c.endpoint.admit(c)
}

// admitChange takes a change off the allowance of the user in the subject.
func (s *Service) admitChange(c *call) error {
	return s.admitTo(s.changes, s.subjects.UserToken(c.request.Subject()), 1, c)
}

// contactReads is how many reads of contacts a user may have waiting: they wait for
// JetStream, on a worker that others share.
const contactReads = 8

// admitContacts takes a change off the user's allowance. A read is none, and known
// by its body, which is an empty object; of those only so many may wait.
func (s *Service) admitContacts(c *call) error {
	if string(bytes.TrimSpace(c.request.Data())) != "{}" {
		return s.admitChange(c)
	}
	if !s.pending.hold(c, c.request.Subject(), contactReads) {
		return protocol.ErrOverloaded.Withf("%d reads of these contacts wait already: wait for an answer before the next", contactReads)
	}
	return nil
}

// admitRenewal refuses unread what is no client any more.
func (s *Service) admitRenewal(c *call) error {
	return s.admitTo(s.floods, c.request.Subject(), 1, c)
}

// opBytes is what an op of an apply has at least: an apply costs as many ops as
// that makes of its body, so that a long one without ops is not for nothing.
const opBytes = 512

// opsOf is what a gateway's request costs before it is read: never more than the
// smallest allowance that there can be.
func opsOf(c *call) int {
	return min(max(1, len(c.request.Data())/opBytes), protocol.MaxOpsPerApply)
}

// admitOps takes a request off the allowance of the gateway in the subject.
func (s *Service) admitOps(c *call) error {
	gateway, err := s.subjects.ParseGateway(c.request.Subject())
	if err != nil {
		return err
	}
	return s.admitTo(s.ops, gateway, opsOf(c), c)
}

// admitApply checks an apply, takes its ops off the gateway's allowance, and
// counts it among the gateway's applies until it is answered. No gateway needs more
// than one; what is asked again may wait beside it. So a gateway that does not wait
// for its answers cannot fill the journal's queue.
func (s *Service) admitApply(c *call, r *protocol.ApplyRequest, gateway string) error {
	if err := r.Check(); err != nil {
		return err
	}
	n := len(r.Ops)
	if most := s.cfg.Limits.OpsPerApply; n > most {
		return protocol.ErrTooManyUsers.Withf("ops has %d ops, at most %d are allowed", n, most)
	}
	if !s.pending.hold(c, gateway, s.cfg.Limits.GatewayApplies) {
		return protocol.ErrOverloaded.Withf("%d applies of this gateway wait already: wait for an answer before the next", s.cfg.Limits.GatewayApplies)
	}
	s.ops.give(gateway, opsOf(c)) // so that the refusal says when all of it would pass
	return s.admitTo(s.ops, gateway, max(n, opsOf(c)), c)
}

// admitTo takes n off an allowance.
func (s *Service) admitTo(r *rate, key string, n int, c *call) error {
	if e := r.take(key, n, c.begun); e != nil {
		return e
	}
	return nil
}

// pending counts the calls that wait for their answer, where few may: a gateway's
// applies by its ID, reads of contacts by their subject.
type pending struct {
	mu      sync.Mutex
	waiting map[string]int
}

// hold counts a call, and reports whether that is allowed.
func (p *pending) hold(c *call, key string, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[key] >= most {
		return false
	}
	if p.waiting == nil {
		p.waiting = make(map[string]int)
	}
	p.waiting[key]++
	c.holds = key
	return true
}

// keys counts those of whom a call waits.
func (p *pending) keys() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// release ends what hold began, if it did.
func (p *pending) release(c *call) {
	if c.holds == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[c.holds]--; p.waiting[c.holds] == 0 {
		delete(p.waiting, c.holds)
	}
	c.holds = ""
}
