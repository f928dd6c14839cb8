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
	// GiveUp is for how long an entry is published again and waits for its acknowledgement. It
	// counts from the arrival of the entry's oldest request. So its callers have an answer within
	// 10 s (PROTOCOL 6).
	GiveUp = 9500 * time.Millisecond
	// LateAfter is how long a request may wait before it is packed. So each entry has time for
	// one publish at least. The caller of a request that waited longer is told that nothing was
	// done, which is better than an unknown outcome.
	LateAfter = GiveUp - AttemptTimeout - 500*time.Millisecond
	// attemptPause is the least time from the first publish of an entry to the second. It doubles
	// with each further one, up to AttemptTimeout.
	attemptPause = 50 * time.Millisecond
)

// Attempts are the failed publishes of one entry. From them follows whether the entry can be
// stored. The zero value is none.
type Attempts struct {
	failed     int
	unanswered bool // one of them had no answer, and may have stored the entry
}

// Failed notes how another publish failed, and reports whether to publish again. If not, outcome
// is what the entry's callers are told.
func (a *Attempts) Failed(err error) (again bool, outcome error) {
	a.failed++
	again = true
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		// The stream answered that it did not store the entry now. An earlier attempt
		// without an answer may have stored it.
		again = api.Code == 503 && a.unanswered
		err = fmt.Errorf("%s (JetStream's error %d)", api.Description, api.ErrorCode)
	case errors.Is(err, nats.ErrMaxPayload):
		// It was not sent: the server's limit is lower than when the entry was packed. Its
		// reports and renewals go into smaller entries.
		again = false
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrReconnectBufExceeded):
		// The stream has no leader at the moment, or the entry was not sent.
	default:
		a.unanswered = true
	}
	if a.unanswered {
		return again, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return again, fmt.Errorf("%w: %w", ErrRejected, err)
}

// Pause returns how long to wait before the next attempt. took is how long the last one took.
func (a *Attempts) Pause(took time.Duration) time.Duration {
	return max(0, min(AttemptTimeout, attemptPause<<min(a.failed-1, 6))-took)
}
