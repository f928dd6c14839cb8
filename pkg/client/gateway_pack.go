package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"presence/pkg/protocol"
)

const (
	// maxPackBytes bounds an apply request before its texts are escaped. That at most
	// doubles it, so it stays below MaxBodyBytes.
	maxPackBytes = 240 << 10
	// packGatherTurns bounds how often other goroutines may run before a request is
	// packed.
	packGatherTurns = 8
)

// gatewayPack is one apply request, until it is answered.
type gatewayPack struct {
	ops   []*gatewayOp // one for each of the request's ops
	again bool         // it logs held sessions in again
	// unsure: an attempt got no answer, so it may be done.
	unsure bool

	request protocol.ApplyRequest
	size    int // about
	body    []byte
}

func (p *gatewayPack) due() bool { return len(p.ops) > 0 }

// clear makes it empty. It keeps the buffers.
func (p *gatewayPack) clear() {
	clear(p.ops)
	clear(p.request.Ops)
	p.ops, p.request.Ops, p.body = p.ops[:0], p.request.Ops[:0], p.body[:0]
	p.again, p.unsure, p.size = false, false, 0
}

func (p *gatewayPack) add(o *gatewayOp) {
	p.ops = append(p.ops, o)
	p.request.Ops = append(p.request.Ops, o.Op)
	p.size += 90 + len(o.UserID) + len(o.SessionID) + len(o.Device) + len(o.Platform)
	if o.CustomStatus != nil {
		p.size += 80 + len(*o.CustomStatus)
	}
	if o.Availability != nil {
		p.size += 80
	}
}

// gather lets other goroutines run that are about to call, as long as more ops come. If no
// other runs, it returns at once.
func (r *gatewayRun) gather() {
	last := -1
	for range packGatherTurns {
		waiting := len(r.g.queue)
		if waiting == last || waiting >= protocol.MaxOpsPerApply {
			return
		}
		last = waiting
		runtime.Gosched()
	}
}

// pack makes the next request from waiting ops. It reports whether there is any: callers
// may have given all of them up.
func (r *gatewayRun) pack() bool {
	for r.room() {
		o := r.next()
		if o == nil {
			break
		}
		if o.take() {
			r.flight.add(o)
		}
	}
	return r.seal()
}

// packAgain makes the next request of sessions that are to be logged in again.
func (r *gatewayRun) packAgain() {
	r.flight.again = true
	for r.room() && len(r.again) > 0 {
		r.flight.add(r.sessions.login(r.again[0]))
		r.again = r.again[1:]
	}
	r.seal()
}

func (r *gatewayRun) room() bool {
	limit := maxPackBytes
	if most := r.g.c.nc.MaxPayload(); most > 0 {
		limit = min(limit, int(most)/2)
	}
	return len(r.flight.ops) < protocol.MaxOpsPerApply && r.flight.size < limit
}

// seal encodes the request, if it has any ops.
func (r *gatewayRun) seal() bool {
	p := &r.flight
	if !p.due() {
		return false
	}
	p.request.Process, p.request.Seq = r.process, r.seq+1
	p.body, _ = protocol.AppendMarshal(p.body[:0], &p.request) // never fails
	return true
}

// next returns the op that waits longest, nil for none.
func (r *gatewayRun) next() *gatewayOp {
	if len(r.backlog) > 0 {
		o := r.backlog[0]
		r.backlog = r.backlog[1:]
		if len(r.backlog) == 0 {
			r.backlog = nil
		}
		return o
	}
	select {
	case o := <-r.g.queue:
		return o
	default:
		return nil
	}
}

// drain moves at most n ops from the queue to the backlog.
func (r *gatewayRun) drain(n int) {
	for ; n > 0; n-- {
		select {
		case o := <-r.g.queue:
			r.backlog = append(r.backlog, o)
		default:
			return
		}
	}
}

// apply makes one attempt of the request that is due. It repeats the same one until that
// is answered, so that it is done once.
func (r *gatewayRun) apply(ctx context.Context) error {
	p := &r.flight
	var reply protocol.ApplyReply
	err := r.ask(ctx, protocol.OpApply, encoded(p.body), &reply)
	if n := reply.Applied + len(reply.Failures); err == nil && n != len(p.ops) {
		err = protocol.ErrInternal.Withf("%d changes were sent, %d answered", len(p.ops), n)
	}
	switch {
	case err == nil:
		r.g.c.own.note(reply.Epoch, reply.Revision)
		r.seq = p.request.Seq
		r.settle(reply.Failures)
		p.clear()
	case errors.Is(err, protocol.ErrLeaseNotFound):
		r.startOver(false)
	case isTransient(err):
		p.unsure = p.unsure || mayBeDone(err)
	default:
		// A defect, on either side. It is no longer known which sessions the lease
		// holds, so open another.
		r.refuse(err)
		r.startOver(true)
	}
	return err
}

// isTransient reports whether it may help to ask again.
func isTransient(err error) bool {
	if _, ok := errors.AsType[*protocol.Error](err); !ok {
		return true // no answer
	}
	for _, e := range []error{protocol.ErrUnavailable, protocol.ErrOverloaded, protocol.ErrOutcomeUnknown, protocol.ErrRateLimited} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// mayBeDone reports whether a request with a transient error may have been done.
func mayBeDone(err error) bool {
	_, answered := errors.AsType[*protocol.Error](err)
	return !answered || errors.Is(err, protocol.ErrOutcomeUnknown)
}

// refuse answers the callers of the due request with an error.
func (r *gatewayRun) refuse(err error) {
	p := &r.flight
	if p.unsure && !errors.Is(err, protocol.ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %w", protocol.ErrOutcomeUnknown, err)
	}
	for _, o := range p.ops {
		o.finish(err)
	}
	p.clear()
}

// settle answers the callers of a request that was answered.
func (r *gatewayRun) settle(failures []protocol.OpFailure) {
	var failed map[int]error
	if len(failures) > 0 {
		failed = make(map[int]error, len(failures))
		for _, f := range failures {
			failed[f.Index] = f.Err()
		}
	}
	for i, o := range r.flight.ops {
		o.finish(r.judge(&o.Op, failed[i]))
	}
}

// judge remembers the result of an op, and returns the error for its caller.
func (r *gatewayRun) judge(o *protocol.Op, err error) error {
	ended := errors.Is(err, protocol.ErrSessionNotFound) || errors.Is(err, protocol.ErrSessionReplaced)
	if ended && (o.Op == protocol.OpKindLogout || o.Op == protocol.OpKindLost) {
		err = nil // somebody else was faster
	}
	switch {
	case err == nil:
		r.sessions.note(o)
		r.g.count.Store(int64(len(r.sessions))) // before the caller hears of it
	case ended || r.flight.again:
		r.drop(o)
	}
	if err != nil && r.flight.again {
		r.g.ended.add(o.UserID, o.SessionID, err)
	}
	return err
}

func (r *gatewayRun) drop(o *protocol.Op) {
	r.sessions.drop(o)
	r.g.count.Store(int64(len(r.sessions)))
}
