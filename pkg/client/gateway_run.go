package client

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// gatewayRun makes a gateway's requests, one after the other, on one goroutine, which owns
// everything here. The service does not keep requests in order (PROTOCOL 1), but so no
// request can overtake another.
//
// Each lease is opened with a new process ID (PROTOCOL 4.7), even by the same process
// after its lease was lost. So a late copy of a request of the earlier lease cannot be
// taken for one of this lease with the same seq.
type gatewayRun struct {
	g        *Gateway
	process  string
	retired  string // the process of a lease that may still exist and is to be closed
	sessions gatewaySessions

	opened  bool
	conn    context.Context // the connection of the lease; never ends if it is unbound
	back    <-chan struct{} // closed if the journal went back since: the lease may be gone
	ttl     time.Duration
	renewAt time.Time
	missed  int             // renewals in a row
	nudged  <-chan struct{} // the nudge that await has not answered yet closes it

	seq     uint64       // of the last request that was answered
	flight  gatewayPack  // the request under way, if any
	again   []string     // keys of held sessions to be logged in again
	backlog []*gatewayOp // ops that go before those in the queue
}

func (r *gatewayRun) init(g *Gateway) {
	r.g, r.process, r.sessions = g, uuid.NewString(), gatewaySessions{}
	r.nudged = g.c.link.nudges()
}

// loop makes requests until the gateway is closed (ErrGatewayClosed) or cannot go on.
// closeErr says that the lease could not be ended.
func (r *gatewayRun) loop(ctx context.Context) (err, closeErr error) {
	for failures := 0; ; {
		over, err := r.step(ctx)
		switch {
		case over:
			return ErrGatewayClosed, err
		case ctx.Err() != nil:
			return ErrGatewayClosed, context.Cause(ctx)
		case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, ErrClosed):
			if isClosed(r.g.closing) && r.g.how != LeaveSessions {
				return err, err
			}
			return err, nil
		case err == nil:
			failures = 0
			continue
		}
		wait := max(backoff(failures, busyWait, busyWaitMax), retryAfter(err))
		failures++
		r.warn("a gateway's request failed", "retryIn", wait, "err", err)
		if !r.pause(ctx, wait) {
			failures = 0
		}
	}
}

// pause waits. It returns false at once if the connection is gone: step waits for the next.
func (r *gatewayRun) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.g.c.link.current().Done():
		return false
	case <-ctx.Done():
	case <-t.C:
	}
	return true
}

func (r *gatewayRun) warn(msg string, args ...any) {
	r.g.c.opts.Logger.Warn(msg, append([]any{"gateway", r.g.id}, args...)...)
}

// step waits for something to do, makes the most urgent request, and reports whether that
// was the last.
func (r *gatewayRun) step(ctx context.Context) (over bool, err error) {
	if _, err := r.g.c.link.wait(ctx); err != nil {
		return false, err
	}
	switch {
	case !r.opened || r.conn.Err() != nil || isClosed(r.back):
		return false, r.open(ctx)
	case !time.Now().Before(r.renewAt):
		return false, r.renew(ctx)
	case r.flight.due():
		return false, r.apply(ctx)
	case len(r.again) > 0:
		r.packAgain()
		return false, r.apply(ctx)
	case r.retired != "":
		r.closeRetired(ctx)
		return false, nil
	}
	if r.await(ctx) {
		r.gather()
		if r.pack() {
			return false, r.apply(ctx)
		}
	} else if isClosed(r.g.closing) && len(r.backlog) == 0 && len(r.g.queue) == 0 {
		return r.close(ctx)
	}
	return false, nil
}

// await waits until there are ops to send. It returns false if something else is to be
// done first.
func (r *gatewayRun) await(ctx context.Context) bool {
	select {
	case o := <-r.g.queue: // with many ops this needs no timer
		r.backlog = append(r.backlog, o)
	default:
	}
	if len(r.backlog) > 0 {
		return true
	}
	timer := time.NewTimer(time.Until(r.renewAt))
	defer timer.Stop()
	select {
	case o := <-r.g.queue:
		r.backlog = append(r.backlog, o)
		return true
	case <-r.g.closing:
	case <-r.conn.Done():
	case <-r.back:
	case <-r.nudged:
		r.nudged = r.g.c.link.nudges()
		r.renewAt = time.Now()
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// giveUp answers the ops that are left when the gateway has ended.
func (r *gatewayRun) giveUp(err error) {
	if r.flight.due() {
		r.refuse(err)
	}
	r.drain(cap(r.g.queue))
	for _, o := range r.backlog {
		o.finish(err)
	}
	r.backlog, r.sessions, r.again = nil, nil, nil
	r.g.count.Store(0)
}
