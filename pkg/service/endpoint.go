package service

import (
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/admission"
)

// endpoint is one kind of request, whatever the types of its messages: see route.
type endpoint struct {
	service       *Service
	name, subject string
	// everyone has all instances answer, and not one of them.
	everyone bool
	// admit, where there is one, refuses a call before its body is read.
	admit func(*call) error
	// query: it is handled by a worker, and not where it arrives.
	query bool
	// leases: where requests are lost, leases were not extended. Others can be lost
	// without anybody's lease running out for it, and a flood of them must not start an
	// amnesty.
	leases bool
	// open makes a call of the endpoint's kind.
	open  func() request
	stats endpointStats
}

// request is a call of any kind. Handle reads its body and checks it, and answers it or submits
// it. It is called where requests arrive, except that of a query, so it must not wait.
type request interface {
	admission.Request
	base() *call
}

// receive is the way in of every request. Each gets exactly one answer, whatever happens to it.
func (e *endpoint) receive(m *nats.Msg) {
	s := e.service
	if !s.subjects.ReplyAllowed(m.Reply) {
		e.stats.dropped.Add(1)
		s.log.Debug("dropped a request whose reply subject is not allowed", "subject", m.Subject, "reply", m.Reply)
		return
	}
	s.gate.Enter()
	defer s.gate.Leave()
	r := e.open()
	c := r.base()
	c.endpoint, c.msg, c.begun, c.reads = e, m, time.Now(), e.query
	err := s.admit(c)
	if err == nil && e.query {
		if !c.wantsReply() { // nobody wants to know
			c.finish(nil)
			return
		}
		err = s.gate.Query(r, &c.ticket, s.asker(c), len(m.Data))
	}
	switch {
	case err != nil && !s.gate.Refuse(r, err):
		e.stats.unanswered.Add(1)
	case err == nil && !e.query:
		r.Handle()
	}
}

// submit has a command appended. The waiter is answered when it is applied.
func (s *Service) submit(w waiter, command entry.Command) error {
	if err := s.refuseChange(); err != nil {
		return err
	}
	if s.journal.Losing() {
		return protocol.ErrUnavailable.With("the journal drops what it should keep: nothing was done, try again when an operator has mended that")
	}
	if late(w.arrived()) {
		return protocol.ErrUnavailable
	}
	if err := s.journal.Submit(command, w); err != nil {
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
