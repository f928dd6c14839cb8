package journal

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// AttemptTimeout is how long one publish waits for its acknowledgement
	// before the entry is published again.
	AttemptTimeout = 2 * time.Second
	// GiveUp is how long an entry is published again and waits for its
	// acknowledgement, from the arrival of the request that waits longest. By that
	// its callers have an answer within 10 s (PROTOCOL 6).
	GiveUp = 9500 * time.Millisecond
	// LateAfter is how long a request may wait before it is packed. So an entry has
	// the time for one publish at least; who waited longer is told that nothing was
	// done, which is better than not to know.
	LateAfter = GiveUp - AttemptTimeout - 500*time.Millisecond
	// attemptPause is the least time between the first two publishes of an entry.
	// It doubles up to AttemptTimeout.
	attemptPause = 50 * time.Millisecond
)

// Attempts are the publishes of one entry that failed so far, and what they say
// of its fate. The zero value is none.
type Attempts struct {
	failed int
	// unanswered: of one of them nobody knows whether the entry was stored.
	unanswered bool
}

// Failed notes how another one failed and reports whether to publish again.
// outcome is what the entry's callers are told where it is not published again.
func (a *Attempts) Failed(err error) (again bool, outcome error) {
	a.failed++
	again = true
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		// The stream answered: it did not store this attempt. An earlier one
		// that nobody answered may have been.
		again = api.Code == 503 && a.unanswered
		err = fmt.Errorf("%s (JetStream's error %d)", api.Description, api.ErrorCode)
	case errors.Is(err, nats.ErrMaxPayload):
		// The server takes less since the entry was packed, and it was not sent. What
		// nobody waits for goes with smaller ones.
		again = false
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrReconnectBufExceeded):
		// Nobody leads the stream at the moment, or it was not sent.
	default:
		a.unanswered = true
	}
	if a.unanswered {
		return again, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return again, fmt.Errorf("%w: %w", ErrRejected, err)
}

// Pause returns how long to wait before the next one; took is how long the last
// one took.
func (a *Attempts) Pause(took time.Duration) time.Duration {
	return max(0, min(AttemptTimeout, attemptPause<<min(a.failed-1, 6))-took)
}
