package service

import (
	"errors"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/admission"
	"presence/pkg/service/internal/journal"
)

// call is a request between its arrival and its answer. Every kind embeds it: change, renewal,
// query and contactsCall. Their own fields are those that only their kind needs.
type call struct {
	endpoint *endpoint
	msg      *nats.Msg
	begun    time.Time
	owner    string // the user or gateway in the subject; empty: it names none
	reads    bool   // it changes nothing
	traced   string // the trace that the request names; empty: none
	ticket   admission.Ticket
}

// waiter waits for an entry to be applied: a call, or a barrier of the service's own.
type waiter interface {
	arrived() time.Time
	trace() string // the trace of its request; empty: none
	// failed says what it means to the waiter that the journal failed.
	failed(err error) *protocol.Error
	// done is called with the outcome, by the responder's goroutine.
	done(a *answer)
}

// answer is a waiter with its outcome: an error, or a command's result.
type answer struct {
	to     waiter
	result state.Result
	err    *protocol.Error
}

// failure returns the error in an outcome. nil: there is none.
func (a *answer) failure() *protocol.Error {
	if a.err != nil {
		return a.err
	}
	return a.result.Err
}

func (c *call) base() *call { return c }

func (c *call) arrived() time.Time { return c.begun }

func (c *call) trace() string { return c.traced }

func (c *call) failed(err error) *protocol.Error { return journalError(err) }

// Refuse is called by the gate with the error of a call that is refused before it is handled.
func (c *call) Refuse(err error) { c.fail(err) }

// handle runs do. If that fails or panics, the call is answered with the error.
func (c *call) handle(do func() error) {
	defer func() {
		if p := recover(); p != nil {
			c.endpoint.service.log.Error("a request made its handler panic", "subject", c.msg.Subject, "panic", p, "stack", string(debug.Stack()))
			c.fail(protocol.ErrInternal)
		}
	}()
	if err := do(); err != nil {
		c.fail(err)
	}
}

// wantsReply reports whether somebody waits: a request without a reply subject
// is fire-and-forget.
func (c *call) wantsReply() bool { return c.msg.Reply != "" }

// late reports whether too little is left of protocol.OutcomeWithin to do what arrived then. So
// it is after the process stood still.
func late(arrived time.Time) bool { return time.Since(arrived) > journal.LateAfter }

// succeed sends a reply.
func (c *call) succeed(body any) {
	c.succeedWith(func(b []byte) ([]byte, error) { return protocol.AppendMarshal(b, body) })
}

// succeedWith sends a reply, which encode appends to b.
func (c *call) succeedWith(encode func(b []byte) ([]byte, error)) {
	s := c.endpoint.service
	buffer := replyBuffers.Get().(*[]byte)
	defer replyBuffers.Put(buffer)
	data, err := encode((*buffer)[:0])
	*buffer = data[:0]
	if err == nil && len(data) > s.maxBody() {
		err = s.tooLarge(c, len(data))
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.finish(nil)
	if c.wantsReply() {
		c.respond(data, nil)
	}
}

// replyBuffers are used again: publishing copies the message.
var replyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// fail sends an error reply. An error that is not one of package protocol is a defect: it is
// logged here, and answered as internal.
func (c *call) fail(err error) {
	s := c.endpoint.service
	e := protocol.AsError(err)
	if e == protocol.ErrInternal {
		s.log.Error("a request failed", "subject", c.msg.Subject, "err", err)
	}
	c.finish(e)
	if !c.wantsReply() {
		return
	}
	data, err := protocol.Marshal(e)
	if err != nil {
		s.log.Error("an error reply cannot be encoded", "err", err)
		return
	}
	c.respond(data, errorHeader(e))
}

// finish counts a call that is about to be answered, and gives back what it took up in the gate.
func (c *call) finish(e *protocol.Error) {
	c.endpoint.stats.done(c.begun, e)
	c.endpoint.service.gate.Release(&c.ticket)
}

// respond sends a reply. The reply subject was checked when the request arrived.
func (c *call) respond(data []byte, header nats.Header) {
	s := c.endpoint.service
	err := s.replies.send(&nats.Msg{Subject: c.msg.Reply, Header: traced(header, c.traced), Data: data})
	if errors.Is(err, errUnsafe) {
		c.respondUnsent()
		return
	}
	if err != nil && s.unsent.Due(time.Now()) {
		s.log.Warn("a reply could not be sent", "subject", c.msg.Subject, "err", err)
	}
}

// respondUnsent sends an error instead of a reply that is too large to be sent.
func (c *call) respondUnsent() {
	e := protocol.ErrOutcomeUnknown.With("the reply could not be sent; the change may have been made")
	if c.reads {
		e = protocol.ErrUnavailable.With("the reply could not be sent: try again")
	}
	if data, err := protocol.Marshal(e); err == nil {
		c.respond(data, errorHeader(e))
	}
}

// errorHeader is the header of an error reply.
func errorHeader(e *protocol.Error) nats.Header {
	return nats.Header{
		protocol.ErrorHeader:     {e.Name + ": " + headerText(e.Message)},
		protocol.ErrorCodeHeader: {strconv.Itoa(e.Code)},
	}
}

// headerText makes a message fit into one line of a header. Messages may quote strings of
// requests, and those may contain any character.
func headerText(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < 0x20 || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}

// journalError returns the caller's error for a command that the journal did not take, or could
// not finish.
func journalError(err error) *protocol.Error {
	switch {
	case errors.Is(err, journal.ErrFull):
		return protocol.ErrOverloaded
	case errors.Is(err, journal.ErrRenewalPending):
		return protocol.ErrOverloaded.With("the renewal cannot be answered now: the lease is renewed all the same")
	case errors.Is(err, journal.ErrOutcomeUnknown):
		return protocol.ErrOutcomeUnknown
	case errors.Is(err, journal.ErrTooLarge):
		return protocol.ErrRequestTooLarge.With("the change is larger than the NATS server takes (max_payload): nothing was done")
	case errors.Is(err, journal.ErrRejected), errors.Is(err, journal.ErrStopped):
		return protocol.ErrUnavailable
	}
	return protocol.AsError(err)
}
