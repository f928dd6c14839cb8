// Package streams finds JetStream streams, and creates those that are not there.
//
// While a stream, or JetStream itself, has no leader, nobody answers. A question from that time is
// never answered, so it must be asked again. A cluster that starts, or has lost a server, has no
// leader for a moment. One whose leader was just elected answers with errors, because the leader
// does not know the others yet.
package streams

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// AskTimeout bounds one question.
	AskTimeout = 2 * time.Second
	// askAgain is the pause before the next one.
	askAgain = 100 * time.Millisecond
)

// Ask asks until there is an answer or ctx is done. An error is an answer too, unless it says that
// the cluster is not ready. A question waits for AskTimeout at most. It may have been carried out
// without an answer, so it must be one that can be repeated.
func Ask[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	for {
		asking, cancel := context.WithTimeout(ctx, AskTimeout)
		answer, err := question(asking)
		cancel()
		if !unanswered(err) && !notReady(err) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(askAgain):
		}
	}
}

func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrDisconnected) // so a request ends whose connection is made anew
}

// The errors of a cluster that is not complete yet, or about to change its leader.
var notReadyCodes = []jetstream.ErrorCode{
	10004, // incomplete results
	10005, // no suitable peers for placement
	10007, // JetStream cluster not assigned to this server
	10008, // JetStream system temporarily unavailable
	10009, // JetStream cluster can not handle request
	10075, // peer remap failed
	10202, // cluster member change is in progress
}

func notReady(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains(notReadyCodes, api.ErrorCode)
}

// Find returns a stream, or jetstream.ErrStreamNotFound.
func Find(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	return Ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, name) })
}

// Create creates a stream, or returns the one that another instance has created meanwhile.
func Create(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	return Ask(ctx, func(ctx context.Context) (jetstream.Stream, error) {
		stream, err := js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // with another configuration
			return js.Stream(ctx, want.Name)
		}
		return stream, err
	})
}
