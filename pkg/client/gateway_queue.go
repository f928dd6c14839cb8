package client

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// gatewayQueue holds a gateway's changes that wait to be sent, in the order of their calls. Callers
// put them in, and gatewayRun takes many at once. A channel would cost both sides more for each
// change.
type gatewayQueue struct {
	most int           // waits at a time
	wake chan struct{} // tells gatewayRun that there are as many as it wants

	mu     sync.Mutex // guards the rest
	ops    []*gatewayOp
	wanted int           // with so many gatewayRun is to be woken; 0: never
	room   chan struct{} // closed when there is room; nil: nobody waits for it
	closed bool
}

func (q *gatewayQueue) init(most int) {
	q.most, q.wake, q.wanted = most, make(chan struct{}, 1), 1
}

// put adds an op, and waits for room until ctx ends. It returns ErrGatewayClosed if the queue is
// closed, or there is no room and the gateway is closing.
func (q *gatewayQueue) put(ctx context.Context, o *gatewayOp, closing <-chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		room, err := q.tryPut(o)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("%d changes wait already: %w", q.most, ctx.Err())
		case <-closing:
			return ErrGatewayClosed
		}
	}
}

// tryPut adds an op or, where there is no room, returns a channel that is closed when there is.
func (q *gatewayQueue) tryPut(o *gatewayOp) (room <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return nil, ErrGatewayClosed
	case len(q.ops) >= q.most:
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return q.room, nil
	}
	q.ops = append(q.ops, o)
	if len(q.ops) == q.wanted {
		notify(q.wake)
	}
	return nil, nil
}

// take appends the n ops that wait longest to list, or all if there are fewer.
func (q *gatewayQueue) take(list []*gatewayOp, n int) []*gatewayOp {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = max(0, min(n, len(q.ops)))
	list = append(list, q.ops[:n]...)
	q.ops = slices.Delete(q.ops, 0, n)
	if q.room != nil && len(q.ops) < q.most {
		close(q.room)
		q.room = nil
	}
	return list
}

// want has wake told when so many ops wait, and reports whether they do already. 0: never.
func (q *gatewayQueue) want(n int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wanted = n
	return n > 0 && len(q.ops) >= n
}

// len returns how many ops wait.
func (q *gatewayQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ops)
}

// close returns what waits. Nothing is put in any more. Who waits for room is told by closing.
func (q *gatewayQueue) close() []*gatewayOp {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.ops
	q.ops, q.closed = nil, true
	return list
}
