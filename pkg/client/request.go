package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

var (
	// errNoAnswer: the request was sent, and nothing came back.
	errNoAnswer = errors.New("no answer")
	errLost     = errors.New("the connection was lost meanwhile")
)

// encoded is a body that is JSON already.
type encoded []byte

type request struct {
	subject string
	body    any // a message, or encoded
	// repeatable: it does no harm to do it twice, see retry.
	repeatable bool
}

// ask makes one attempt. It sends only while connected: a request that nats.go buffers
// during an outage would take effect when nobody expects it any more.
func (c *Client) ask(ctx context.Context, r request, reply any) error {
	body, ok := r.body.(encoded)
	if !ok {
		var err error
		if body, err = protocol.Marshal(r.body); err != nil {
			return fmt.Errorf("encoding the request on %s: %w", r.subject, err)
		}
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	conn, err := c.link.wait(ctx)
	if err != nil && ctx.Err() == nil {
		return err // for good
	} else if err != nil {
		return fmt.Errorf("%w: %w", protocol.ErrUnavailable.With("not connected to NATS"), err)
	}
	// On a lost connection no answer comes: do not wait for it.
	stop := context.AfterFunc(conn, cancel)
	defer stop()

	sent := time.Now()
	msg, err := c.nc.RequestMsgWithContext(ctx, newRequest(ctx, r.subject, body))
	switch {
	case err == nil:
		if err = decode(msg, reply); err != nil {
			return withSentAt(err, sent)
		}
		return nil
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %w", protocol.ErrUnavailable.Withf("nobody answers on %s", r.subject), err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", protocol.ErrRequestTooLarge, err)
	case errors.Is(err, nats.ErrDisconnected), ctx.Err() != nil:
		cause := err
		if caller.Err() == nil && conn.Err() != nil {
			cause = errLost
		} else if caller.Err() == nil {
			cause = fmt.Errorf("within %v: %w", c.opts.Timeout, context.DeadlineExceeded)
		}
		if conn.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			notify(c.dog.doubt) // is it the service that does not answer, or is the connection dead?
		}
		if !r.repeatable {
			return withSentAt(fmt.Errorf("%w: %w on %s: %w", protocol.ErrOutcomeUnknown, errNoAnswer, r.subject, cause), sent)
		}
		return fmt.Errorf("%w on %s: %w", errNoAnswer, r.subject, cause)
	default:
		return fmt.Errorf("asking on %s: %w", r.subject, err)
	}
}

// decode reads a reply, which is an error if its header says so (PROTOCOL 6).
func decode(msg *nats.Msg, reply any) error {
	code := msg.Header.Get(protocol.ErrorCodeHeader)
	if code == "" {
		if err := protocol.Unmarshal(msg.Data, reply); err != nil {
			return fmt.Errorf("reading the reply: %w", protocol.ErrInternal.With(err.Error()))
		}
		return nil
	}
	e := new(protocol.Error)
	if json.Unmarshal(msg.Data, e) == nil && e.Name != "" {
		return e
	}
	// It is not from the service: an error of NATS micro has headers only.
	e = protocol.ErrInternal.With(msg.Header.Get(protocol.ErrorHeader))
	if n, err := strconv.Atoi(code); err == nil {
		e.Code = n
	}
	return e
}
