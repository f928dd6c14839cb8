package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
)

// plan is what a seed makes of a history before it begins: who is there, how bad
// things are, and which faults happen when.
type plan struct {
	seed    uint64
	rolling bool // a rolling restart in peace (G7)

	hosts, clients, gateways int
	users                    []string
	persistent               bool          // the policy of texts
	retention                time.Duration // of lost sessions
	ends                     bool          // operators kick and erase
	damages                  bool          // the memory of instances

	span    time.Duration // until everything becomes calm
	actions time.Duration // at most between two of a client
	faults  []fault

	mess         float64 // publishes of entries that go wrong
	skips        float64 // deliveries of entries that do
	lateRequests float64
	lostReports  float64 // of closed connections
	slowEvents   float64

	slowRestore, slowSnapshot, slowAnnouncer time.Duration // at most
	snapshotEvery                            uint64
	snapshotStep                             int
	announceBatch                            int
	keep                                     time.Duration
}

// fault is one that happens at a time.
type fault struct {
	kind  string
	at    time.Duration
	lasts time.Duration
	host  int
	by    time.Duration // of a clock
}

func (f fault) String() string {
	s := fmt.Sprintf("%v: %s", f.at.Round(time.Millisecond), f.kind)
	switch f.kind {
	case "clock":
		return fmt.Sprintf("%s by %v", s, f.by)
	case "no leader", "no broker", "no journal":
		return fmt.Sprintf("%s for %v", s, f.lasts.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s of %c for %v", s, 'A'+f.host, f.lasts.Round(time.Millisecond))
}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(of ...float64) float64 { return of[r.IntN(len(of))] }
	p := &plan{
		seed: seed, rolling: r.IntN(10) == 0,
		hosts: 2 + r.IntN(3), clients: 2 + r.IntN(5), gateways: r.IntN(3),
		persistent: r.IntN(2) == 0, retention: protocol.DefaultRetention, ends: r.IntN(3) == 0, damages: r.IntN(8) == 0,
		span:    between(r, 20*time.Second, 4*time.Minute),
		actions: between(r, time.Second, 20*time.Second),
		mess:    pick(0, 0, 0.01, 0.1, 0.3), skips: pick(0, 0, 0.001, 0.01), lateRequests: pick(0, 0, 0.01),
		lostReports: pick(0, 0.1, 0.3), slowEvents: pick(0, 0, 0.02, 0.3),
		slowRestore: between(r, 10*time.Millisecond, 10*time.Second), slowSnapshot: between(r, 2*time.Millisecond, 2*time.Second),
		slowAnnouncer: between(r, 10*time.Microsecond, 2*time.Second),
		snapshotEvery: 20 + r.Uint64N(200), snapshotStep: 1 + r.IntN(400), announceBatch: 1 + r.IntN(6),
		keep: between(r, time.Second, time.Minute),
	}
	if r.IntN(4) == 0 {
		p.retention = between(r, time.Minute, 3*time.Minute)
	}
	for i := range 1 + r.IntN(4) {
		p.users = append(p.users, fmt.Sprintf("u%d", i))
	}
	if p.rolling {
		p.span, p.ends, p.damages, p.retention = 30*time.Second, false, false, protocol.DefaultRetention
		p.mess, p.skips, p.lateRequests, p.slowEvents, p.lostReports = 0, 0, 0, 0, 0
		p.slowAnnouncer, p.slowRestore = min(p.slowAnnouncer, 50*time.Millisecond), min(p.slowRestore, time.Second)
		return p
	}
	kinds := []string{"kill", "kill", "pause", "pause", "restart", "cut from the journal", "cut from the clients", silentCut,
		"no leader", "no leader", "no journal", "no broker", "clock", "damage", "bad snapshot"}
	for at := between(r, time.Second, 20*time.Second); at < p.span; at += between(r, time.Second, 40*time.Second) {
		f := fault{kind: kinds[r.IntN(len(kinds))], at: at, host: r.IntN(p.hosts), lasts: between(r, 100*time.Millisecond, 30*time.Second)}
		switch f.kind {
		case "no leader":
			f.lasts = between(r, 100*time.Millisecond, 9*time.Second)
		case "no journal", "no broker":
			f.lasts = between(r, 10*time.Millisecond, 10*time.Minute)
		case "clock":
			f.by = between(r, time.Millisecond, time.Hour)
			if r.IntN(2) == 0 {
				f.by = -f.by
			}
		case "damage":
			if !p.damages {
				continue
			}
		}
		if p.hides(f) {
			continue
		}
		p.faults = append(p.faults, f)
		if f.lasts > time.Minute { // it delays the rest
			p.span += f.lasts
			at += f.lasts
		}
	}
	return p
}

// hides reports whether a fault would leave no instance that clients reach while
// one, cut off from them without knowing it, has time go by: two faults at once,
// by which a client that does what it should can be lost.
func (p *plan) hides(f fault) bool {
	away := func(f fault) bool {
		return slices.Contains([]string{"kill", "pause", "restart", "cut from the clients", silentCut}, f.kind)
	}
	const back = 15 * time.Second // at most, from a fault's end until requests are answered
	hosts, silent := map[int]bool{f.host: true}, f.kind == silentCut
	for _, g := range p.faults {
		if away(g) && g.at < f.at+f.lasts+back && f.at < g.at+g.lasts+back {
			hosts[g.host] = true
			silent = silent || g.kind == silentCut
		}
	}
	return away(f) && silent && len(hosts) == p.hosts
}

// silentCut has an instance believe that it hears its clients.
const silentCut = "silently cut from the clients"

// play plays a history and returns what it violates, or nil.
func play(p *plan, tracing bool) (w *world, v *violation) {
	w = newWorld(p, tracing)
	defer func() {
		if x := recover(); x != nil {
			if v, _ = x.(*violation); v == nil {
				panic(x)
			}
		}
	}()
	w.populate()
	for _, f := range p.faults {
		w.after(f.at, func() { w.strike(f) })
	}
	w.runUntil(p.span)
	w.heal()
	if p.rolling {
		w.roll()
	}
	w.runUntil(w.now + 2*time.Minute)
	// What falls due just now, as the forgetting of a session does, is told in a while.
	for range 20 {
		if w.now-w.judge.changedAt > time.Minute {
			break
		}
		w.runUntil(w.now + time.Minute)
	}
	w.judge.end()
	return w, nil
}

// populate begins a history.
func (w *world) populate() {
	p := w.plan
	genesis := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Writer: "genesis", Sequence: 1, Knows: entry.Format},
		Commands: []entry.Command{{Kind: entry.Configure, Params: &entry.Params{
			Grace: grace.Milliseconds(), Retention: p.retention.Milliseconds(), Persistent: p.persistent}}}}
	data, err := entry.Append(nil, genesis)
	if err != nil {
		panic(err)
	}
	w.stream.store(&flight{data: data})
	for i := range p.hosts {
		h := &host{w: w, name: string(rune('A' + i))}
		w.hosts = append(w.hosts, h)
		h.start()
	}
	for i, fresh := range []bool{true, false} {
		x := &watcher{w: w, name: fmt.Sprintf("watcher %d", i), fresh: fresh}
		w.watchers = append(w.watchers, x)
		w.after(0, x.connect)
	}
	for i := range p.clients {
		c := &client{lease: newLease(w, 30*time.Second), name: fmt.Sprintf("c%d", i), user: p.users[w.chance.IntN(len(p.users))]}
		if w.happens(0.5) {
			c.ttl = time.Minute
		}
		if w.happens(0.4) {
			c.device = fmt.Sprintf("d%d", w.chance.IntN(2))
		}
		w.clients = append(w.clients, c)
		w.after(w.between(0, 5*time.Second), c.comeOnline)
		w.after(5*time.Second, c.act)
	}
	for i := range p.gateways {
		g := &gateway{w: w, name: fmt.Sprintf("g%d", i)}
		var sessions []entry.Command
		for k := range 1 + w.chance.IntN(4) {
			user := p.users[w.chance.IntN(len(p.users))]
			sessions = append(sessions, entry.Command{Kind: entry.Login, User: user, Session: fmt.Sprintf("%s-%d", g.name, k), Platform: "web"})
		}
		w.gateways = append(w.gateways, g)
		w.after(w.between(0, 5*time.Second), func() { g.open(sessions) })
		w.after(6*time.Second, g.act)
	}
}

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
	case silentCut:
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

