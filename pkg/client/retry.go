package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// How often a request is asked again.
const (
	// If nobody answers. In a cluster of NATS servers a new subscription may be unknown
	// elsewhere for some milliseconds, and while the only instance restarts there is
	// none. The pauses grow. After noRespondersFor it gives up, because the prefix may
	// be wrong.
	noRespondersWait    = 5 * time.Millisecond
	noRespondersWaitMax = 250 * time.Millisecond
	noRespondersFor     = 3 * time.Second
	// How often a repeatable request is repeated if no answer came.
	noAnswerRetries = 2
	// The backoff while the service is overloaded or unavailable.
	busyWait    = 50 * time.Millisecond
	busyWaitMax = 2 * time.Second
)

// call makes a request, with retries.
func (c *Client) call(ctx context.Context, r request, reply any) error {
	return c.retry(ctx, r.repeatable, func(ctx context.Context) error { return c.ask(ctx, r, reply) })
}

// bounded returns ctx with the deadline of Options.Patience, unless it has one already.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, chosen := ctx.Deadline(); chosen {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.opts.Patience)
}

// retry makes attempts until one succeeds, fails for good, or ctx or
// Options.Patience ends:
//
//	overloaded, unavailable      nothing was done: again, with backoff, until the end
//	rate_limited                 nothing was done: again at the time it says, if repeatable
//	no responders                nobody got it: again, for noRespondersFor
//	no answer, outcome_unknown   again, noAnswerRetries times, if repeatable
//	others                       never again, above all session_replaced
//
// When time runs out, the error includes the error of the last attempt.
func (c *Client) retry(ctx context.Context, repeatable bool, attempt func(context.Context) error) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var noResponders, noAnswers, busy int
	var nobodySince time.Time
	for {
		err := attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var wait time.Duration
		switch {
		case errors.Is(err, nats.ErrNoResponders): // first: it is ErrUnavailable as well
			if noResponders == 0 {
				nobodySince = time.Now()
			}
			wait = backoff(noResponders, noRespondersWait, noRespondersWaitMax)
			if time.Since(nobodySince)+wait > noRespondersFor {
				return err
			}
			noResponders++
		case errors.Is(err, protocol.ErrOverloaded), errors.Is(err, protocol.ErrUnavailable):
			wait = backoff(busy, busyWait, busyWaitMax)
			busy++
			noResponders = 0 // somebody was there
		case repeatable && errors.Is(err, protocol.ErrRateLimited):
			wait = retryAfter(err) + jitter(busyWait)
			noResponders = 0
		case repeatable && (errors.Is(err, errNoAnswer) || errors.Is(err, protocol.ErrOutcomeUnknown)):
			if noAnswers == noAnswerRetries {
				return err
			}
			wait = jitter(busyWait)
			noAnswers++
		default:
			return err
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("%w (the last attempt: %w)", ctx.Err(), err)
		}
	}
}
