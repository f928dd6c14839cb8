// Package admission decides which requests an instance takes, and holds those that wait.
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
//	        ─► Query      ─► a worker calls Handle         as many workers as processors
//	        ─► Contacts   ─► a worker for the user         it waits for JetStream
//	        ─► Order      ─► the worker for lists          it may take seconds
//	        ─► Refuse     ─► a goroutine calls Refuse
//
// Every method returns at once. Over a limit it returns an error of package protocol, and does
// nothing. All that waits is bounded, and so is all that is remembered of users. Run owns all
// goroutines.
package admission

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"
)

// Limits bound what a gate lets through. Package service documents each one.
type Limits struct {
	// UserChanges and UserRenewals are for RateWindow, GatewayOps is for a second. Each may be
	// Unlimited.
	UserChanges, UserRenewals, GatewayOps int

	BodyBytes, OpsPerApply int

	GatewayApplies         int
	QueryBytes, AskerBytes int
}

// Unlimited is a rate that limits nothing.
const Unlimited = -1

// LeastGatewayOps is the smallest value of GatewayOps that lets the largest apply pass.
const LeastGatewayOps = protocol.MaxOpsPerApply / int(RateWindow/time.Second)

const (
	// floodTimes times UserRenewals is how many renewals are read. More are refused unread.
	floodTimes = 10
	// MaxContactReads is how many reads of a user's contacts may wait. They wait for JetStream,
	// on a worker that other users share.
	MaxContactReads = 8
	// opBytes is how many bytes of a gateway's request cost as much as an op. So a long body
	// without ops has its price too.
	opBytes = 512
)

// maxRefusals bounds the refusals that wait to be sent. A flood of more gets no answers.
const maxRefusals = 1 << 13

// refusal is a request that is refused before its body is read. A goroutine of its own answers it,
// because sending an answer takes longer than refusing. So whoever floods an endpoint does not keep
// others waiting there.
type refusal struct {
	request Request
	err     error
}

// Request is one that waits in the gate.
type Request interface {
	// Handle does the request. It must answer, and must not panic.
	Handle()
	// Refuse answers with an error.
	Refuse(err error)
}

// Ticket says what room a request takes until it is answered. The zero value takes none.
type Ticket struct {
	pending string // the request's key in Gate.pending
	bytes   int    // how much it counts in Gate.queries
	asker   int    // its asker's index there
}

// Gate is the admission of one instance. All methods may be called by any goroutine.
type Gate struct {
	limits atomic.Pointer[Limits]
	// Each of these has an allowance for each user, or gateway.
	changes, renewals, floods, ops *rate
	pending                        pending
	queries                        *queries
	refusals                       chan refusal
	contacts, orders               *workers
	active                         atomic.Int64
}

// New makes a gate. What waits in it is not handled until Run.
func New(l Limits) *Gate {
	g := &Gate{
		changes:  newRate(l.UserChanges, RateWindow),
		renewals: newRate(l.UserRenewals, RateWindow),
		floods:   newRate(l.floods(), RateWindow),
		ops:      newRate(l.GatewayOps, time.Second),
		queries:  newQueries(l.QueryBytes, l.AskerBytes),
		refusals: make(chan refusal, maxRefusals),
		contacts: newWorkers(contactWorkers),
		orders:   newWorkers(1),
	}
	g.limits.Store(&l)
	return g
}

// SetLimits changes the limits. What waits goes on waiting, also where it is more than a lower limit
// would have let in. What a user has used of an allowance stays used.
func (g *Gate) SetLimits(l Limits) {
	g.limits.Store(&l)
	g.changes.allow(l.UserChanges, RateWindow)
	g.renewals.allow(l.UserRenewals, RateWindow)
	g.floods.allow(l.floods(), RateWindow)
	g.ops.allow(l.GatewayOps, time.Second)
	g.queries.setLimits(l.QueryBytes, l.AskerBytes)
}

// floods is how many renewals are read in RateWindow.
func (l Limits) floods() int { return max(l.UserRenewals*floodTimes, Unlimited) }

// Run handles what waits until answering is done, and then what is left. Work for contacts and
// lists gets ctx: when that is done, the work should give up and answer.
func (g *Gate) Run(ctx, answering context.Context) {
	var all sync.WaitGroup
	all.Go(func() { g.contacts.run(ctx, answering) })
	all.Go(func() { g.orders.run(ctx, answering) })
	all.Go(func() { g.forget(answering) })
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			g.queries.run(answering, func(r Request) { r.Handle(); g.Leave() })
		})
	}
	all.Go(func() {
		work(answering, g.refusals, func(x refusal) { x.request.Refuse(x.err); g.Leave() })
	})
	all.Wait()
}

// forget forgets users who do nothing any more, until answering is done.
func (g *Gate) forget(answering context.Context) {
	for {
		select {
		case <-answering.Done():
			return
		case now := <-time.After(RateWindow + rand.N(RateWindow/4)):
			for _, r := range []*rate{g.changes, g.renewals, g.floods, g.ops} {
				r.forget(now)
			}
		}
	}
}

