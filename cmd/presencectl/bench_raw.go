package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"
)

// sideConn is a second connection. What NATS refuses there does not end the command.
type sideConn struct {
	*nats.Conn
	refuse atomic.Pointer[context.CancelCauseFunc] // of the try under way; nil for none
}

// openSide connects as the command's first connection does.
func (b *bench) openSide(ctx context.Context, cmd *cli.Command) (*sideConn, error) {
	s := &sideConn{}
	nc, err := b.dial(ctx, cmd, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if refuse := s.refuse.Load(); refuse != nil && errors.Is(err, nats.ErrPermissionViolation) {
			(*refuse)(err)
		}
	}))
	if err != nil {
		return nil, &failure{err}
	}
	s.Conn = nc
	return s, nil
}

// try calls f and returns its error, or the permission that was missing meanwhile. One try may be
// under way at a time.
func (s *sideConn) try(ctx context.Context, f func(context.Context) error) error {
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	s.refuse.Store(&refuse)
	defer s.refuse.Store(nil)
	err := f(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, nats.ErrPermissionViolation) {
		return cause
	}
	return err
}

// echo is raw NATS beside an operation: a responder on the second connection whose answers are as
// large as those of the service.
type echo struct {
	subject   string
	operation *operation
	nc        *nats.Conn // of those who ask
}

// startEcho starts the responder, which ends with its connection. No role of PROTOCOL 9 may
// publish to an inbox, only who may do everything. Otherwise raw NATS is not measured.
func (b *bench) startEcho(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	answer, err := b.operation.ask(ctx, b.nc, 0)
	if err != nil {
		return err
	}
	e := &echo{subject: b.side.NewInbox(), operation: b.operation, nc: b.nc}
	_, err = b.side.Subscribe(e.subject, func(m *nats.Msg) {
		_ = m.Respond(answer.Data) // who asked sees that no answer comes
	})
	if err != nil {
		return err
	}
	// Both connections are of one user. So what is refused to this one would be to the other,
	// where a refusal ends the command.
	err = b.side.try(ctx, func(ctx context.Context) error {
		_, err := b.side.RequestWithContext(ctx, e.subject, nil)
		return err
	})
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		b.say("raw NATS is not measured: this NATS user may not publish to an inbox of its own")
		return nil
	case err != nil:
		return err
	}
	b.echo = e
	return nil
}

// call asks the responder what the operation asks the service.
func (e *echo) call(ctx context.Context, n int) error {
	_, body, err := e.operation.request(n)
	if err != nil {
		return err
	}
	_, err = askOnce(ctx, e.nc, e.subject, body)
	return err
}
