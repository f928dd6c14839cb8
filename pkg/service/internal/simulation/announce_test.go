package simulation

import (
	"time"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/replica"
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
	to, more := p.state.Pending(p.instance, turn.Cursor, p.w.plan.announceBatch, func(a state.Announcement) { batch = append(batch, a) })
	position, corrupt := p.state.Position(), p.corrupt
	if len(batch) == 0 && !more {
		done(p.ledger.Published(turn, to, position, more), nil)
		return
	}
	slow := p.w.plan.slowAnnouncer
	p.after(p.w.between(slow/4, slow), func() {
		if p.host.noClients > 0 && !p.host.swallows {
			done(true, errDisconnected)
			return
		}
		for i := range batch {
			if batch[i].Announce {
				p.publishEvent(batch[i].Public, corrupt)
			}
		}
		done(p.ledger.Published(turn, to, position, more), nil)
	})
}

// mark is announcer.mark: a round trip to the broker.
func (p *process) mark(done func(error)) {
	turn, link, sent := p.ledger.Turn(), p.host.link, p.sent
	reached := func() {
		if p.host.link != p.known {
			p.known = p.host.link
			p.ledger.Again()
			p.kick()
			done(errDisconnected)
			return
		}
		p.ledger.Reached(turn, p.w.clock())
		p.had = sent
		done(nil)
	}
	if p.host.noClients == 0 && p.w.happens(0.9) {
		reached()
		return
	}
	p.after(p.w.between(100*time.Microsecond, 5*time.Millisecond), func() {
		if p.host.noClients > 0 || p.host.link != link {
			p.after(p.w.between(time.Millisecond, replica.AnnounceAgain), func() { done(errDisconnected) })
			return
		}
		reached()
	})
}

// publishEvent sends an event to everybody who is there. Until the broker's
// servers have passed it on it may be lost with them, and then the instance's
// connection is too. But while an instance stops, what the broker says it has counts
// at once: that the broker dies just then is more than is promised. corrupt is what
// the state was when the event was made of it.
func (p *process) publishEvent(e protocol.Event, corrupt bool) {
	w, h := p.w, p.host
	w.judge.announces(p, &e, corrupt)
	if len(w.betrayed) > 0 && h.noClients == 0 {
		f := w.betrayed[0]
		w.betrayed = w.betrayed[1:]
		w.after(f.by, func() {
			h.cutClients()
			w.after(f.lasts, h.mendClients)
		})
	}
	if h.swallows {
		return
	}
	link, number := h.link, p.sent
	p.sent++
	within := 2 * time.Millisecond
	if w.happens(w.plan.slowEvents) {
		within = 2 * time.Second
	}
	w.after(w.between(20*time.Microsecond, within), func() {
		if h.link != link && !(p.leaving && number < p.had) {
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
