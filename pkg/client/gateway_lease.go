package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"presence/pkg/protocol"
)

// ask makes one attempt of a request about the lease, and waits for the answer. Meanwhile the
// answers to applies wait.
func (r *gatewayRun) ask(ctx context.Context, op string, body, reply any) error {
	subject, err := r.g.c.subjects.Gateway(r.g.id, op)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	return r.g.c.ask(ctx, request{subject: subject, body: body, repeatable: true}, reply)
}

// patience is how long an attempt waits for its answer. It is short enough for the next renewal.
func (r *gatewayRun) patience() time.Duration {
	if r.ttl > 0 {
		return min(r.g.c.opts.Timeout, r.ttl/3)
	}
	return r.g.c.opts.Timeout
}

// open opens the lease, or binds it to the current connection. If the connection is
// replaced before the reply comes, conn has ended, and the lease is bound once more.
func (r *gatewayRun) open(ctx context.Context) error {
	conn, identity, err := r.g.c.link.identity(ctx)
	if err != nil {
		return err
	}
	if r.g.opts.Unbound {
		conn, identity = context.Background(), nil
	}
	begun, back := time.Now(), r.g.c.own.seen.back()
	req := r.g.opts.request(r.process, identity)
	var reply protocol.LeaseReply
	if err := r.ask(ctx, protocol.OpOpen, req, &reply); err != nil {
		return err
	}
	r.opened, r.conn, r.back = true, conn, back
	r.renewed(begun, &reply)
	r.flights.allow(reply.Window)
	// A lease that has done nothing may be another one than the first request was for.
	if reply.Seq < r.seq || reply.Seq == 0 && r.flights.any((*gatewayPack).mayBeDone) {
		r.leave(protocol.ErrLeaseNotFound.With("the lease was lost before it could be bound to the new connection"), true)
	}
	return nil
}

// renewed notes the reply about the lease, and when it was asked for.
func (r *gatewayRun) renewed(at time.Time, reply *protocol.LeaseReply) {
	r.g.c.own.note(reply.Epoch, reply.Revision)
	if reply.TTLSeconds > 0 {
		r.ttl = time.Duration(reply.TTLSeconds) * time.Second
	}
	r.ttl = max(r.ttl, time.Second)
	r.missed = 0
	r.renewAt = at.Add(r.interval())
}

// interval is the jittered time to the next renewal: at most a third of the TTL.
func (r *gatewayRun) interval() time.Duration { return r.ttl/3*3/4 + jitter(r.ttl/12) }

// renew makes one attempt to extend the lease. If it fails the next attempt comes soon,
// and changes are sent in between.
func (r *gatewayRun) renew(ctx context.Context) error {
	begun := time.Now()
	var reply protocol.LeaseReply
	err := r.ask(ctx, protocol.OpRenew, protocol.LeaseRequest{Process: r.process}, &reply)
	switch {
	case err == nil:
		r.renewed(begun, &reply)
		return nil
	case errors.Is(err, protocol.ErrLeaseNotFound):
		r.leave(err, false)
		return nil
	case errors.Is(err, protocol.ErrOverloaded), errors.Is(err, protocol.ErrRateLimited):
		// The lease is renewed all the same (PROTOCOL 6), unless the instance that
		// answered does not know it yet. There are two more renewals in its TTL.
		r.renewAt = begun.Add(r.interval())
		return nil
	}
	wait := backoff(r.missed, renewRetry, r.interval())
	r.renewAt = time.Now().Add(wait)
	r.missed++
	r.warn("a gateway's lease was not renewed", "retryIn", wait, "err", err)
	return nil
}

// leave gives the lease up, because of err. retire says that it may still exist. step starts over
// when all requests under way have landed: then it is known which were done.
func (r *gatewayRun) leave(err error, retire bool) {
	if r.left == nil {
		r.left = err
	}
	if retire {
		r.retired = r.process
	}
}

// startOver makes the next step open another lease and log everyone in again. It returns why the
// earlier one was left.
func (r *gatewayRun) startOver() error {
	err := r.left
	r.process, r.seq, r.opened, r.left = uuid.NewString(), 0, false, nil
	r.putBack()
	r.forgetEnding()
	r.again = slices.Collect(maps.Keys(r.sessions))
	r.warn("a gateway's lease was lost", "sessions", len(r.again))
	return err
}

// putBack makes the ops of the requests without an answer wait again. A set that the lost
// lease may have done is not repeated: others may have set something since.
func (r *gatewayRun) putBack() {
	var ops []*gatewayOp
	for _, p := range r.flights.list {
		if p.refusal != nil {
			p.refuse(p.refusal)
			continue
		}
		failed := p.failed()
		for i, o := range p.ops {
			set := o.Op.Op == protocol.OpKindSet
			switch {
			case p.again: // startOver logs in all sessions
			case set && p.answered: // before one that goes first
				o.finish(failed[i])
			case set && p.mayBeDone():
				o.finish(protocol.ErrOutcomeUnknown.With("the gateway's lease was lost before the change was answered"))
			default: // done on the next lease, in the same order, even if it was done on this one
				ops = append(ops, o)
			}
		}
	}
	r.backlog = append(ops, r.backlog...)
	r.flights.remove(len(r.flights.list))
}

// forgetEnding drops the sessions that a waiting op is about to end, so that their users
// do not become ONLINE once more for a moment. A session that is to be logged out was lost
// with the lease, and must be logged in before it can be logged out: that op is put before
// the logout, in the same request if possible.
func (r *gatewayRun) forgetEnding() {
	r.backlog = r.g.queue.take(r.backlog, r.g.queue.most-len(r.backlog))
	last := make(map[string]*gatewayOp) // about a session that is held
	for _, o := range r.backlog {
		switch o.Op.Op {
		case protocol.OpKindLogin, protocol.OpKindLogout, protocol.OpKindLost:
			if _, ok := r.sessions[sessionKey(&o.Op)]; ok {
				last[sessionKey(&o.Op)] = o
			}
		}
	}
	if len(last) == 0 {
		return
	}
	backlog := make([]*gatewayOp, 0, len(r.backlog)+len(last))
	for _, o := range r.backlog {
		if key := sessionKey(&o.Op); last[key] == o && o.Op.Op != protocol.OpKindLogin {
			if o.Op.Op == protocol.OpKindLogout {
				backlog = append(backlog, r.sessions.login(key))
			}
			r.drop(&o.Op)
		}
		backlog = append(backlog, o)
	}
	r.backlog = backlog
}

// closeRetired makes one attempt to end an earlier lease, after its sessions
// went over to the present one. If it fails, the lease runs out.
func (r *gatewayRun) closeRetired(ctx context.Context) {
	var reply protocol.LeaseReply
	if err := r.ask(ctx, protocol.OpClose, protocol.CloseRequest{Process: r.retired}, &reply); err != nil {
		r.warn("closing an earlier lease of a gateway", "err", err)
	}
	r.retired = ""
}

// close makes one attempt to end the lease as the owner wants, and reports whether no
// other is needed.
func (r *gatewayRun) close(ctx context.Context) (over bool, err error) {
	if r.g.how == LeaveSessions {
		return true, nil
	}
	var reply protocol.LeaseReply
	err = r.ask(ctx, protocol.OpClose, protocol.CloseRequest{Process: r.process, Logout: r.g.how == LogoutSessions}, &reply)
	if err == nil {
		r.g.c.own.note(reply.Epoch, reply.Revision)
		return true, nil
	}
	return !isTransient(err), err
}
