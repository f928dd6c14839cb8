package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"presence/pkg/protocol"
)

// settleMargin is added to protocol.OutcomeWithin for the time that the request was under way: the
// service counts from its arrival.
const settleMargin = time.Second

// UnknownOutcome is the error of a change that may be done, now or later: the service said so, or
// its answer did not come in time. For errors.Is it is protocol.ErrOutcomeUnknown. Client.Settle
// tells whether the change was done.
//
//	if u, ok := errors.AsType[*client.UnknownOutcome](err); ok {
//		own, err := c.Settle(ctx, "alice", u.SentAt)
//	}
type UnknownOutcome struct {
	// SentAt is when the change was sent; if it was sent several times, the last time.
	SentAt time.Time
	// Err is what happened.
	Err error
}

func (u *UnknownOutcome) Error() string { return u.Err.Error() }
func (u *UnknownOutcome) Unwrap() error { return u.Err }

// SettledAt is when the outcome becomes final: a get with Fresh shows it from then on. Settle waits
// for that. A gateway cannot use Settle, because it may not ask for a user's own status: wait until
// SettledAt, then get.
func (u *UnknownOutcome) SettledAt() time.Time { return settledAt(u.SentAt) }

func settledAt(sent time.Time) time.Time { return sent.Add(protocol.OutcomeWithin + settleMargin) }

// withSentAt makes an UnknownOutcome of an error if the outcome is unknown.
func withSentAt(err error, sent time.Time) error {
	if errors.Is(err, protocol.ErrOutcomeUnknown) {
		return &UnknownOutcome{SentAt: sent, Err: err}
	}
	return err
}

// Settle tells whether a change was done that was sent at a moment and whose outcome is unknown. It
// waits until 11 s after that moment, and then asks for the user's own view. If that does not
// include the change, the change will never be done (PROTOCOL 6). Contacts are not in the journal,
// and Settle says nothing of them.
//
// It ends with ctx. If ctx has no deadline, Options.Patience bounds the asking, not the waiting. On
// an error nothing is settled: call it again. It may be called for a change of any client, also of
// an earlier run of a process that has noted when it sent the change.
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
		// The fresh read settles it. The owner's view, which is right also for an invisible user,
		// may come from another instance, so it must have the same revision at least.
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
