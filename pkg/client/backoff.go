package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"presence/pkg/protocol"
)

// backoff is the wait after n+1 failed attempts, n from 0. It doubles from first up to
// most, and is jittered, so that clients that failed together do not come back together.
func backoff(n int, first, most time.Duration) time.Duration {
	d := most
	if n < 20 && first<<n < most { // 20: no overflow for any sensible first
		d = first << n
	}
	return jitter(d)
}

// jitter returns something between half of d and d.
func jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Int64N(int64(d)/2+1))
}

// retryAfter is how long the service has asked to wait, by an error; 0 if it has not.
func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.RetryAfter()
	}
	return 0
}

// sleep waits for d or until ctx ends. It reports whether it waited for all of d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
