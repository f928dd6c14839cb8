package client

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// gatewayRun makes a gateway's requests on one goroutine, which owns everything here. Several
// applies may be under way at a time, see gatewayFlights. All other requests are awaited.
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

	seq      uint64 // of the last request that was answered with all before it
	flights  gatewayFlights
	left     error        // why the lease is to be left, see leave
	failures int          // in a row
	again    []string     // keys of held sessions to be logged in again
	backlog  []*gatewayOp // ops that go before those in the queue, and are few as a rule
	timer    *time.Timer  // of await
	// heldUntil is when the waiting ops go, however few they are; zero: they are not held.
	heldUntil time.Time
}

func (r *gatewayRun) init(g *Gateway) error {
	r.g, r.process, r.sessions = g, uuid.NewString(), gatewaySessions{}
	r.nudged = g.c.link.nudges()
	r.timer = time.NewTimer(time.Hour)
	r.flights.allow(1)
	return r.flights.listen(g.c.nc)
}

// loop makes requests until the gateway is closed (ErrGatewayClosed) or cannot go on.
// closeErr says that the lease could not be ended.
func (r *gatewayRun) loop(ctx context.Context) (err, closeErr error) {
	defer r.timer.Stop()
	for {
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
			continue
		}
		wait := max(backoff(r.failures, busyWait, busyWaitMax), retryAfter(err))
		r.failures++
		r.warn("a gateway's request failed", "retryIn", wait, "err", err)
		if !r.pause(ctx, wait) {
			r.failures = 0
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

// step does the most urgent thing, or waits for something to do. It reports whether that was the
// last. After an error there should be a pause.
func (r *gatewayRun) step(ctx context.Context) (over bool, err error) {
	conn, err := r.g.c.link.wait(ctx)
	if err != nil {
		return false, err
	}
	if err := r.receive(conn); err != nil {
		return false, err
	}
	switch {
	case r.left != nil && r.flights.underWay():
		return false, r.awaitLanding(ctx, conn)
	case r.left != nil:
		return false, r.startOver()
	case !r.opened || r.conn.Err() != nil || isClosed(r.back):
		return false, r.open(ctx)
	case !time.Now().Before(r.renewAt):
		return false, r.renew(ctx)
	}
	if p := r.flights.due(); p != nil {
		return false, r.send(p, conn)
	}
	return r.goOn(ctx, conn)
}

// goOn makes the next request or, if there is none to be made now, waits.
func (r *gatewayRun) goOn(ctx, conn context.Context) (over bool, err error) {
	waiting := len(r.backlog) + r.g.queue.len()
	switch room := r.flights.room(); {
	case len(r.again) > 0 && room:
		r.packAgain()
	case len(r.again) > 0:
		return false, r.await(ctx, conn, r.renewAt, 0)
	case r.retired != "" && !r.flights.any(func(p *gatewayPack) bool { return p.again }):
		r.closeRetired(ctx)
	case waiting > 0 && room && r.hold(waiting):
		return false, r.await(ctx, conn, r.heldUntil, r.worthwhile()-len(r.backlog))
	case waiting > 0 && room:
		r.gather()
		r.pack()
	case waiting == 0 && len(r.flights.list) == 0 && isClosed(r.g.closing):
		return r.close(ctx)
	case room:
		return false, r.await(ctx, conn, r.renewAt, 1)
	default:
		return false, r.await(ctx, conn, r.renewAt, 0)
	}
	return false, nil
}

// await waits until there may be something to do: as many ops in the queue as wanted, an answer, or
// anything else, and for no longer than until. If wanted is 0, it does not wait for ops.
func (r *gatewayRun) await(ctx, conn context.Context, until time.Time, wanted int) error {
	if r.g.queue.want(wanted) {
		return nil
	}
	closing := r.g.closing
	if len(r.flights.list) > 0 {
		closing = nil // they are answered first
	}
	r.timer.Reset(time.Until(r.flights.soonest(until)))
	select {
	case m := <-r.flights.answers:
		return r.answer(m)
	case <-r.g.queue.wake:
	case <-closing:
	case <-r.conn.Done():
	case <-conn.Done():
	case <-r.back:
	case <-r.nudged:
		r.nudged = r.g.c.link.nudges()
		r.renewAt = time.Now()
	case <-r.timer.C:
	case <-ctx.Done():
	}
	return nil
}

// awaitLanding waits for what becomes of an attempt.
func (r *gatewayRun) awaitLanding(ctx, conn context.Context) error {
	r.timer.Reset(time.Until(r.flights.soonest(time.Now().Add(r.patience()))))
	select {
	case m := <-r.flights.answers:
		return r.answer(m)
	case <-conn.Done():
	case <-r.timer.C:
	case <-ctx.Done():
	}
	return nil
}

// giveUp answers the ops that are left when the gateway has ended.
func (r *gatewayRun) giveUp(err error) {
	for _, p := range r.flights.list {
		p.refuse(err)
	}
	r.flights.remove(len(r.flights.list))
	for _, o := range append(r.backlog, r.g.queue.close()...) {
		o.finish(err)
	}
	r.backlog, r.sessions, r.again = nil, nil, nil
	r.g.count.Store(0)
}
