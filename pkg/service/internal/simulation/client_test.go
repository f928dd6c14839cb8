package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
)

// grace is the one of the rules in force.
const grace = 5 * time.Second

// lease is what a holder of one remembers of how it kept it: who renewed in time
// is never lost (G6).
type lease struct {
	w          *world
	ttl        time.Duration
	connection uint64 // it is bound to; 0: none

	present bool // it wants to be there
	asleep  bool // it does nothing, by its own fault
	// In lease time, as the judge counts it: when the holder last renewed or
	// tried to, and when the connection closed by its own fault, where it has not
	// logged in again since.
	sentAt   time.Duration
	doneAt   time.Duration // the same, of the last that was answered
	closedAt time.Duration
	closed   bool
	missed   time.Duration // true time until which it may be lost for having slept
	bound    uint64        // the last connection that it was bound to
	overrun  bool          // by a request of its own that it had given up
	cutUntil time.Duration // true time until which the broker's outage keeps it away
}

func newLease(w *world, ttl time.Duration) lease {
	return lease{w: w, ttl: ttl, sentAt: w.judge.lease, doneAt: w.judge.lease}
}

// rests notes that the holder does nothing from now on: what it tried to do
// without an answer does not count then.
func (l *lease) rests() { l.sentAt = l.doneAt }

// tries notes that the holder renews, or tries to. It returns what is to be done
// when that is answered.
func (l *lease) tries() (answered func()) {
	now := l.w.judge.lease
	if now-l.sentAt >= l.ttl-5*time.Second {
		l.missed = l.w.now + 2*requestTimeout + 12*time.Second
	}
	l.sentAt = now
	return func() { l.doneAt = now }
}

// closes notes that the connection closes by the holder's own fault.
func (l *lease) closes() {
	if !l.closed {
		l.closed, l.closedAt = true, l.w.judge.lease
	}
}

// binds notes that a login or an open has taken effect. One that was given up when
// the connection was lost by which it went can do so after the one that followed it,
// and before the service knows that the connection is closed. Then it binds to
// that one, and the session is lost with it. The contract has a client wait for a
// reply; who cannot is told to log in again by the next renewal.
func (l *lease) binds(connection uint64) {
	l.overrun = connection < l.bound
	l.bound = max(l.bound, connection)
}

// mayBeLost reports whether it is the holder's own fault if it is lost now.
func (l *lease) mayBeLost() bool {
	now := l.w.judge.lease
	return !l.present || l.overrun || l.w.now < l.missed ||
		l.asleep && now-l.sentAt >= l.ttl ||
		l.closed && now-l.closedAt >= grace
}

// client is a device of a user.
type client struct {
	lease
	name, user, device string
	session            string
	holds              bool // it was told that it is logged in
	ended              bool // it was told that it must not come back by itself
	run                int  // of what it does: timers of earlier ones are void
	former             []string
}

func (c *client) String() string { return c.user + "/" + c.session }

// comeOnline logs in by hand.
func (c *client) comeOnline() {
	w := c.w
	if c.session == "" || c.ended || w.happens(0.3) {
		if c.session != "" {
			c.former = append(c.former, c.session)
		}
		w.texts++
		c.session = fmt.Sprintf("%s-%d", c.name, w.texts)
		c.lease = newLease(w, c.ttl)
	}
	w.judge.clients[c.user+" "+c.session] = c
	c.ended, c.present = false, true
	if c.bound() {
		c.connect()
	}
	c.login()
}

func (c *client) bound() bool { return c.ttl > 30*time.Second }

func (c *client) connect() {
	c.w.connections++
	c.connection = uint64(c.w.connections)
}

// next has something done unless something else is begun meanwhile.
func (c *client) next(d time.Duration, do func()) {
	run := c.run
	c.w.after(d, func() {
		if c.run == run && c.present && !c.asleep {
			do()
		}
	})
}

// login logs in until it is answered.
func (c *client) login() {
	c.run++
	c.holds = false
	answered := c.tries()
	command := entry.Command{Kind: entry.Login, User: c.user, Session: c.session, Device: c.device, Platform: "web",
		TTL: uint32(c.ttl.Milliseconds()), Server: "", Client: c.connection}
	if c.connection != 0 {
		command.Server = "N"
	}
	run, connection := c.run, c.connection
	c.w.send(&request{by: &c.lease, what: "login", command: command, done: func(r *reply) {
		switch {
		case c.run != run || !c.present:
		case r.err == nil:
			answered()
			c.holds = true
			if c.connection == connection {
				c.closed = false
			}
			c.next(c.period(), c.renew)
		case errors.Is(r.err, protocol.ErrSessionReplaced):
			c.end()
		default:
			c.next(c.w.backoff(r.err), c.login)
		}
	}})
}

