package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// These are white-box: from outside it is a matter of chance which changes travel together.

// Callers wait for room, in a full queue, until some is made, their context ends or the gateway
// closes. The queue wakes its reader at the number that it wants.
func TestGatewayQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q gatewayQueue
		q.init(3)
		closing := make(chan struct{})
		put := func(ctx context.Context) error { return q.put(ctx, new(gatewayOp), closing) }
		woken := func() bool { return len(q.wake) == 1 }
		if q.want(2) {
			t.Error("an empty queue has what is wanted")
		}
		for n := 1; n <= 3; n++ {
			if err := put(t.Context()); err != nil || woken() != (n >= 2) {
				t.Errorf("put %d: got %v, woken: %v", n, err, woken())
			}
		}
		if !q.want(3) || q.want(4) || q.want(0) {
			t.Error("want does not say whether 3 wait")
		}

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := put(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put without room: got %v", err)
		}
		results := make(chan error, 3)
		for range 3 {
			go func() { results <- put(t.Context()) }()
		}
		synctest.Wait()
		if list := q.take(nil, 2); len(list) != 2 {
			t.Errorf("took %d, want 2", len(list))
		}
		if first, second := <-results, <-results; first != nil || second != nil || q.len() != 3 {
			t.Errorf("with room for two: got %v and %v, and %d wait", first, second, q.len())
		}
		close(closing)
		if err := <-results; !errors.Is(err, ErrGatewayClosed) {
			t.Errorf("waiting for room at the end: got %v", err)
		}
		if n := len(q.close()); n != 3 {
			t.Errorf("%d were left, want 3", n)
		}
		if err := put(t.Context()); !errors.Is(err, ErrGatewayClosed) {
			t.Errorf("put behind the end: got %v", err)
		}
	})
}

// Few ops wait for more while a larger request is under way, and not for long.
func TestGatewayHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		request := func(ops int) *gatewayPack { return &gatewayPack{ops: make([]*gatewayOp, ops)} }
		answered := request(500)
		answered.answered = true
		for _, tt := range []struct {
			underWay []*gatewayPack
			waiting  int
			hold     bool
		}{
			{nil, 1, false},
			{[]*gatewayPack{request(1), request(1)}, 1, false},
			{[]*gatewayPack{request(1), request(10)}, 9, true},
			{[]*gatewayPack{request(1), request(10)}, 10, false},
			{[]*gatewayPack{request(1000)}, packWorthwhile - 1, true},
			{[]*gatewayPack{request(1000)}, packWorthwhile, false},
			{[]*gatewayPack{request(1), answered}, 1, false},
		} {
			var r gatewayRun
			r.flights.list = tt.underWay
			if got := r.hold(tt.waiting); got != tt.hold {
				t.Errorf("%d ops are held: got %v, want %v", tt.waiting, got, tt.hold)
			}
			time.Sleep(packHold)
			if r.hold(tt.waiting) {
				t.Errorf("%d ops are held for longer than %v", tt.waiting, packHold)
			}
		}
	})
}

// Many ops go in two requests, unless one is under way already, or no more than one may be.
func TestGatewayShare(t *testing.T) {
	var r gatewayRun
	for _, tt := range []struct{ limit, underWay, waiting, share int }{
		{4, 0, packSplit - 1, packSplit - 1},
		{4, 0, packSplit + 1, packSplit/2 + 1},
		{4, 1, packSplit + 1, packSplit + 1},
		{1, 0, packSplit + 1, packSplit + 1},
	} {
		r.flights.limit, r.flights.list = tt.limit, make([]*gatewayPack, tt.underWay)
		if got := r.share(tt.waiting); got != tt.share {
			t.Errorf("of %d, beside %d of %d requests: %d go next, want %d", tt.waiting, tt.underWay, tt.limit, got, tt.share)
		}
	}
}
