package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// What ends a service that has served ends presenced, and so does what waiting
// does not mend.
func TestNotYet(t *testing.T) {
	noPeers := &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement"}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{noPeers, false},
		{notServed{fmt.Errorf("opening: %w", noPeers)}, true},
		{notServed{fmt.Errorf("opening: %w", &jetstream.APIError{Code: 503, ErrorCode: 10008})}, true},
		{notServed{fmt.Errorf("listing: %w", &jetstream.APIError{Code: 404, ErrorCode: 10059, Description: "stream not found"})}, true},
		{notServed{fmt.Errorf("opening: %w", context.DeadlineExceeded)}, true},
		{notServed{fmt.Errorf("opening: %w", nats.ErrNoResponders)}, true},
		{notServed{fmt.Errorf("opening: %w", nats.ErrTimeout)}, true},
		{notServed{&jetstream.APIError{Code: 500, ErrorCode: 10047, Description: "insufficient storage"}}, false},
		{notServed{errors.New("the stream cannot be the journal")}, false},
		{context.DeadlineExceeded, false},
	} {
		if got := notYet(c.err); got != c.want {
			t.Errorf("notYet(%v): got %v, want %v", c.err, got, c.want)
		}
	}
}

func TestLeaderless(t *testing.T) {
	for _, c := range []struct {
		connected, size int
		majority        bool
	}{{1, 3, true}, {2, 3, false}, {3, 3, false}, {2, 5, true}, {3, 5, false}, {2, 4, true}} {
		got := leaderless(broker.ClusterState{Connected: c.connected, Size: c.size})
		if want := "a majority of the cluster's servers"; (got == want) != c.majority {
			t.Errorf("%d of %d: got %q", c.connected, c.size, got)
		}
	}
}