func (c *client) period() time.Duration {
	third := min(c.ttl, 30*time.Second) / 3
	return c.w.between(third*8/10, third)
}

// backoff is how long to wait after an error.
func (w *world) backoff(err error) time.Duration {
	if err == errDisconnected {
		return w.between(time.Second, 2*time.Second)
	}
	return w.between(50*time.Millisecond, time.Second)
}

// renew renews until it is answered.
func (c *client) renew() {
	c.run++
	answered := c.tries()
	run := c.run
	c.w.send(&request{by: &c.lease, what: "renew", command: entry.Command{Kind: entry.Renew, User: c.user, Session: c.session}, done: func(r *reply) {
		switch {
		case c.run != run || !c.present:
		case r.err == nil:
			answered()
			c.holds = true
			c.next(c.period(), c.renew)
		case errors.Is(r.err, protocol.ErrSessionReplaced):
			c.end()
		case errors.Is(r.err, protocol.ErrSessionNotFound):
			c.login()
		default:
			c.next(c.w.backoff(r.err), c.renew)
		}
	}})
}

func (c *client) leaves() {
	c.present, c.holds = false, false
	c.rests()
}

// end is what a client does that is told that it was ended by somebody else.
func (c *client) end() {
	c.run++
	c.leaves()
	c.ended = true
}

// logout logs out, for certain.
func (c *client) logout(all bool) {
	c.run++
	c.leaves()
	if all {
		c.ended = true
	}
	var once func()
	session := c.session
	once = func() {
		c.w.send(&request{what: "logout", command: entry.Command{Kind: entry.Logout, User: c.user, Session: session, All: all}, done: func(r *reply) {
			if r.err != nil && !c.present {
				c.w.after(c.w.backoff(r.err), once)
			}
		}})
	}
	once()
}

// crash ends the client without a word.
func (c *client) crash() {
	c.run++
	c.leaves()
	if c.connection != 0 {
		c.closes()
		c.w.disconnected(c.connection)
	}
	if c.w.happens(0.5) {
		c.ended = true // it comes back as another session
	}
}

// sleep has the client do nothing for a while, and then go on as if nothing had
// happened.
func (c *client) sleep(d time.Duration) {
	c.asleep = true
	c.rests()
	c.run++
	c.w.after(d, func() {
		c.asleep = false
		if c.present {
			c.renew()
		}
	})
}

// reconnect has the client lose its connection and log in by another one, in
// time or not.
func (c *client) reconnect() {
	w := c.w
	if !c.bound() {
		return
	}
	old := c.connection
	c.connect()
	c.closes()
	c.run++
	w.disconnected(old)
	c.next(w.between(time.Millisecond, 8*time.Second), c.login)
}

// act has the client do something, now and then.
func (c *client) act() {
	w := c.w
	w.after(w.between(200*time.Millisecond, w.plan.actions), c.act)
	if w.calm || c.asleep {
		return
	}
	if !c.present {
		switch n := w.chance.IntN(10); {
		case n < 4:
			c.comeOnline()
		case n < 7:
			c.haunt()
		}
		return
	}
	switch n := w.chance.IntN(100); {
	case n < 40:
		c.set()
	case n < 46:
		c.logout(w.happens(0.2))
	case n < 54:
		c.crash()
	case n < 58:
		c.sleep(w.between(time.Second, 2*c.ttl))
	case n < 68:
		c.reconnect()
	case n < 76:
		w.send(&request{what: "idle", command: entry.Command{Kind: entry.Renew, User: c.user, Session: c.session, SetIdle: true, Idle: w.happens(0.5)}, done: func(*reply) {}})
	case n < 78 && w.plan.ends:
		command := entry.Command{Kind: entry.Kick, User: c.user, Session: c.session, All: w.happens(0.3)}
		if w.happens(0.3) {
			command.Kind = entry.Erase
		}
		w.send(&request{what: "admin", command: command, done: func(*reply) {}})
	case n < 90:
		w.get(w.happens(0.5))
	case len(c.former) > 0:
		c.haunt()
	}
}

