package simulation

import "time"

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
	case "death of a writer":
		w.await(&w.doomed, f)
	case "cut of an announcer":
		w.await(&w.betrayed, f)
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
	case "alone in silence":
		w.leaveAlone(h, f.lasts)
	case "no leader":
		w.leaderless(f.lasts)
		w.stream.offset += w.between(0, 20*time.Millisecond) - 10*time.Millisecond
	case "no majority":
		w.stream.loseMajority(f.lasts)
	case "no journal":
		w.leaderless(f.lasts)
		for _, h := range w.hosts {
			h.noJournal++
			ends(func() { h.noJournal-- })
		}
	case "no broker":
		w.outage(f.lasts, true)
	case "no broker of the clients":
		w.outage(f.lasts, false)
	case "power cut": // of a machine with the broker and all instances, whose clock may be off afterwards
		w.outage(f.lasts, true)
		w.stream.offset += f.by
		for _, h := range w.hosts {
			h.crash()
			ends(h.start)
		}
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

// await has a fault wait for its moment, unless all is calm by then.
func (w *world) await(list *[]fault, f fault) {
	if w.now < w.plan.span {
		*list = append(*list, f)
	}
}

// unnoticed is how long at most neither end of a connection knows that nothing comes
// through: after three pings of 5 s.
const unnoticed = 15 * time.Second

// pause has a host stand still. The broker closes its connections after a while.
func (w *world) pause(h *host, d time.Duration) {
	if h.paused {
		return
	}
	begun := w.now
	h.pause()
	if d > unnoticed {
		w.after(unnoticed, func() {
			h.cutClients()
			w.after(d-unnoticed+100*time.Millisecond, h.mendClients)
		})
	}
	w.after(d, func() { h.resume(w.now - begun) })
}

func (w *world) leaderless(d time.Duration) {
	if w.stream.leaderless || w.stream.minority {
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
	for _, c := range w.clients {
		c.goesOnInVain()
	}
	for _, g := range w.gateways {
		for _, r := range g.runs {
			r.goesOnInVain()
		}
	}
	w.after(min(d, unnoticed), func() { h.swallows = false })
	w.after(d, h.mendClients)
}

// leaveAlone has one instance be cut off from the clients before either side notices,
// while the others stand still and are killed: it alone lets time go by, and nobody's
// renewals reach it (G6).
func (w *world) leaveAlone(h *host, d time.Duration) {
	w.swallow(h, d)
	for _, o := range w.hosts {
		if o != h {
			w.pause(o, d)
			w.after(w.between(time.Millisecond, d), o.crash)
			w.after(d+w.between(time.Millisecond, 5*time.Second), o.start)
		}
	}
}

// outage takes away the broker from everybody, with the journal or without.
func (w *world) outage(d time.Duration, journal bool) {
	if w.brokerDown {
		return
	}
	w.brokerDown = true
	cut := 0
	if journal {
		w.leaderless(d + time.Second)
		cut = 1
	}
	for _, h := range w.hosts {
		h.cutClients()
		h.noJournal += cut
		w.after(d+w.between(time.Millisecond, 2*time.Second), func() {
			h.noJournal -= cut
			h.mendClients()
		})
	}
	for _, x := range w.watchers {
		x.disconnect()
		w.after(d+w.between(time.Millisecond, 10*time.Second), x.connect)
	}
	// Clients come back one after the other, by other connections: what they were
	// bound to is gone without a report.
	away := func(l *lease) { l.cutUntil = w.now + d + w.between(10*time.Millisecond, 24*time.Second) }
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

// deathOf has a host die of the entry that was just stored, or a while after it:
// with the changes applied or not, announced or not, and known to be or not.
func (w *world) deathOf(h *host, f fault) {
	die := func() {
		h.crash()
		w.after(f.lasts, h.start)
	}
	if f.by == 0 { // before anything else happens
		die()
		return
	}
	w.after(f.by, die)
}

// lastChanges has nobody do anything any more, but for a change of every user.
func (w *world) lastChanges() {
	w.say("THE LAST CHANGES")
	w.calm = true
	within := w.between(time.Millisecond, 2*time.Second)
	for _, user := range w.plan.users {
		w.after(w.between(0, within), func() { w.set(user) })
	}
}

// heal ends what misbehaves. Faults that last end by themselves.
func (w *world) heal() {
	w.say("CALM")
	w.doomed, w.betrayed = nil, nil
	p := *w.plan
	p.mess, p.skips, p.lateRequests, p.slowEvents, p.lostReports = 0, 0, 0, 0, 0
	p.slowRestore, p.slowAnnouncer, p.slowSnapshot = time.Second, 10*time.Millisecond, 10*time.Millisecond
	w.plan = &p
}
