// Package admission decides which requests an instance takes on, and keeps those that wait.
//
//	gate := admission.New(admission.Limits{UserChanges: 20, …})
//	go gate.Run(ctx, answering)
//	if err := gate.Change(user, arrived); err != nil {
//		gate.Refuse(request, err)
//	}
//
// A request takes these ways through the gate:
//
//	arrival ─► Body, Change, ReadRenewal, GatewayRequest   before the body is read
//	        ─► AnswerRenewal, Apply                        once it is
//	        ─► Query      ─► a worker calls Handle         at most one for each processor
//	        ─► Contacts   ─► a worker for the user         they wait for JetStream
//	        ─► Order      ─► the worker for lists          it may take seconds
//	        ─► Refuse     ─► a goroutine calls Refuse
//
// Every method returns at once. What is over a limit gets an error of package protocol, and
// nothing was done. Everything that waits is bounded, and so is what is remembered of users.
package admission

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"
)

// Limits bound what a gate lets through. Package service documents each of them.
type Limits struct {
	// UserChanges and UserRenewals count in RateWindow, GatewayOps in a second. Each may
	// be Unlimited.
	UserChanges, UserRenewals, GatewayOps int

	BodyBytes, OpsPerApply int

	GatewayApplies         int
	QueryBytes, AskerBytes int
}

// Unlimited is a rate that limits nothing.
const Unlimited = -1

// LeastGatewayOps is the smallest rate of GatewayOps by which the largest apply can pass.
const LeastGatewayOps = protocol.MaxOpsPerApply / int(RateWindow/time.Second)

const (
	// floodTimes is how many times UserRenewals are read. Of those, UserRenewals are
	// answered.
	floodTimes = 10
	// MaxContactReads is how many reads of contacts a user may have waiting. They wait for
	// JetStream, on a worker that other users share.
	MaxContactReads = 8
	// opBytes is what an op of an apply has at least. A gateway's request costs as many ops
	// as that makes of its body, so that a long body without ops has its price too.
	opBytes = 512
)

// Request is one that waits in the gate.
type Request interface {
	// Handle does the request. It must answer, and must not panic.
	Handle()
	// Refuse answers with an error.
	Refuse(err error)
}

// Ticket is what a request takes up until it is answered. The zero value takes up nothing.
type Ticket struct {
	pending string // its key among the pending requests
	bytes   int    // what it counts for among the queries
	asker   int
}

// Gate is the admission of one instance. All methods may be called by any goroutine.
type Gate struct {
	limits Limits
	// Allowances of each user, or gateway.
	changes, renewals, floods, ops *rate
	pending                        pending
	queries                        *queries
	refusals                       *refusals
	contacts, orders               *workers
	active                         atomic.Int64
}

// New makes a gate. Nothing that waits in it is done until Run.
func New(l Limits) *Gate {
	return &Gate{
		limits:   l,
		changes:  newRate(l.UserChanges, RateWindow),
		renewals: newRate(l.UserRenewals, RateWindow),
		floods:   newRate(max(l.UserRenewals*floodTimes, Unlimited), RateWindow),
		ops:      newRate(l.GatewayOps, time.Second),
		queries:  newQueries(l.QueryBytes, l.AskerBytes),
		refusals: newRefusals(),
		contacts: newWorkers(contactWorkers),
		orders:   newWorkers(1),
	}
}

// Run does what waits until answering is done, and then what is left. Work for contacts and
// lists gets ctx: from its end on they are to give up and answer.
func (g *Gate) Run(ctx, answering context.Context) {
	var all sync.WaitGroup
	all.Go(func() { g.contacts.run(ctx, answering) })
	all.Go(func() { g.orders.run(ctx, answering) })
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			work(answering, g.queries.work, func(r Request) { r.Handle(); g.Leave() })
		})
	}
	all.Go(func() {
		work(answering, g.refusals.waiting, func(x refusal) { x.request.Refuse(x.err); g.Leave() })
	})
	all.Wait()
}

// Enter counts a request as active until Leave. The gate itself counts what waits in it.
func (g *Gate) Enter() { g.active.Add(1) }

// Leave ends what Enter began.
func (g *Gate) Leave() { g.active.Add(-1) }

// Active returns how many requests are being handled, or wait in the gate.
func (g *Gate) Active() int { return int(g.active.Load()) }

