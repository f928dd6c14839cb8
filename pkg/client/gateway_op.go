package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"presence/pkg/protocol"
)

// gatewayOp is one change between its call and its answer.
type gatewayOp struct {
	protocol.Op
	state  atomic.Int32
	answer chan error // holds one; nil where nobody waits
}

// The states of a gatewayOp. It waits until either run takes it into a request or its
// caller gives it up.
const (
	opWaits = iota
	opTaken
	opGivenUp
)

// opPool keeps ops whose answer was received, so that neither side uses them any more.
var opPool = sync.Pool{New: func() any { return &gatewayOp{answer: make(chan error, 1)} }}

// do queues a change and waits for its answer. It needs no goroutine, timer or context of
// its own. Whatever is in the queue gets an answer, at the latest when the gateway ends.
func (g *Gateway) do(ctx context.Context, op protocol.Op) error {
	if err := op.Check(protocol.MostCustomStatusBytes); err != nil {
		return err
	}
	if isClosed(g.closing) {
		return g.endedError()
	}
	o := opPool.Get().(*gatewayOp)
	o.Op = op
	o.state.Store(opWaits)
	if err := g.queue.put(ctx, o, g.closing); errors.Is(err, ErrGatewayClosed) {
		return g.endedError()
	} else if err != nil {
		return err
	}
	select {
	case err := <-o.answer:
		opPool.Put(o)
		return err
	case <-ctx.Done():
		return g.leave(ctx, o)
	}
}

// leave gives up an op whose caller's context ended before the answer came. A login or set
// that was not sent yet is not done, as if it had never been called. All other ops are:
// a session that should end must not stay because its caller left.
func (g *Gateway) leave(ctx context.Context, o *gatewayOp) error {
	revocable := o.Op.Op == protocol.OpKindLogin || o.Op.Op == protocol.OpKindSet
	if revocable && o.state.CompareAndSwap(opWaits, opGivenUp) {
		return fmt.Errorf("not sent: %w", ctx.Err())
	}
	return fmt.Errorf("%w: %w", protocol.ErrOutcomeUnknown.With("no answer yet: the change may still be done"), ctx.Err())
}

func (g *Gateway) endedError() error {
	if err := g.Err(); err != nil {
		return err
	}
	return ErrGatewayClosed
}

// take makes the op part of a request, unless its caller gave it up.
func (o *gatewayOp) take() bool {
	return o.state.CompareAndSwap(opWaits, opTaken) || o.state.Load() == opTaken
}

// finish answers the caller, who may use the op for something else at once.
func (o *gatewayOp) finish(err error) {
	if o.answer != nil {
		o.answer <- err
	}
}
