package service

import (
	"presence/pkg/internal/api"
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
	r.Connection = s.bindable(r.Connection)
	c.reply = s.leaseReply
	return s.submit(c, api.Open(gateway, &r))
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
	return s.submit(c, api.RenewGateway(gateway, &r))
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
	return s.submit(c, api.Close(gateway, &r))
}

func (s *Service) leaseReply(_ *call, r *state.Result) (any, error) {
	return s.replying().Lease(r), nil
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
	command, ops := api.Apply(gateway, &r, c.request.Data(), s.cfg.Limits.CustomStatusBytes)
	c.reply = func(_ *call, r *state.Result) (any, error) { return s.replying().Apply(r, ops, s.maxBody()) }
	return s.submit(c, command)
}
