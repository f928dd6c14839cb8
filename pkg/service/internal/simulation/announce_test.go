package simulation

import (
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/replica"
	"presence/pkg/service/internal/state"
)

// markEvery is as in package service.
const markEvery = 250 * time.Millisecond

// kick has the announcer look at the state.
func (p *process) kick() {
	p.kicked = true
	if !p.announcing && p.member {
		p.announcing = true
		p.announce()
	}
}

// announce is announcer.run: it publishes a batch, and asks the broker for a mark.
// Where nothing is to be published no time passes.
func (p *process) announce() {
	p.kicked = false
	p.publishOwed(func(more bool, err error) {
		switch {
		case err != nil:
			p.after(markEvery, p.announce)
		case more || p.w.now-p.markedAt >= markEvery:
			p.mark(func(error) {
				p.markedAt = p.w.now
				p.announced(more)
			})
		default:
			p.announced(more)
		}
	})
}

func (p *process) announced(more bool) {
	if more || p.kicked {
		p.announce()
		return
	}
	p.announcing = false
}

// publishOwed is announcer.publish.
func (p *process) publishOwed(done func(more bool, err error)) {
	turn := p.ledger.Turn()
	var batch []state.Announcement
	to, more := p.state.Owed(p.writer, turn.Cursor, p.w.plan.announceBatch, func(a state.Announcement) { batch = append(batch, a) })
	position := p.state.Position()
	if len(batch) == 0 && !more {
		done(p.ledger.Published(turn, to, position, more), nil)
		return
	}
	p.after(p.w.between(time.Microsecond, p.w.plan.slowAnnouncer), func() {
		if p.host.noClients > 0 && !p.host.swallows {
			done(true, errDisconnected)
			return
		}
		for i := range batch {
			if batch[i].Announce {
				p.publishEvent(batch[i].Public)
			}
		}
		done(p.ledger.Published(turn, to, position, more), nil)
	})
}

// mark is announcer.mark: a round trip to the broker.
func (p *process) mark(done func(error)) {
	turn, link := p.ledger.Turn(), p.host.link
	if p.host.noClients == 0 && p.w.happens(0.9) {
		p.ledger.Reached(turn, p.w.clock())
		done(nil)
		return
	}
	p.after(p.w.between(100*time.Microsecond, 5*time.Millisecond), func() {
		if p.host.noClients > 0 || p.host.link != link {
			p.after(p.w.between(time.Millisecond, replica.AnnounceAgain), func() { done(errDisconnected) })
			return
		}
		p.ledger.Reached(turn, p.w.clock())
		done(nil)
	})
}

// publishEvent sends an event to everybody who is there. Until the broker's
// servers have passed it on it may be lost with them, and then the instance's
// connection is too.
func (p *process) publishEvent(e protocol.Event) {
	w, h := p.w, p.host
	w.judge.announces(p, &e)
	if h.swallows {
		return
	}
	link := h.link
	within := 2 * time.Millisecond
	if w.happens(w.plan.slowEvents) {
		within = 2 * time.Second
	}
	w.after(w.between(20*time.Microsecond, within), func() {
		if h.link != link {
			w.say("event of %s %s is lost", e.UserID, showRevision(e.Revision))
			return
		}
		w.judge.heard(&e)
		for _, x := range w.watchers {
			times := 1
			if w.happens(w.plan.slowEvents) {
				times = w.chance.IntN(3) // one that is lost is noticed, see watcher
			}
			x.hear(e, times)
		}
	})
}

// stop is SIGTERM: Service.drain. The process ends when it has done everything,
// or after a while.
func (h *host) stop(stopped func()) {
	p := h.p
	if p == nil || !p.member {
		h.crash()
		stopped()
		return
	}
	h.w.say("%s is to stop", h.name)
	p.member, p.leaving = false, true
	p.ledger.Finish()
	end := func(why string) {
		if p.dead {
			return
		}
		for _, f := range p.flights() {
			p.fail(f, errTimeout)
		}
		h.w.say("%s stops: %s", h.name, why)
		p.dead, h.p = true, nil // what it sent is on its way
		h.w.stream.leave(p.follower)
		stopped()
	}
	timeout := 10 * time.Second
	p.drain(h.w.now+timeout, end)
}

