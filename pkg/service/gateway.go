package service

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// gatewayOpen implements "open" of PROTOCOL 4.7.
func (s *Service) gatewayOpen(c *call) error {
	var r protocol.OpenRequest
	gateway, err := s.decodeGateway(c, &r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return err
	}
	command := entry.Command{Kind: entry.Open, Gateway: gateway, Process: r.Process, TTL: uint32(r.TTLSeconds * 1000)}
	setDefault(&command.TTL, uint32(protocol.DefaultTTL.Milliseconds()))
	s.bind(&command, r.Connection)
	c.reply = s.leaseReply
	return s.submit(c, command)
}

// gatewayRenew implements "renew" of PROTOCOL 4.7.
func (s *Service) gatewayRenew(c *call) error {
	var r protocol.LeaseRequest
	gateway, err := s.decodeGateway(c, &r)
	if err == nil {
		err = r.Check()
	}
	if err == nil {
		err = s.refuseStale()
	}
	if err != nil {
		return err
	}
	c.reply, c.gone = s.leaseReply, protocol.ErrLeaseNotFound
	s.mu.RLock()
	number, ok := s.state.GatewayLease(gateway, r.Process)
	s.mu.RUnlock()
	if ok {
		return s.submitRenewal(c, number, "gateway."+gateway) // which is no user's token
	}
	if err := s.admitOps(c); err != nil {
		return err
	}
	// It may have been opened by an entry that is not applied here yet.
	return s.submit(c, entry.Command{Kind: entry.RenewGateway, Gateway: gateway, Process: r.Process})
}

// gatewayClose implements "close" of PROTOCOL 4.7.
func (s *Service) gatewayClose(c *call) error {
	var r protocol.CloseRequest
	gateway, err := s.decodeGateway(c, &r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return err
	}
	c.reply = s.leaseReply
	return s.submit(c, entry.Command{Kind: entry.Close, Gateway: gateway, Process: r.Process, All: r.Logout})
}

func (s *Service) leaseReply(_ *call, r *state.Result) (any, error) {
	epoch, rules := s.rules()
	return protocol.LeaseReply{
		TTLSeconds:   r.TTL / 1000,
		GraceSeconds: float64(rules.Grace) / 1000,
		Seq:          r.Seq,
		Revision:     r.Revision,
		Epoch:        epoch,
	}, nil
}

// fewFailures is how many failures of an apply always fit into a reply, whatever they
// say: with the longest user IDs and messages they take half of one.
const fewFailures = 200

// gatewayOps is what is remembered of an apply until its answer: the ops that
// were refused before they reached the journal, and where the others stood in
// the request.
type gatewayOps struct {
	refused []protocol.OpFailure
	index   []int // in the request, of each op in the journal; nil: the same
}

// gatewayApply implements "apply" of PROTOCOL 4.7. Ops that are not valid are
// failures of the reply and do not reach the journal; the request does even
// where none is left, so that its seq is used up.
func (s *Service) gatewayApply(c *call) error {
	var r protocol.ApplyRequest
	gateway, err := s.decodeGateway(c, &r)
	if err == nil {
		err = s.admitApply(c, &r, gateway)
	}
	if err == nil {
		err = s.refuseApply(&r)
	}
	if err != nil {
		return err
	}
	command := entry.Command{Kind: entry.Apply, Gateway: gateway, Process: r.Process, Seq: r.Seq, Body: hashOf(c.request.Data()), Ops: make([]entry.Command, 0, len(r.Ops))}
	c.ops = &gatewayOps{}
	for i := range r.Ops {
		op := &r.Ops[i]
		if err := op.Check(s.cfg.Limits.CustomStatusBytes); err != nil {
			c.ops.refused = append(c.ops.refused, protocol.OpFailure{Index: i, UserFailure: protocol.Failure(op.UserID, err)})
			continue
		}
		command.Ops = append(command.Ops, opCommand(op))
		c.ops.index = append(c.ops.index, i)
	}
	c.reply = s.applyReply
	return s.submit(c, command)
}

// hashOf tells one request's body from another; it is never 0.
func hashOf(body []byte) uint64 { return max(1, xxhash.Sum64(body)) }

// opKinds are the journal's kinds of the wire's ops.
var opKinds = map[string]entry.Kind{
	protocol.OpKindLogin:  entry.Login,
	protocol.OpKindLogout: entry.Logout,
	protocol.OpKindLost:   entry.Lost,
	protocol.OpKindIdle:   entry.Idle,
}

func opCommand(o *protocol.Op) entry.Command {
	if o.Op == protocol.OpKindSet {
		return setCommand(o.UserID, o.Set())
	}
	op := entry.Command{Kind: opKinds[o.Op], User: o.UserID, Session: o.SessionID, Device: o.Device, Platform: o.Platform, Idle: o.Idle}
	if op.Kind == entry.Login {
		setDefault(&op.Platform, "unknown")
	}
	return op
}

func (s *Service) applyReply(c *call, r *state.Result) (any, error) {
	epoch, _ := s.rules()
	reply := &protocol.ApplyReply{Applied: r.Gateway.Applied, Failures: []protocol.OpFailure{}, Revision: r.Gateway.Revision, Epoch: epoch}
	for _, f := range r.Gateway.Failures {
		if f.Index < len(c.ops.index) { // it is not where a seq was used for another request
			f.Index = c.ops.index[f.Index]
		}
		reply.Failures = append(reply.Failures, f)
	}
	reply.Failures = append(reply.Failures, c.ops.refused...)
	slices.SortFunc(reply.Failures, func(a, b protocol.OpFailure) int { return cmp.Compare(a.Index, b.Index) })
	if most := s.maxBody(); len(reply.Failures) > fewFailures || most < protocol.MaxBodyBytes {
		return reply, shortenFailures(reply, most)
	}
	return reply, nil
}

// shortenFailures makes a reply fit into so many bytes, because its change is
// committed by then: from the last failure on, the error's name replaces the message.
func shortenFailures(reply *protocol.ApplyReply, most int) error {
	data, err := protocol.Marshal(reply)
	if err != nil {
		return err
	}
	size := len(data)
	for i := len(reply.Failures) - 1; i >= 0 && size > most; i-- {
		f := &reply.Failures[i]
		long, err := protocol.Marshal(f)
		if err != nil {
			return err
		}
		f.Message = f.Name
		short, err := protocol.Marshal(f)
		if err != nil {
			return err
		}
		size += len(short) - len(long)
	}
	return nil
}