// Body refuses a body that is too long.
func (g *Gate) Body(bytes int) error {
	if most := g.limits.BodyBytes; bytes > most {
		return protocol.ErrRequestTooLarge.Withf("the body has %d bytes, at most %d are allowed", bytes, most)
	}
	return nil
}

// Change takes a change off a user's allowance.
func (g *Gate) Change(user string, now time.Time) error { return g.changes.admit(user, 1, now) }

// ReadRenewal takes a renewal off the allowance of those that are read at all. The key is
// the subject. Only a flood exceeds it, and no client sends one.
func (g *Gate) ReadRenewal(subject string, now time.Time) error {
	return g.floods.admit(subject, 1, now)
}

// AnswerRenewal takes a renewal off the allowance of those that are answered.
func (g *Gate) AnswerRenewal(owner string, now time.Time) error {
	return g.renewals.admit(owner, 1, now)
}

// GatewayRequest takes a request off a gateway's allowance, by the length of its body.
func (g *Gate) GatewayRequest(gateway string, bytes int, now time.Time) error {
	return g.ops.admit(gateway, opsOf(bytes), now)
}

// opsOf is what a gateway's request costs before it is read. It is never more than the
// smallest allowance that can be configured.
func opsOf(bytes int) int { return min(max(1, bytes/opBytes), protocol.MaxOpsPerApply) }

// Apply takes the ops of an apply off its gateway's allowance, once GatewayRequest has taken
// what the body costs. The apply is pending until it is answered. A gateway needs one at a
// time, and beside it what it asks again. So one that does not wait for its answers cannot
// fill the journal's queue.
func (g *Gate) Apply(t *Ticket, gateway string, ops, bytes int, now time.Time) error {
	if most := g.limits.OpsPerApply; ops > most {
		return protocol.ErrTooManyUsers.Withf("ops has %d ops, at most %d are allowed", ops, most)
	}
	most := g.limits.GatewayApplies
	if !g.pending.hold(t, gateway, most) {
		return protocol.ErrOverloaded.Withf("%d applies of this gateway wait already: wait for an answer before the next", most)
	}
	g.ops.give(gateway, opsOf(bytes)) // so that the refusal says when all of it would pass
	return g.ops.admit(gateway, max(ops, opsOf(bytes)), now)
}

// ReadContacts counts a read of contacts as pending until it is answered.
func (g *Gate) ReadContacts(t *Ticket, subject string) error {
	if !g.pending.hold(t, subject, MaxContactReads) {
		return protocol.ErrOverloaded.Withf("%d reads of these contacts wait already: wait for an answer before the next", MaxContactReads)
	}
	return nil
}

// Query has a query handled by a worker. The goroutine that requests arrive on so has time to
// refuse what is too much at once, and not only when its turn has come.
func (g *Gate) Query(r Request, t *Ticket, asker string, bytes int) error {
	if err := g.queries.take(t, asker, bytes); err != nil {
		return err
	}
	g.Enter()
	g.queries.work <- r // which has room for all that take lets through
	return nil
}

// Contacts has work done that waits for JetStream. Work for the same user is done in the
// order of arrival.
func (g *Gate) Contacts(user string, do func(context.Context)) error {
	return g.later(g.contacts, user, do)
}

// Order has work done that puts users in order. There is one worker for it, so that only
// other lists wait.
func (g *Gate) Order(do func(context.Context)) error { return g.later(g.orders, "", do) }

func (g *Gate) later(w *workers, key string, do func(context.Context)) error {
	g.Enter()
	if !w.do(key, func(ctx context.Context) { do(ctx); g.Leave() }) {
		g.Leave()
		return protocol.ErrOverloaded
	}
	return nil
}

// Refuse has a request answered with an error by a goroutine of its own. It reports false
// where so many refusals wait that this one is not sent.
func (g *Gate) Refuse(r Request, err error) bool {
	g.Enter()
	select {
	case g.refusals.waiting <- refusal{r, err}:
		return true
	default:
		g.Leave()
		return false
	}
}

// Release gives back what a request took up. Calling it twice does nothing.
func (g *Gate) Release(t *Ticket) {
	g.pending.release(t)
	g.queries.release(t)
}

// Remembered adds how many keys are remembered, by names.
func (g *Gate) Remembered(to map[string]int) {
	to["rates-of-changes"], to["rates-of-renewals"] = g.changes.keys(), g.renewals.keys()
	to["rates-of-floods"], to["rates-of-ops"] = g.floods.keys(), g.ops.keys()
	to["requests-pending"] = g.pending.keys()
}