// drain waits until the requests on their way are handled, and settles.
func (p *process) drain(deadline time.Duration, end func(string)) {
	if p.coming > 0 && p.w.now < deadline {
		p.after(time.Millisecond, func() { p.drain(deadline, end) })
		return
	}
	timeout := 10 * time.Second
	if p.waiting == 0 && len(p.waiters) == 0 {
		timeout = 2 * time.Second
	}
	p.after(timeout, func() { end("there is no more time") })
	p.settle(end)
}

// settle is Service.settle.
func (p *process) settle(end func(string)) {
	p.flush(func(err error) {
		if err != nil {
			end("it cannot announce")
			return
		}
		p.barrier(func(err error) {
			owes := false
			p.state.Owed(p.writer, state.Cursor{}, 1, func(state.Announcement) { owes = true })
			switch {
			case err != nil:
				end("it cannot append")
			case p.waiting == 0 && p.packing.Empty() && !owes:
				p.w.judge.settled(p)
				end("everything is done")
			default:
				p.settle(end)
			}
		})
	})
}

// flush is announcer.flush.
func (p *process) flush(done func(error)) {
	p.publishOwed(func(more bool, err error) {
		switch {
		case err != nil:
			done(err)
		case more:
			p.flush(done)
		default:
			p.mark(done)
		}
	})
}

// watcher follows PROTOCOL 5: it subscribes, gets, and merges.
type watcher struct {
	w     *world
	name  string
	fresh bool // it gets fresh, once after each reconnect; or not fresh, and once a minute

	connected bool
	run       int // of its connection
	known     []known
}

// known is what a watcher knows of a user as of a revision.
type known struct {
	status  protocol.Status
	asOf    uint64
	fetched bool
}

func (x *watcher) connect() {
	if x.w.brokerDown {
		x.w.after(time.Second, x.connect)
		return
	}
	x.connected = true
	x.run++
	x.known = make([]known, len(x.w.plan.users))
	x.fetch(x.run)
}

func (x *watcher) disconnect() { x.connected = false }

// fetch gets everything, until it has an answer.
func (x *watcher) fetch(run int) {
	w := x.w
	w.send(&request{what: "get by " + x.name, get: w.plan.users, fresh: x.fresh, done: func(r *reply) {
		if !x.connected || x.run != run {
			return
		}
		if r.err != nil {
			w.after(w.between(10*time.Millisecond, time.Second), func() { x.refetch(run) })
			return
		}
		for i, st := range r.statuses {
			if k := &x.known[i]; r.revision > k.asOf || !k.fetched {
				if r.revision > k.asOf {
					k.status, k.asOf = st, r.revision
				}
				k.fetched = true
			}
		}
		if !x.fresh {
			w.after(w.between(50*time.Second, 60*time.Second), func() { x.refetch(run) })
		}
	}})
}

func (x *watcher) refetch(run int) {
	if x.connected && x.run == run {
		x.fetch(run)
	}
}

// hear gets an event so many times, late and in any order. Who gets it not at all
// lost its connection.
func (x *watcher) hear(e protocol.Event, times int) {
	if !x.connected {
		return
	}
	w, run := x.w, x.run
	if times == 0 {
		w.say("%s loses its connection", x.name)
		x.disconnect()
		w.after(w.between(time.Millisecond, 10*time.Second), x.connect)
		return
	}
	for range times {
		w.after(w.between(10*time.Microsecond, 100*time.Millisecond), func() {
			if !x.connected || x.run != run {
				return
			}
			for i, user := range w.plan.users {
				if k := &x.known[i]; user == e.UserID && e.Revision > k.asOf {
					k.status, k.asOf = e.Status, e.Revision
				}
			}
		})
	}
}
