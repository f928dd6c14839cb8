package client

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// maxPackBytes bounds an apply request before its texts are escaped. That at most
	// doubles it, so it stays below MaxBodyBytes.
	maxPackBytes = 240 << 10
	// packGatherTurns bounds how often other goroutines may run before a request is
	// packed.
	packGatherTurns = 8
	// packWorthwhile is how many ops are always worth a request. A request costs both sides as much
	// as about 50 ops.
	packWorthwhile = 64
	// packSplit is how many ops are worth two requests, so that both sides work all the time. With
	// fewer that costs more than it gives.
	packSplit = 512
	// packHold bounds how long fewer ops wait for more, see hold. The timer may be late by a
	// millisecond.
	packHold = time.Millisecond
)

// gatewayPack is one apply request, until it is answered.
type gatewayPack struct {
	ops   []*gatewayOp // one for each of the request's ops
	again bool         // it logs held sessions in again

	attempt attempt // under way, if any
	// held: it is not sent before the one ahead of it is answered.
	held bool
	// unsure: an attempt got no answer, so it may be done.
	unsure   bool
	answered bool
	reply    protocol.ApplyReply // once answered
	refusal  error               // of a request that is a defect

	request protocol.ApplyRequest
	size    int // about
	body    []byte
}

func (p *gatewayPack) underWay() bool { return p.attempt.number != 0 }

// mayBeDone reports whether it may be done although it is not answered.
func (p *gatewayPack) mayBeDone() bool { return p.unsure || p.underWay() }

// clear makes it empty. It keeps the buffers.
func (p *gatewayPack) clear() {
	clear(p.ops)
	clear(p.request.Ops)
	*p = gatewayPack{ops: p.ops[:0], request: protocol.ApplyRequest{Ops: p.request.Ops[:0]}, body: p.body[:0]}
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
		waiting := r.g.queue.len()
		if waiting == last || waiting >= protocol.MaxOpsPerApply {
			return
		}
		last = waiting
		runtime.Gosched()
	}
}

// worthwhile returns how many ops are worth a request of their own now: as many as the largest one
// under way has, at most packWorthwhile.
func (r *gatewayRun) worthwhile() int {
	most := 1
	for _, p := range r.flights.list {
		if !p.answered {
			most = max(most, len(p.ops))
		}
	}
	return min(most, packWorthwhile)
}

// hold reports whether waiting ops are to wait for more of them. They do while there are fewer than
// worthwhile, for packHold at most. So a request that finds none under way never waits.
func (r *gatewayRun) hold(waiting int) bool {
	if waiting >= r.worthwhile() {
		r.heldUntil = time.Time{}
		return false
	}
	now := time.Now()
	if r.heldUntil.IsZero() {
		r.heldUntil = now.Add(packHold)
	}
	return now.Before(r.heldUntil)
}

// share returns how many of the waiting ops go into the next request. If none is under way, half of
// many: the other half follows at once.
func (r *gatewayRun) share(waiting int) int {
	if r.flights.limit > 1 && len(r.flights.list) == 0 && waiting >= packSplit {
		return (waiting + 1) / 2
	}
	return waiting
}

// pack makes the next request from waiting ops. It makes none if callers have given all of
// them up.
func (r *gatewayRun) pack() {
	r.heldUntil = time.Time{}
	r.backlog = r.g.queue.take(r.backlog, protocol.MaxOpsPerApply-len(r.backlog))
	n, share := 0, r.share(len(r.backlog))
	p := r.flights.add()
	for ; n < share && r.fits(p); n++ {
		if o := r.backlog[n]; o.take() {
			p.add(o)
		}
	}
	r.backlog = slices.Delete(r.backlog, 0, n)
	r.seal(p)
}

// packAgain makes the next request of sessions that are to be logged in again.
func (r *gatewayRun) packAgain() {
	p := r.flights.add()
	p.again = true
	for r.fits(p) && len(r.again) > 0 {
		p.add(r.sessions.login(r.again[0]))
		r.again = r.again[1:]
	}
	r.seal(p)
}

// fits reports whether a request has room for another op.
func (r *gatewayRun) fits(p *gatewayPack) bool {
	limit := maxPackBytes
	if most := r.g.c.nc.MaxPayload(); most > 0 {
		limit = min(limit, int(most)/2)
	}
	return len(p.ops) < protocol.MaxOpsPerApply && p.size < limit
}

// seal encodes the last request, or drops it if it has no ops.
func (r *gatewayRun) seal(p *gatewayPack) {
	if len(p.ops) == 0 {
		r.flights.list = r.flights.list[:len(r.flights.list)-1]
		return
	}
	p.request.Process, p.request.Seq = r.process, r.seq+uint64(len(r.flights.list))
	p.body, _ = protocol.AppendMarshal(p.body[:0], &p.request) // never fails
}

// read reads an answer.
func (p *gatewayPack) read(m *nats.Msg) error {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" { // as nats.Conn.Request does
		return fmt.Errorf("%w: %w", protocol.ErrUnavailable.Withf("nobody answers on %s", protocol.OpApply), nats.ErrNoResponders)
	}
	p.reply = protocol.ApplyReply{}
	if err := decode(m, &p.reply); err != nil {
		return err
	}
	if n := p.reply.Applied + len(p.reply.Failures); n != len(p.ops) {
		return protocol.ErrInternal.Withf("%d changes were sent, %d answered", len(p.ops), n)
	}
	return nil
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

// refuse answers the callers of a request with an error.
func (p *gatewayPack) refuse(err error) {
	if p.mayBeDone() && !errors.Is(err, protocol.ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %w", protocol.ErrOutcomeUnknown, err)
	}
	for _, o := range p.ops {
		o.finish(err)
	}
}

// failed returns the errors in the answer, by the places of the ops.
func (p *gatewayPack) failed() map[int]error {
	if len(p.reply.Failures) == 0 {
		return nil
	}
	failed := make(map[int]error, len(p.reply.Failures))
	for _, f := range p.reply.Failures {
		failed[f.Index] = f.Err()
	}
	return failed
}

// judgeAll answers the callers of a request that was answered.
func (r *gatewayRun) judgeAll(p *gatewayPack) {
	failed := p.failed()
	for i, o := range p.ops {
		o.finish(r.judge(&o.Op, failed[i], p.again))
	}
}

// judge remembers the result of an op, and returns the error for its caller.
func (r *gatewayRun) judge(o *protocol.Op, err error, again bool) error {
	ended := errors.Is(err, protocol.ErrSessionNotFound) || errors.Is(err, protocol.ErrSessionReplaced)
	if ended && (o.Op == protocol.OpKindLogout || o.Op == protocol.OpKindLost) {
		err = nil // somebody else was faster
	}
	switch {
	case err == nil:
		r.sessions.note(o)
		r.g.count.Store(int64(len(r.sessions))) // before the caller hears of it
	case ended || again:
		r.drop(o)
	}
	if err != nil && again {
		r.g.ended.add(o.UserID, o.SessionID, err)
	}
	return err
}

func (r *gatewayRun) drop(o *protocol.Op) {
	r.sessions.drop(o)
	r.g.count.Store(int64(len(r.sessions)))
}
