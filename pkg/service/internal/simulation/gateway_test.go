package simulation

import (
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// gateway is a machine that holds sessions for users, one run of its process
// after the other.
type gateway struct {
	w    *world
	name string
	runs []*run
}

// run is one run of a gateway's process.
type run struct {
	lease
	gateway  *gateway
	process  string
	turn     int
	window   int    // how many applies it may have under way
	seq      uint64 // of the last apply, and of the last one answered with all before it
	done     uint64
	flights  []*apply
	sessions []entry.Command // logins of the sessions that it is to hold
	holds    map[string]bool // what it was told that it holds
	opened   bool
	opening  bool // its last open is not answered
}

func (g *gateway) current() *run {
	if len(g.runs) == 0 {
		return nil
	}
	return g.runs[len(g.runs)-1]
}

// open begins another run.
func (g *gateway) open(sessions []entry.Command) {
	w := g.w
	w.processes++
	w.connections++
	r := &run{lease: newLease(w, 30*time.Second), gateway: g, process: fmt.Sprintf("p%d", w.processes), sessions: sessions, holds: map[string]bool{}}
	r.connection, r.present = uint64(w.connections), true
	g.runs = append(g.runs, r)
	w.judge.runs[g.name+"/"+r.process] = r
	r.open()
}

func (r *run) next(d time.Duration, do func()) {
	turn := r.turn
	r.w.after(d, func() {
		if r.turn == turn && r.present && !r.asleep {
			do()
		}
	})
}

// open opens the lease, or binds it to another connection, until it is answered.
func (r *run) open() {
	r.turn++
	r.opening = true
	answered := r.tries()
	turn, connection := r.turn, r.connection
	r.w.send(&request{by: &r.lease, what: "open", command: r.chooses(entry.Command{Kind: entry.Open, Gateway: r.gateway.name, Process: r.process,
		Server: "N", Client: r.connection}), done: func(a *reply) {
		switch {
		case r.turn != turn || !r.present:
		case a.err == nil && a.result.Seq < r.done: // the lease is another one
			r.again()
		case a.err == nil:
			answered()
			r.opening, r.window = false, a.result.Window
			if r.connection == connection {
				r.closed = false
			}
			if !r.opened {
				r.opened = true
				r.apply(r.sessions)
			}
			r.next(r.w.between(8*time.Second, 10*time.Second), r.renew)
		case errors.Is(a.err, protocol.ErrLeaseNotFound):
			r.again()
		default:
			r.next(r.w.backoff(a.err), r.open)
		}
	}})
}

func (r *run) renew() {
	r.turn++
	answered := r.tries()
	turn := r.turn
	r.w.send(&request{by: &r.lease, what: "renew", command: entry.Command{Kind: entry.RenewGateway, Gateway: r.gateway.name, Process: r.process}, done: func(a *reply) {
		switch {
		case r.turn != turn || !r.present:
		case a.err == nil:
			answered()
			r.next(r.w.between(8*time.Second, 10*time.Second), r.renew)
		case errors.Is(a.err, protocol.ErrLeaseNotFound):
			r.again()
		default:
			r.next(r.w.backoff(a.err), r.renew)
		}
	}})
}

// again opens anew what was lost.
func (r *run) again() {
	r.present = false
	if r.gateway.current() == r {
		r.gateway.open(r.sessions)
	}
}

// apply is a request of a run, until it and all before it are answered. It is sent again and again.
// What was not the first without an answer waits for those before it to be answered, unless its
// answer was that it is done.
type apply struct {
	r      *run
	seq    uint64
	ops    []entry.Command
	held   bool
	answer *state.GatewayAnswer
}

// apply sends ops, if the window has room and nothing is held.
func (r *run) apply(ops []entry.Command) {
	if len(r.flights) >= r.window || len(ops) == 0 {
		return
	}
	for _, x := range r.flights {
		if x.held {
			return
		}
	}
	r.seq++
	x := &apply{r: r, seq: r.seq, ops: ops}
	r.flights = append(r.flights, x)
	x.send()
}

func (x *apply) send() {
	r := x.r
	x.held = false
	first := x == r.flights[0]
	r.w.send(&request{by: &r.lease, what: "apply", overtakes: !first, command: entry.Command{Kind: entry.Apply, Gateway: r.gateway.name, Process: r.process,
		Seq: x.seq, Body: x.seq, Ops: x.ops}, done: func(a *reply) {
		switch overtook := !first && errors.Is(a.err, protocol.ErrOutOfOrder); {
		case !r.present:
		case a.err == nil:
			x.answer = &a.result.Gateway
			r.settle()
		case errors.Is(a.err, protocol.ErrLeaseNotFound), errors.Is(a.err, protocol.ErrOutOfOrder) && !overtook: // the lease is gone, or another one
			r.again()
		case x != r.flights[0]:
			x.held = true
		case overtook:
			x.send()
		default:
			r.w.after(r.w.backoff(a.err), func() {
				if r.present {
					x.send()
				}
			})
		}
	}})
}

// settle takes the answers in order, and sends what was held.
func (r *run) settle() {
	settled := false
	for len(r.flights) > 0 && r.flights[0].answer != nil {
		x := r.flights[0]
		r.flights, r.done, settled = r.flights[1:], x.seq, true
		failed := map[int]bool{}
		for _, f := range x.answer.Failures {
			failed[f.Index] = true
		}
		for i := range x.ops {
			key := x.ops[i].User + " " + x.ops[i].Session
			switch x.ops[i].Kind {
			case entry.Login:
				r.holds[key] = !failed[i]
			case entry.Logout, entry.Lost:
				r.holds[key] = false
			}
		}
	}
	for _, x := range r.flights {
		if settled && x.held {
			x.send()
		}
	}
}

// act has the gateway do something, now and then.
func (g *gateway) act() {
	w := g.w
	w.after(w.between(500*time.Millisecond, w.plan.actions), g.act)
	if w.calm {
		return
	}
	r := g.current()
	if !r.present {
		if w.happens(0.5) {
			g.open(r.sessions)
		}
		return
	}
	switch n := w.chance.IntN(100); {
	case n < 50:
		for range 1 + w.chance.IntN(protocol.ApplyWindow) {
			r.apply(g.ops(r))
		}
	case n < 58: // a planned handover
		g.open(r.sessions)
		w.after(w.between(5*time.Second, 20*time.Second), func() { r.close(false) })
		w.after(w.between(time.Second, 30*time.Second), func() { r.haunt() })
	case n < 64:
		r.close(w.happens(0.3))
	case n < 70: // it crashes
		r.present = false
		w.disconnected(r.connection)
		w.after(w.between(time.Second, 20*time.Second), func() { r.haunt() })
	case n < 76:
		old := r.connection
		w.connections++
		r.connection = uint64(w.connections)
		r.closes()
		r.turn++
		w.disconnected(old)
		r.next(w.between(time.Millisecond, 8*time.Second), r.open)
	case n < 80:
		r.asleep = true
		r.rests()
		r.turn++
		w.after(w.between(time.Second, 45*time.Second), func() {
			r.asleep = false
			switch {
			case !r.present:
			case r.opening: // only its answer tells whether the lease is the one that it knew
				r.open()
			default:
				r.renew()
			}
		})
	}
}

// ops are what a gateway does for its users.
func (g *gateway) ops(r *run) []entry.Command {
	w := g.w
	var ops []entry.Command
	for range 1 + w.chance.IntN(3) {
		x := r.sessions[w.chance.IntN(len(r.sessions))]
		op := entry.Command{User: x.User, Session: x.Session}
		switch w.chance.IntN(6) {
		case 0, 1:
			op = x
		case 2:
			op.Kind, op.Idle = entry.Idle, w.happens(0.5)
		case 3:
			w.texts++
			op.Kind, op.Session, op.Text = entry.Set, "", fmt.Sprintf("t%d", w.texts)
		case 4:
			op.Kind = entry.Lost
		case 5:
			op.Kind = entry.Logout
		}
		ops = append(ops, op)
	}
	return ops
}

// close ends the run.
func (r *run) close(logout bool) {
	r.present = false
	r.turn++
	r.w.send(&request{what: "close", command: entry.Command{Kind: entry.Close, Gateway: r.gateway.name, Process: r.process, All: logout}, done: func(*reply) {}})
}

// haunt sends what is late of an earlier run.
func (r *run) haunt() {
	w := r.w
	x := r.sessions[w.chance.IntN(len(r.sessions))]
	command := entry.Command{Kind: entry.Apply, Gateway: r.gateway.name, Process: r.process, Seq: r.done + 1 + w.chance.Uint64N(r.seq-r.done+1), Body: 1 << 32,
		Ops: []entry.Command{{Kind: entry.Lost, User: x.User, Session: x.Session}, {Kind: entry.Logout, User: x.User, Session: x.Session}}}
	if r.present { // its own next request is not used up
		return
	}
	if w.happens(0.3) {
		command = entry.Command{Kind: entry.Close, Gateway: r.gateway.name, Process: r.process}
	}
	w.send(&request{what: "late", command: command, done: func(*reply) {}})
}
