package service

import (
	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// gatewayOpen implements "open" of PROTOCOL 4.7.
func (s *Service) gatewayOpen(gateway string, r *protocol.OpenRequest) entry.Command {
	r.Connection = s.bindable(r.Connection)
	return api.Open(gateway, r)
}

// gatewayOpened answers an "open". No more applies may be under way than this service lets wait.
func (s *Service) gatewayOpened(a api.Replies, r *state.Result) protocol.LeaseReply {
	reply := a.Lease(r)
	reply.Window = min(reply.Window, s.limits.Load().GatewayApplies)
	return reply
}

// Renewals of gateways ("renew" of PROTOCOL 4.7).

func gatewayLease(st *state.State, gateway string, r *protocol.LeaseRequest) (uint32, bool) {
	return st.GatewayLease(gateway, r.Process)
}

func lostGateway(*state.State, string, *protocol.LeaseRequest) *protocol.Error {
	return protocol.ErrLeaseNotFound
}

// gatewayAllowance names a gateway's allowance of renewals. No user's token has a dot.
func (s *Service) gatewayAllowance(subject string) string {
	gateway, _ := s.subjects.ParseGateway(subject) // it was read before, so this cannot fail
	return "gateway." + gateway
}

// apply implements "apply" of PROTOCOL 4.7.
type apply struct {
	change[protocol.ApplyRequest, *protocol.ApplyReply]
	ops *api.Ops
}

func newApply(c change[protocol.ApplyRequest, *protocol.ApplyReply]) request {
	return &apply{change: c}
}

func (c *apply) Handle() { c.handle(c.submit) }

// submit submits the ops that are valid. The reply lists the others as failures. The request
// goes to the journal even if no op is valid, so that its seq is used up.
func (c *apply) submit() error {
	s := c.endpoint.service
	err := c.route.read(&c.call, &c.body)
	if err == nil {
		err = s.gate.Apply(&c.ticket, c.owner, len(c.body.Ops), len(c.msg.Data), c.begun)
	}
	if err == nil {
		err = s.refuseApply(&c.body)
	}
	if err != nil {
		return err
	}
	command, ops := api.Apply(c.owner, &c.body, c.msg.Data, s.limits.Load().CustomStatusBytes)
	c.ops = ops
	return s.submit(c, command)
}

func (c *apply) done(a *answer) {
	if e := a.failure(); e != nil {
		c.fail(e)
		return
	}
	s := c.endpoint.service
	reply, err := s.replying().Apply(&a.result, c.ops, s.maxBody())
	if err != nil {
		c.fail(err)
		return
	}
	c.succeed(reply)
}
