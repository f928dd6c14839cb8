package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// These are white-box tests, because retrying is a matter of seconds, which
// pass in a bubble only where no network is in it.

// errNobody is what ask makes of "no responders".
var errNobody = fmt.Errorf("%w: %w", protocol.ErrUnavailable, nats.ErrNoResponders)

// answers is a sequence of answers, the last one repeated, as attempts.
type answers struct {
	list  []error
	times []time.Duration // of the attempts, since the first
	begun time.Time
}

func (a *answers) attempt(context.Context) error {
	if a.times == nil {
		a.begun = time.Now()
	}
	a.times = append(a.times, time.Since(a.begun))
	return a.list[min(len(a.times), len(a.list))-1]
}

func (a *answers) last() time.Duration { return a.times[len(a.times)-1] }

func retried(ctx context.Context, repeatable bool, list ...error) (*answers, error) {
	c := &Client{opts: Options{}.withDefaults()}
	a := &answers{list: list}
	return a, c.retry(ctx, repeatable, a.attempt)
}

// TestRetry_WhatIsTriedAgain: how often each kind of answer is asked for again,
// where it stays the same, and what comes of it.
func TestRetry_WhatIsTriedAgain(t *testing.T) {
	const endless = -1
	for _, row := range []struct {
		name       string
		answer     error
		repeatable bool
		attempts   int
	}{
		{"overloaded", protocol.ErrOverloaded, false, endless},
		{"unavailable", protocol.ErrUnavailable, false, endless},
		{"rate_limited", protocol.ErrRateLimited.RetryIn(2 * time.Second), false, 1},
		{"outcome_unknown", protocol.ErrOutcomeUnknown, false, 1},
		{"outcome_unknown of what is repeatable", protocol.ErrOutcomeUnknown, true, 1 + noAnswerRetries},
		{"no answer", errNoAnswer, false, 1},
		{"no answer to what is repeatable", errNoAnswer, true, 1 + noAnswerRetries},
		{"session_replaced", protocol.ErrSessionReplaced, true, 1},
		{"session_not_found", protocol.ErrSessionNotFound, true, 1},
		{"revision_conflict", protocol.ErrRevisionConflict, true, 1},
		{"internal", protocol.ErrInternal, true, 1},
		{"the connection is closed", nats.ErrConnectionClosed, true, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				a, err := retried(t.Context(), row.repeatable, row.answer)
				if !errors.Is(err, row.answer) {
					t.Errorf("got %v, want %v", err, row.answer)
				}
				if row.attempts != endless {
					if len(a.times) != row.attempts {
						t.Errorf("%d attempts, want %d", len(a.times), row.attempts)
					}
					return
				}
				// Without a deadline of the caller's, Options.Patience is the end.
				if took := time.Since(begun); took != 30*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("given up after %v with %v, want after 30s", took, err)
				}
				// 50 ms, doubling to 2 s, half of it jitter: 20 to 40 attempts.
				if n := len(a.times); n < 20 || n > 40 {
					t.Errorf("%d attempts in 30s, want 20 to 40", n)
				}
			})
		})
	}
}

// TestRetry_RateLimited: what can be repeated is, when the answer says, and no
// sooner.
func TestRetry_RateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := retried(t.Context(), true, protocol.ErrRateLimited.RetryIn(2*time.Second), protocol.ErrRateLimited.RetryIn(time.Second), nil)
		if err != nil || len(a.times) != 3 {
			t.Fatalf("got %v after %d attempts, want success at the third", err, len(a.times))
		}
		if a.times[1] < 2*time.Second || a.times[2] < 3*time.Second || a.times[2] > 3*time.Second+200*time.Millisecond {
			t.Errorf("attempts at %v, want them 2 s and 1 s apart", a.times)
		}
	})
}

// TestRetry_UntilItSucceeds, through every answer after which nothing was done.
func TestRetry_UntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := retried(t.Context(), false, protocol.ErrUnavailable, errNobody, protocol.ErrOverloaded, protocol.ErrUnavailable, nil)
		if err != nil || len(a.times) != 5 {
			t.Errorf("got %v after %d attempts, want success at the fifth", err, len(a.times))
		}
		if a.last() > time.Second {
			t.Errorf("that took %v", a.last())
		}
	})
}

// TestRetry_TheCallersDeadlineDecides, be it shorter or longer than Options.Patience.
func TestRetry_TheCallersDeadlineDecides(t *testing.T) {
	for _, within := range []time.Duration{300 * time.Millisecond, 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			begun := time.Now()
			_, err := retried(ctx, false, protocol.ErrOverloaded)
			if took := time.Since(begun); took != within || !errors.Is(err, protocol.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %v: %v, want overloaded and the deadline after %v", took, err, within)
			}
		})
	}
}

// TestRetry_NobodyAnswers: as long as a restart takes, and not for the whole of
// a minute, because it may be the wrong prefix. Somebody who answers, be it
// "unavailable", begins the time anew.
func TestRetry_NobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		a, err := retried(ctx, false, errNobody)
		if !errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want no responders", err)
		}
		if last := a.last(); last < noRespondersFor-noRespondersWaitMax || last > noRespondersFor {
			t.Errorf("the last attempt was after %v, want about %v", last, noRespondersFor)
		}
		if a.times[3] > 50*time.Millisecond {
			t.Errorf("the fourth attempt came after %v: interest spreads in milliseconds", a.times[3])
		}
		list := []error{protocol.ErrUnavailable}
		for range 15 { // 1.3 to 2.6 s of nobody, three times
			list = append(list, errNobody)
		}
		list = append(slices.Concat(list, list, list), nil)
		if a, err := retried(ctx, false, list...); err != nil {
			t.Errorf("got %v after %v", err, a.last())
		}
	})
}
