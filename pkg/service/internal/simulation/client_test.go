package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

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
	command := c.chooses(entry.Command{Kind: entry.Login, User: c.user, Session: c.session, Device: c.device, Platform: "web", Client: c.connection})
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
	final := !all && c.w.happens(0.3)
	if all || final {
		c.ended = true
	}
	var once func()
	session := c.session
	once = func() {
		c.w.send(&request{what: "logout", command: entry.Command{Kind: entry.Logout, User: c.user, Session: session, All: all, Final: final}, done: func(r *reply) {
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
		w.set(c.user)
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

// set has a user set a text that nobody set before, or an availability.
func (w *world) set(user string) {
	w.texts++
	command := entry.Command{Kind: entry.Set, User: user, Text: fmt.Sprintf("t%d", w.texts)}
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
	sent := w.now
	w.send(&request{what: "set", command: command, done: func(r *reply) {
		if r.err == errTimeout || errors.Is(r.err, protocol.ErrOutcomeUnknown) { // a fresh read settles it
			w.after(sent+protocol.OutcomeWithin-w.now+w.between(0, time.Second), func() { w.get(true) })
		}
	}})
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
		command.Kind, command.Platform = entry.Login, "web"
		command = c.chooses(command)
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
