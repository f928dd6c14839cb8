package clienttest

import (
	"reflect"
	"time"

	"presence/pkg/protocol"
)

type leaseKey struct{ gateway, process string }

// lease is that of one run of a gateway's process (PROTOCOL 4.7).
type lease struct {
	key  leaseKey
	ttl  time.Duration
	seq  uint64
	ops  []protocol.Op        // of the apply with that seq
	last *protocol.ApplyReply // to it
}

func (s *Service) open(r Request, m *protocol.OpenRequest) (any, error) {
	key := leaseKey{r.Gateway, m.Process}
	l := s.leases[key]
	if l == nil {
		l = &lease{key: key}
		s.leases[key] = l
	}
	if l.ttl = time.Duration(m.TTLSeconds) * time.Second; l.ttl == 0 {
		l.ttl = protocol.DefaultTTL
	}
	s.revision++
	return s.leaseReply(l, l.seq)
}

func (s *Service) leaseReply(l *lease, seq uint64) (any, error) {
	return protocol.LeaseReply{TTLSeconds: s.seconds(l.ttl), GraceSeconds: protocol.DefaultGrace.Seconds(),
		Seq: seq, Revision: s.revision, Epoch: s.epoch}, nil
}

func (s *Service) renewLease(r Request, m *protocol.LeaseRequest) (any, error) {
	l := s.leases[leaseKey{r.Gateway, m.Process}]
	if l == nil {
		return nil, protocol.ErrLeaseNotFound
	}
	return s.leaseReply(l, 0)
}

func (s *Service) closeLease(r Request, m *protocol.CloseRequest) (any, error) {
	l := s.leases[leaseKey{r.Gateway, m.Process}]
	if l == nil {
		l = &lease{}
	}
	s.change(func(c *change) {
		for _, u := range s.users {
			for _, x := range append([]*session(nil), u.sessions...) {
				switch {
				case x.lease != l || !x.Live:
				case m.Logout:
					c.touch(u.id, protocol.CauseLogout).remove(x)
				default:
					c.lose(u.id, x)
				}
			}
		}
	})
	delete(s.leases, l.key)
	return s.leaseReply(l, 0)
}

// lose ends a session without a logout.
func (c *change) lose(userID string, x *session) {
	c.touch(userID, protocol.CauseLost)
	x.Live, x.LostAt = false, protocol.TimeOf(c.s.now)
	x.severed = x.severed || x.lease != nil
	x.lease, x.Gateway = nil, ""
}

func (s *Service) apply(r Request, m *protocol.ApplyRequest) (any, error) {
	l := s.leases[leaseKey{r.Gateway, m.Process}]
	switch {
	case l == nil:
		return nil, protocol.ErrLeaseNotFound
	case m.Seq == l.seq && l.last != nil && !reflect.DeepEqual(m.Ops, l.ops):
		return nil, protocol.ErrOutOfOrder
	case m.Seq == l.seq && l.last != nil:
		return l.last, nil
	case m.Seq != l.seq+1:
		return nil, protocol.ErrOutOfOrder
	}
	reply := &protocol.ApplyReply{Failures: []protocol.OpFailure{}, Epoch: s.epoch}
	s.change(func(c *change) {
		for i := range m.Ops {
			o := &m.Ops[i]
			err := o.Check(protocol.MaxCustomStatusBytes)
			if err == nil {
				err = c.do(l, o)
			}
			if err != nil {
				reply.Failures = append(reply.Failures, protocol.OpFailure{Index: i, UserFailure: protocol.Failure(o.UserID, err)})
			} else {
				reply.Applied++
			}
		}
	})
	reply.Revision = s.revision
	l.seq, l.ops, l.last = m.Seq, m.Ops, reply
	return reply, nil
}

// do does one op.
func (c *change) do(l *lease, o *protocol.Op) error {
	switch o.Op {
	case protocol.OpKindLogin:
		_, err := c.open(opened{userID: o.UserID, sessionID: o.SessionID, device: o.Device, platform: o.Platform, idle: o.Idle, ttl: l.ttl, lease: l})
		return err
	case protocol.OpKindSet:
		return c.set(o.UserID, o.Set())
	}
	x := c.s.user(o.UserID).session(o.SessionID)
	if x == nil || x.lease != l { // why it ended, the gateway is not told
		return protocol.ErrSessionNotFound
	}
	switch o.Op {
	case protocol.OpKindLogout:
		c.touch(o.UserID, protocol.CauseLogout).remove(x)
	case protocol.OpKindLost:
		c.lose(o.UserID, x)
	case protocol.OpKindIdle:
		c.touch(o.UserID, protocol.CauseSet)
		x.Idle = o.Idle
	}
	return nil
}
