package service

import (
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/admission"
)

// endpoint is one kind of request. A route makes it, and knows the types of its messages.
type endpoint struct {
	service       *Service
	name, subject string
	// everyone: all instances answer, and not one of them.
	everyone bool
	// admit refuses a call before its body is read. It may be nil.
	admit func(*call) error
	// query: a worker handles it, and not the goroutine that it arrives on.
	query bool
	// leases: its requests open or extend leases. If such requests are lost, an amnesty begins,
	// so that nobody's lease runs out for it. A flood of other requests must not cause one.
	leases bool
	// renewal: its requests renew leases and do nothing else.
	renewal bool
	// open makes a call of the endpoint's kind.
	open  func() request
	stats endpointStats
}

// request is a call of any kind. Handle reads and checks its body, and answers or submits it.
// It runs on the goroutine that requests arrive on, or for a query on a worker's. It must not
// wait.
type request interface {
	admission.Request
	base() *call
}

// receive is called with every request that arrives. Each gets exactly one answer, unless it
// wants none, or so many are refused at once that this one gets none.
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
	c.endpoint, c.msg, c.begun, c.reads, c.traced = e, m, time.Now(), e.query, protocol.TraceParent(m.Header)
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

// submit has a command appended. The waiter is answered when the command is applied.
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

// refuseChange refuses what goes through the journal while the instance is cut off from it, or
// while too many answers wait to be sent.
func (s *Service) refuseChange() error {
	if s.responder.full() {
		return protocol.ErrOverloaded.With("too many answers wait to be sent: nothing was done, try again")
	}
	return s.refuseStale()
}

// refuseStale refuses changes while the instance is stale (G12).
func (s *Service) refuseStale() error {
	if s.stale() {
		return protocol.ErrUnavailable.With("this instance is cut off from the journal, or catching up with it: nothing was done, try again")
	}
	return nil
}

// stale reports whether the state may be older than protocol.StaleAfter.
func (s *Service) stale() bool {
	return s.journal.SinceCurrent() > protocol.StaleAfter || s.pauses.paused()
}
