package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"presence/pkg/protocol"
)

// settleMargin is added to protocol.OutcomeWithin, which the service counts from the arrival of a
// request: for the time that the request was under way.
const settleMargin = time.Second

// UnknownOutcome is the error of a change of which it is not known whether it is done, or will be:
// the service said so, or its answer did not come in time. It is protocol.ErrOutcomeUnknown for
// errors.Is. Client.Settle tells what became of the change.
//
//	if u, ok := errors.AsType[*client.UnknownOutcome](err); ok {
//		own, err := c.Settle(ctx, "alice", u.SentAt)
//	}
type UnknownOutcome struct {
	// SentAt is when the change was sent, the last time if it was sent several times.
	SentAt time.Time
	// Err is what happened.
	Err error
}

func (u *UnknownOutcome) Error() string { return u.Err.Error() }
func (u *UnknownOutcome) Unwrap() error { return u.Err }

// SettledAt is from when on a get with Fresh shows for good what became of the change. Settle waits
// until then; who may not ask for a user's own status, as a gateway, does so by itself.
func (u *UnknownOutcome) SettledAt() time.Time { return settledAt(u.SentAt) }

func settledAt(sent time.Time) time.Time { return sent.Add(protocol.OutcomeWithin + settleMargin) }

// withSentAt adds to an error of an unknown outcome when the change was sent.
func withSentAt(err error, sent time.Time) error {
	if errors.Is(err, protocol.ErrOutcomeUnknown) {
		return &UnknownOutcome{SentAt: sent, Err: err}
	}
	return err
}

// Settle tells what holds for a user, and will not be changed any more by a change that was sent at
// a moment and of which the outcome is unknown. It waits until 11 s after that moment, and then asks:
// what it returns includes that change, or the change will never be done (PROTOCOL 6). It says
// nothing of contacts, which are not in the journal.
//
// It ends with ctx; one without a deadline bounds the asking by Options.Patience, not the waiting.
// On an error nothing is settled: call it again. It may be called by any goroutine, for a change that
// any client made, also in an earlier run of a process that has noted when it sent it.
func (c *Client) Settle(ctx context.Context, userID string, sent time.Time) (protocol.OwnStatusReply, error) {
	var none protocol.OwnStatusReply
	if err := protocol.CheckUserID(userID); err != nil {
		return none, err
	}
	if !sleep(ctx, time.Until(settledAt(sent))) {
		return none, ctx.Err()
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	for attempt := 0; ; attempt++ {
		// The fresh read settles it. The owner's view, which has the truth of an invisible user, is
		// of any instance, so it must have come as far.
		pages, err := c.fetch(ctx, []string{userID}, query{fresh: true, current: true})
		if err != nil {
			return none, fmt.Errorf("settling what became of a change of %q: %w", userID, err)
		}
		own, err := c.OwnStatus(ctx, userID)
		switch {
		case err != nil:
			return none, fmt.Errorf("settling what became of a change of %q: %w", userID, err)
		case !own.Stale && own.Epoch == pages[0].Epoch && own.Revision >= pages[0].Revision:
			return own, nil
		}
		if !sleep(ctx, backoff(attempt, busyWait, busyWaitMax)) {
			return none, fmt.Errorf("settling what became of a change of %q: %w", userID, ctx.Err())
		}
	}
}
