package service

import (
	"bytes"
	"strings"

	"presence/pkg/service/internal/admission"
)

// RateWindow is the time that the rates of Limits are counted over.
const RateWindow = admission.RateWindow

// Unlimited is a limit that does not limit.
const Unlimited = admission.Unlimited

// admission returns the limits that the gate needs.
func (l *Limits) admission() admission.Limits {
	return admission.Limits{
		UserChanges: l.UserChanges, UserRenewals: l.UserRenewals, GatewayOps: l.GatewayOps,
		BodyBytes: l.BodyBytes, OpsPerApply: l.OpsPerApply, GatewayApplies: l.GatewayApplies,
		QueryBytes: l.QueryBytes, AskerBytes: l.AskerBytes,
	}
}

// admit refuses a call by what is known of it before its body is read.
func (s *Service) admit(c *call) error {
	if err := s.gate.Body(len(c.msg.Data)); err != nil {
		return err
	}
	if c.endpoint.admit == nil {
		return nil
	}
	return c.endpoint.admit(c)
}

// admitChange takes a change off the allowance of the user in the subject.
func (s *Service) admitChange(c *call) error {
	return s.gate.Change(s.subjects.UserToken(c.msg.Subject), c.begun)
}

// admitContacts takes a change of contacts off the user's allowance. A request whose body is an
// empty object only reads. It takes nothing off, but few may wait.
func (s *Service) admitContacts(c *call) error {
	if string(bytes.TrimSpace(c.msg.Data)) != "{}" {
		return s.admitChange(c)
	}
	return s.gate.ReadContacts(&c.ticket, c.msg.Subject)
}

// admitRenewal refuses unread what no client would send: a flood.
func (s *Service) admitRenewal(c *call) error {
	return s.gate.ReadRenewal(c.msg.Subject, c.begun)
}

// admitOps takes a request off the allowance of the gateway in the subject, by its length.
func (s *Service) admitOps(c *call) error {
	gateway, err := s.subjects.ParseGateway(c.msg.Subject)
	if err != nil {
		return err
	}
	return s.gate.GatewayRequest(gateway, len(c.msg.Data), c.begun)
}

// asker returns whose query a call is: the user whose own status is asked for, or the connection
// that the answer goes to, as far as its inbox tells.
func (s *Service) asker(c *call) string {
	if user := s.subjects.UserToken(c.msg.Subject); user != "" {
		return user
	}
	return inbox(c.msg.Reply)
}

// inbox returns a reply subject without its last token, which tells apart the answers to one
// connection. A subject of two tokens is returned whole: it is an inbox for one answer.
func inbox(reply string) string {
	if last := strings.LastIndexByte(reply, '.'); last > strings.IndexByte(reply, '.') {
		return reply[:last]
	}
	return reply
}