// cutClients ends the connection to the clients' broker; what is on its way is
// lost.
func (h *host) cutClients() {
	h.noClients++
	h.link++
}

// mendClients is the reconnect: Service.watchClients.
func (h *host) mendClients() {
	h.noClients--
	if p := h.p; p != nil && h.noClients == 0 && p.registered {
		h.swallows = false
		p.after(0, func() {
			p.report(entry.Command{Kind: entry.Deaf})
			p.ledger.Again()
			p.kick()
		})
	}
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

// roll restarts one instance after the other while everybody is there and does
// nothing that is seen (G7).
func (w *world) roll() {
	asleep := func() bool {
		return slices.ContainsFunc(w.clients, func(c *client) bool { return c.asleep }) ||
			slices.ContainsFunc(w.gateways, func(g *gateway) bool { return g.current().asleep })
	}
	for asleep() {
		w.runUntil(w.now + time.Second)
	}
	w.runUntil(w.now + 40*time.Second) // an amnesty, what has to be announced, expiries
	w.judge.quiet = true
	w.say("QUIET")
	w.everyWhile(func() bool { return w.judge.quiet }, 300*time.Millisecond, func() { w.get(w.happens(0.5)) })
	for _, h := range w.hosts {
		stopped := false
		h.stop(func() { stopped = true })
		for begun := w.now; !stopped; w.runUntil(w.now + 100*time.Millisecond) {
			if w.now-begun > time.Minute {
				w.violated("G7", "%s does not stop", h.name)
			}
		}
		w.runUntil(w.now + w.between(time.Millisecond, 20*time.Second))
		w.faults++
		h.start()
		for !h.p.member {
			w.runUntil(w.now + 100*time.Millisecond)
		}
	}
	w.runUntil(w.now + 30*time.Second)
	w.judge.quiet = false
}

func (w *world) everyWhile(holds func() bool, d time.Duration, do func()) {
	w.after(d, func() {
		if holds() {
			do()
			w.everyWhile(holds, d, do)
		}
	})
}
