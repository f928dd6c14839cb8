package service

import (
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// endpoint is one kind of request.
type endpoint struct {
	service       *Service
	name, subject string
	// everyone has all instances answer, and not one of them.
	everyone bool
	// handle decodes and checks a call, and answers it or submits it. It runs
	// on the subscription's goroutine, so it must not wait. An error is sent
	// as the reply.
	handle func(*call) error
	// admit, where there is one, refuses a call before its body is read.
	admit func(*call) error
	// query: it is handled by a worker, and not where it arrives.
	query bool
	// leases: where requests are lost, leases were not extended. Others can be lost
	// without anybody's lease running out for it, and a flood of them must not start an
	// amnesty.
	leases bool
	stats  endpointStats
}

// routes is the table of all endpoints.
func (s *Service) routes() []*endpoint {
	user, gateway := s.subjects.AnyUser, s.subjects.AnyGateway
	all := []*endpoint{
		{name: "login", subject: user(protocol.OpLogin), handle: s.login, admit: s.admitChange, leases: true},
		{name: "renew", subject: user(protocol.OpRenew), handle: s.renew, admit: s.admitRenewal, leases: true},
		{name: "logout", subject: user(protocol.OpLogout), handle: s.logout, admit: s.admitChange},
		{name: "set", subject: user(protocol.OpSet), handle: s.set, admit: s.admitChange},
		{name: "status", subject: user(protocol.OpStatus), handle: s.ownStatus, query: true},
		{name: "contacts", subject: user(protocol.OpContacts), handle: s.ownContacts, admit: s.admitContacts},
		{name: "get", subject: s.subjects.Get(), handle: s.get, query: true},
		{name: "gateway-open", subject: gateway(protocol.OpOpen), handle: s.gatewayOpen, admit: s.admitOps, leases: true},
		{name: "gateway-renew", subject: gateway(protocol.OpRenew), handle: s.gatewayRenew, admit: s.admitRenewal, leases: true},
		{name: "gateway-apply", subject: gateway(protocol.OpApply), handle: s.gatewayApply, admit: s.admitOps},
		{name: "gateway-close", subject: gateway(protocol.OpClose), handle: s.gatewayClose, admit: s.admitOps},
		{name: "stats", subject: s.subjects.Stats(), handle: s.stats, query: true},
		{name: "list", subject: s.subjects.List(), handle: s.list, query: true},
		{name: "explain", subject: s.subjects.Explain(), handle: s.explain, query: true},
		{name: "kick", subject: s.subjects.Kick(), handle: s.kick},
		{name: "erase", subject: s.subjects.Erase(), handle: s.erase},
		{name: "instances", subject: s.subjects.Instances(), everyone: true, query: true, handle: s.describe},
		{name: "instance", subject: s.subjects.Instance(s.writer), query: true, handle: s.describe},
	}
	for _, e := range all {
		e.service = s
	}
	return all
}

// handler adapts an endpoint: every request gets exactly one answer, whatever
// happens to it.
func (s *Service) handler(e *endpoint) nats.MsgHandler {
	return func(m *nats.Msg) {
		r := request{m}
		if !s.subjects.ReplyAllowed(r.Reply()) {
			e.stats.dropped.Add(1)
			s.log.Debug("dropped a request whose reply subject is not allowed", "subject", r.Subject(), "reply", r.Reply())
			return
		}
		s.gate.Enter()
		defer s.gate.Leave()
		c := &call{endpoint: e, request: r, begun: time.Now()}
		err := s.admit(c)
		if err == nil && e.query {
			if !c.wantsReply() { // nobody wants to know
				c.finish(s, nil)
				return
			}
			err = s.gate.Query(c, &c.ticket, s.asker(c), len(r.Data()))
		}
		switch {
		case err != nil && !s.gate.Refuse(c, err):
			e.stats.unanswered.Add(1)
		case err == nil && !e.query:
			c.Handle()
		}
	}
}

// handle does something for a call, which is answered with the error where it
// fails or panics.
func (s *Service) handle(c *call, do func() error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a request made its handler panic", "subject", c.request.Subject(), "panic", p, "stack", string(debug.Stack()))
			c.fail(s, protocol.ErrInternal)
		}
	}()
	if err := do(); err != nil {
		c.fail(s, err)
	}
}

// decode reads a call's body.
func (c *call) decode(v any) error { return protocol.Unmarshal(c.request.Data(), v) }

// decodeUser reads the user from a call's subject, and its body.
func (s *Service) decodeUser(c *call, v any) (string, error) {
	user, err := s.subjects.ParseUser(c.request.Subject())
	if err != nil {
		return "", err
	}
	c.user = user
	return user, c.decode(v)
}

// decodeGateway reads the gateway from a call's subject, and its body.
func (s *Service) decodeGateway(c *call, v any) (string, error) {
	gateway, err := s.subjects.ParseGateway(c.request.Subject())
	if err != nil {
		return "", err
	}
	return gateway, c.decode(v)
}

// submit has a command appended; the call is answered when it is applied.
func (s *Service) submit(c *call, command entry.Command) error {
	if err := s.refuseChange(); err != nil {
		return err
	}
	if s.journal.Losing() {
		return protocol.ErrUnavailable.With("the journal drops what it should keep: nothing was done, try again when an operator has mended that")
	}
	if c.late() {
		return protocol.ErrUnavailable
	}
	if err := s.journal.Submit(command, c); err != nil {
		return journalError(err)
	}
	return nil
}

// refuseChange refuses what goes through the journal while the instance cannot do
// it: cut off from the journal, or from those who wait for its answers.
func (s *Service) refuseChange() error {
	if s.responder.full() {
		return protocol.ErrOverloaded.With("too many answers wait to be sent: nothing was done, try again")
	}
	return s.refuseStale()
}

// refuseStale refuses changes while the instance is cut off from the journal
// (G12).
func (s *Service) refuseStale() error {
	if s.stale() {
		return protocol.ErrUnavailable.With("this instance is cut off from the journal, or catching up with it: nothing was done, try again")
	}
	return nil
}

// stale reports whether the state may be older than protocol.StaleAfter.
func (s *Service) stale() bool {
	return s.journal.SinceApplied() > protocol.StaleAfter || s.pauses.paused()
}
