package simulation

import (
	"fmt"
	"slices"
	"time"

	"presence/pkg/internal/entry"
)

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
	if !p.rolling {
		w.after(p.last, w.lastChanges)
	}
	w.runUntil(p.span)
	w.heal()
	if p.rolling {
		w.calm = true
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
	genesis := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "genesis", Sequence: 1, MaxFormat: entry.Format},
		Commands: []entry.Command{{Kind: entry.Configure, Params: &entry.Params{
			Grace: grace.Milliseconds(), Retention: p.retention.Milliseconds(), Persistent: p.persistent}}, {Kind: entry.SetFormat, Seq: uint64(p.format)}}}
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
	// An amnesty, what has to be announced, expiries, and the loss of sessions whose connection is
	// closed, which takes up to a minute of grace.
	w.runUntil(w.now + 100*time.Second)
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