// set sets a text that nobody set before, or an availability.
func (c *client) set() {
	w := c.w
	w.texts++
	command := entry.Command{Kind: entry.Set, User: c.user, Text: fmt.Sprintf("t%d", w.texts)}
	switch n := w.chance.IntN(10); {
	case n < 2:
		command.Text, command.KeepText = "", true
		command.Availability = []entry.Availability{entry.Available, entry.Available, entry.Busy, entry.Invisible}[w.chance.IntN(4)]
		if w.happens(0.3) {
			command.Override = 3_000
		}
	case n < 3:
		command.Text = ""
	case n < 4 && !w.plan.persistent:
		command.Expires = w.between(time.Second, 20*time.Second).Milliseconds()
	}
	w.send(&request{what: "set", command: command, done: func(*reply) {}})
}

// haunt sends what is late: of the session that the client had, or has.
func (c *client) haunt() {
	w := c.w
	session := c.session
	if len(c.former) > 0 {
		session = c.former[w.chance.IntN(len(c.former))]
	}
	if session == "" || c.present && session == c.session {
		return
	}
	command := entry.Command{User: c.user, Session: session}
	switch w.chance.IntN(4) {
	case 0:
		command.Kind = entry.Renew
	case 1:
		command.Kind, command.Text, command.Session = entry.Set, "late", session
	case 2:
		command.Kind = entry.Logout
	case 3: // only who was told not to come back
		if i := slices.Index(c.former, session); i < 0 || !w.judge.replaced[c.user+" "+session] {
			return
		}
		command.Kind, command.TTL, command.Platform = entry.Login, uint32(c.ttl.Milliseconds()), "web"
	}
	w.send(&request{what: "late", command: command, done: func(*reply) {}})
}

// get reads somebody, fresh or with the last revision that was acknowledged.
func (w *world) get(fresh bool) {
	r := &request{what: "get", get: w.plan.users, fresh: fresh, done: func(*reply) {}}
	if !fresh && w.happens(0.5) {
		r.minRevision = w.judge.acknowledgedUpTo
	}
	w.send(r)
}

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
	seq      uint64 // of the last apply, and of the last one answered
	done     uint64
	busy     bool
	sessions []entry.Command // logins of the sessions that it is to hold
	holds    map[string]bool // what it was told that it holds
	opened   bool
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
	answered := r.tries()
	turn, connection := r.turn, r.connection
	r.w.send(&request{by: &r.lease, what: "open", command: entry.Command{Kind: entry.Open, Gateway: r.gateway.name, Process: r.process,
		TTL: uint32(r.ttl.Milliseconds()), Server: "N", Client: r.connection}, done: func(a *reply) {
		switch {
		case r.turn != turn || !r.present:
		case a.err == nil && a.result.Seq < r.done: // the lease is another one
			r.again()
		case a.err == nil:
			answered()
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

// apply sends ops, again and again, until it is answered.
func (r *run) apply(ops []entry.Command) {
	if r.busy || len(ops) == 0 {
		return
	}
	r.busy = true
	r.seq++
	r.repeat(r.seq, ops)
}

func (r *run) repeat(seq uint64, ops []entry.Command) {
	w := r.w
	w.send(&request{by: &r.lease, what: "apply", command: entry.Command{Kind: entry.Apply, Gateway: r.gateway.name, Process: r.process, Seq: seq, Ops: ops}, done: func(a *reply) {
		switch {
		case !r.present:
		case a.err == nil:
			r.busy, r.done = false, seq
			failed := map[int]bool{}
			for _, f := range a.result.Gateway.Failures {
				failed[f.Index] = true
			}
			for i := range ops {
				key := ops[i].User + " " + ops[i].Session
				switch ops[i].Kind {
				case entry.Login:
					r.holds[key] = !failed[i]
				case entry.Logout, entry.Lost:
					r.holds[key] = false
				}
			}
		case errors.Is(a.err, protocol.ErrLeaseNotFound), errors.Is(a.err, protocol.ErrOutOfOrder): // the lease is gone, or another one
			r.again()
		default:
			w.after(w.backoff(a.err), func() {
				if r.present {
					r.repeat(seq, ops)
				}
			})
		}
	}})
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
		r.apply(g.ops(r))
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
			if r.present {
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
	command := entry.Command{Kind: entry.Apply, Gateway: r.gateway.name, Process: r.process, Seq: r.seq + 1,
		Ops: []entry.Command{{Kind: entry.Lost, User: x.User, Session: x.Session}, {Kind: entry.Logout, User: x.User, Session: x.Session}}}
	if r.present { // its own next request is not used up
		return
	}
	if w.happens(0.3) {
		command = entry.Command{Kind: entry.Close, Gateway: r.gateway.name, Process: r.process}
	}
	w.send(&request{what: "late", command: command, done: func(*reply) {}})
}