// Enter counts a request as active until Leave. The gate itself does so for all that waits in it.
func (g *Gate) Enter() { g.active.Add(1) }

// Leave ends what Enter began.
func (g *Gate) Leave() { g.active.Add(-1) }

// Active returns how many requests are being handled, or wait in the gate.
func (g *Gate) Active() int { return int(g.active.Load()) }

// Body refuses a body that is too long.
func (g *Gate) Body(bytes int) error {
	if most := g.limits.Load().BodyBytes; bytes > most {
		return protocol.ErrRequestTooLarge.Withf("the body has %d bytes, at most %d are allowed", bytes, most)
	}
	return nil
}

// Change takes a change off a user's allowance.
func (g *Gate) Change(user string, now time.Time) error { return g.changes.take(user, 1, now) }

// ReadRenewal takes a renewal off the allowance of renewals that are read at all, by the subject.
// Only a flood exceeds it, and no client sends one.
func (g *Gate) ReadRenewal(subject string, now time.Time) error {
	return g.floods.take(subject, 1, now)
}

// AnswerRenewal takes a renewal off the allowance of renewals that are answered.
func (g *Gate) AnswerRenewal(owner string, now time.Time) error {
	return g.renewals.take(owner, 1, now)
}

// GatewayRequest takes a request off a gateway's allowance, by the length of its body.
func (g *Gate) GatewayRequest(gateway string, bytes int, now time.Time) error {
	return g.ops.take(gateway, opsOf(bytes), now)
}

// opsOf returns how many ops a gateway's request costs before it is read. It is never more than
// the smallest allowance that can be configured.
func opsOf(bytes int) int { return min(max(1, bytes/opBytes), protocol.MaxOpsPerApply) }

// Apply takes the ops of an apply off its gateway's allowance. GatewayRequest has taken what the
// body costs by then. The apply counts as pending until it is answered. A gateway needs as many
// pending applies as its window allows (PROTOCOL 4.7). The bound keeps a gateway that does not
// wait for answers from filling the journal's queue.
func (g *Gate) Apply(t *Ticket, gateway string, ops, bytes int, now time.Time) error {
	if most := g.limits.Load().OpsPerApply; ops > most {
		return protocol.ErrTooManyUsers.Withf("ops has %d ops, at most %d are allowed", ops, most)
	}
	most := g.limits.Load().GatewayApplies
	if !g.pending.take(t, gateway, most) {
		return protocol.ErrOverloaded.Withf("%d applies of this gateway wait already: wait for an answer before the next", most)
	}
	g.ops.giveBack(gateway, opsOf(bytes)) // then a refusal says when all of it would pass
	return g.ops.take(gateway, max(ops, opsOf(bytes)), now)
}

// ReadContacts counts a read of contacts as pending until it is answered.
func (g *Gate) ReadContacts(t *Ticket, subject string) error {
	if !g.pending.take(t, subject, MaxContactReads) {
		return protocol.ErrOverloaded.Withf("%d reads of these contacts wait already: wait for an answer before the next", MaxContactReads)
	}
	return nil
}

// Query has a query handled by a worker. So the goroutine that requests arrive on can refuse what
// is too much at once, and not only after those before it are handled.
func (g *Gate) Query(r Request, t *Ticket, asker string, bytes int) error {
	g.Enter()
	err := g.queries.add(r, t, asker, bytes)
	if err != nil {
		g.Leave()
	}
	return err
}

// Contacts has work done that waits for JetStream. Work for one user is done in the order of
// arrival.
func (g *Gate) Contacts(user string, do func(context.Context)) error {
	return g.later(g.contacts, user, do)
}

// Order has work done that puts users in order. It has a worker of its own, so only other lists
// wait for it.
func (g *Gate) Order(do func(context.Context)) error { return g.later(g.orders, "", do) }

func (g *Gate) later(w *workers, key string, do func(context.Context)) error {
	g.Enter()
	if !w.do(key, func(ctx context.Context) { do(ctx); g.Leave() }) {
		g.Leave()
		return protocol.ErrOverloaded
	}
	return nil
}

// Refuse has a request answered with an error, by another goroutine. It reports false if so many
// refusals wait that this one is not sent.
func (g *Gate) Refuse(r Request, err error) bool {
	g.Enter()
	select {
	case g.refusals <- refusal{r, err}:
		return true
	default:
		g.Leave()
		return false
	}
}

// Release gives back the room that a request took. Calling it twice does nothing.
func (g *Gate) Release(t *Ticket) {
	g.pending.release(t)
	g.queries.release(t)
}

// Remembered adds to a map how many users and gateways are remembered, by names.
func (g *Gate) Remembered(to map[string]int) {
	to["rates-of-changes"], to["rates-of-renewals"] = g.changes.keys(), g.renewals.keys()
	to["rates-of-floods"], to["rates-of-ops"] = g.floods.keys(), g.ops.keys()
	to["requests-pending"] = g.pending.keys()
}
