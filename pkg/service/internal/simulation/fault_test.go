package simulation

import (
	"time"
)

// strike lets a fault happen and, some time later, end.
func (w *world) strike(f fault) {
	h := w.hosts[f.host%len(w.hosts)]
	w.faults++
	w.say("FAULT %v", f)
	ends := func(do func()) { w.after(f.lasts, do) }
	switch f.kind {
	case "kill":
		h.crash()
		ends(h.start)
	case "pause":
		w.pause(h, f.lasts)
	case "restart":
		h.stop(func() { w.after(min(f.lasts, 3*time.Second), h.start) })
	case "cut from the journal":
		h.noJournal++
		ends(func() { h.noJournal-- })
	case "cut from the clients":
		h.cutClients()
		ends(h.mendClients)
	case "silently cut from the clients":
		w.swallow(h, f.lasts)
	case "no leader":
		w.leaderless(f.lasts)
		w.stream.offset += w.between(0, 20*time.Millisecond) - 10*time.Millisecond
	case "no journal":
		w.leaderless(f.lasts)
		for _, h := range w.hosts {
			h.noJournal++
			ends(func() { h.noJournal-- })
		}
	case "no broker":
		w.outage(f.lasts)
	case "clock":
		w.stream.offset += f.by
	case "damage":
		h.damage = true
	case "bad snapshot":
		if s := w.stream.snapshots; len(s) == 2 && !s[1].damaged {
			s[0].damaged = true
		}
	}
}

// pause has a host stand still. The broker closes its connections after a while.
func (w *world) pause(h *host, d time.Duration) {
	if h.paused {
		return
	}
	begun := w.now
	h.pause()
	if d > 8*time.Second {
		w.after(8*time.Second, func() {
			h.cutClients()
			w.after(d-8*time.Second+100*time.Millisecond, h.mendClients)
		})
	}
	w.after(d, func() { h.resume(w.now - begun) })
}

func (w *world) leaderless(d time.Duration) {
	if w.stream.leaderless {
		return
	}
	w.stream.leaderless, w.stream.leaderAt = true, w.now+d
	w.after(d, func() { w.stream.leaderless = false })
}

// swallow has what is sent to an instance be lost, and what it sends, before
// either side notices.
func (w *world) swallow(h *host, d time.Duration) {
	if h.noClients > 0 {
		return
	}
	h.cutClients()
	h.swallows = true
	w.after(min(d, 8*time.Second), func() { h.swallows = false })
	w.after(d, h.mendClients)
}

// outage takes away the broker, for everybody.
func (w *world) outage(d time.Duration) {
	if w.brokerDown {
		return
	}
	w.brokerDown = true
	w.leaderless(d + time.Second)
	for _, h := range w.hosts {
		h.cutClients()
		h.noJournal++
		w.after(d+w.between(time.Millisecond, 2*time.Second), func() {
			h.noJournal--
			h.mendClients()
		})
	}
	for _, x := range w.watchers {
		x.disconnect()
		w.after(d+w.between(time.Millisecond, 10*time.Second), x.connect)
	}
	// Clients come back one after the other, by other connections: what they were
	// bound to is gone without a report.
	away := func(l *lease) { l.cutUntil = w.now + d + w.between(10*time.Millisecond, 20*time.Second) }
	for _, c := range w.clients {
		away(&c.lease)
		if c.present && c.bound() {
			c.connect()
			c.run++
			c.next(time.Millisecond, c.login)
		}
	}
	for _, g := range w.gateways {
		for _, r := range g.runs {
			away(&r.lease)
		}
	}
	w.after(d, func() { w.brokerDown = false })
}

// heal ends what misbehaves. Faults that last end by themselves. Often a last one
// happens before: what nobody does again afterwards must not depend on being lucky.
func (w *world) heal() {
	if h := w.hosts[w.chance.IntN(len(w.hosts))]; !w.plan.rolling {
		switch w.chance.IntN(4) {
		case 0, 1: // whoever writes next dies before it can announce
			w.doomed = true
			w.clients[0].set()
		case 2:
			w.swallow(h, w.between(time.Millisecond, 8*time.Second))
		}
	}
	w.say("CALM")
	w.calm = true
	p := *w.plan
	p.mess, p.skips, p.lateRequests, p.slowEvents, p.lostReports = 0, 0, 0, 0, 0
	p.slowRestore, p.slowAnnouncer, p.slowSnapshot = time.Second, 10*time.Millisecond, 10*time.Millisecond
	w.plan = &p
}
