package simulation

import (
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
)

// request is one request of somebody outside, or a barrier of an instance's own.
type request struct {
	w    *world
	what string

	command     entry.Command
	get         []string // a query: users
	fresh       bool
	minRevision uint64

	by     *lease // who cannot while an outage keeps it away; nil: anybody
	inside bool
	// overtakes: others before it were not answered when it was sent, so it may be out of order.
	overtakes bool
	done      func(*reply)
	finished  bool
	at        time.Duration
	begun     time.Duration // when an instance had it
	refused   bool          // somebody was told that nothing was done
	floor     uint64        // the highest revision acknowledged when it was sent
	from      *process
	link      int
}

// reply is what comes back: an error, or what became of a command, or statuses.
type reply struct {
	err      error
	result   state.Result
	statuses []protocol.Status
	revision uint64
	stale    bool
}

var errDisconnected = errors.New("not connected")

// requestTimeout is how long a client waits.
const requestTimeout = 2 * time.Second

// send sends a request to any instance of the queue group.
func (w *world) send(r *request) {
	r.w, r.at = w, w.now
	r.floor = w.judge.acknowledgedUpTo
	if w.brokerDown || r.by != nil && w.now < r.by.cutUntil {
		w.after(time.Millisecond, func() { r.finish(&reply{err: errDisconnected}) })
		return
	}
	var members []*process
	for _, h := range w.hosts {
		if p := h.p; p != nil && p.member && (h.noClients == 0 || h.swallows) {
			members = append(members, p)
		}
	}
	if len(members) == 0 {
		w.after(time.Millisecond, func() { r.finish(&reply{err: errDisconnected}) })
		return
	}
	w.after(requestTimeout, func() { r.finish(&reply{err: errTimeout}) })
	p := members[w.chance.IntN(len(members))]
	within := 5 * time.Millisecond
	if w.happens(w.plan.lateRequests) {
		within = 20 * time.Second
	}
	w.sendTo(p, r, within)
}

func (w *world) sendTo(p *process, r *request, within time.Duration) {
	r.from, r.link = p, p.host.link
	p.coming++
	w.after(w.between(50*time.Microsecond, within), func() {
		if p.dead || p.host.link != r.link || p.host.noClients > 0 {
			p.coming--
			return
		}
		p.after(0, func() {
			p.coming--
			p.handle(r)
		})
	})
}

// finish is the end of a request: an answer, or none in time.
func (r *request) finish(with *reply) {
	if r.finished {
		return
	}
	r.finished = true
	r.w.judge.finished(r, with)
	r.done(with)
}

// reply sends an answer.
func (p *process) reply(r *request, with *reply) {
	if r.inside {
		p.after(0, func() { r.finish(with) })
		return
	}
	if p.corrupt { // what it says is of no use
		return
	}
	h, link := p.host, r.link
	p.w.after(p.w.between(50*time.Microsecond, 5*time.Millisecond), func() {
		if h.link == link && h.noClients == 0 {
			r.finish(with)
		}
	})
}

// handle is what the endpoints do.
func (p *process) handle(r *request) {
	r.begun = p.w.now
	switch {
	case r.get != nil:
		p.query(r)
		return
	case p.stale():
		p.reply(r, &reply{err: protocol.ErrUnavailable})
		return
	}
	c := &r.command
	number, ok := uint32(0), false
	switch c.Kind {
	case entry.Renew:
		var idle *bool
		if c.SetIdle {
			idle = &c.Idle
		}
		number, ok = p.state.Lease(c.User, c.Session, idle)
	case entry.RenewGateway:
		number, ok = p.state.GatewayLease(c.Gateway, c.Process)
	}
	p.waiting++
	if ok {
		p.packing.Renew(number, r, true)
	} else {
		p.packing.Command(*c, r)
	}
	p.poke()
}

// query is Service.get.
func (p *process) query(r *request) {
	switch {
	case p.rebuilding || r.fresh && p.stale():
		p.reply(r, &reply{err: protocol.ErrUnavailable})
	case r.fresh:
		p.waiting++
		p.packing.Barrier(r)
		p.poke()
	case r.minRevision > p.state.Revision():
		p.waiters = append(p.waiters, waiter{r, r.minRevision / entry.IndexSpan, p.w.now + protocol.MinRevisionWait})
	default:
		p.answerQuery(r)
	}
}

func (p *process) answerQuery(r *request) {
	a := &reply{revision: p.state.Revision(), stale: p.stale()}
	for _, user := range r.get {
		a.statuses = append(a.statuses, p.state.Status(user, false))
	}
	p.reply(r, a)
}

// release is revisionWaiters.applied.
func (p *process) release() {
	kept := p.waiters[:0]
	for _, x := range p.waiters {
		switch {
		case x.position <= p.state.Position():
			p.answerQuery(x.r)
		case p.w.now > x.deadline:
			p.reply(x.r, &reply{err: protocol.ErrUnavailable})
		default:
			kept = append(kept, x)
		}
	}
	p.waiters = kept
}

// answer is Service.answers.
func (p *process) answer(f *flight, position uint64, out *state.Outcome) {
	callers := f.callers
	p.waiting -= len(callers.Commands) + len(callers.Renewals) + len(callers.Barriers)
	for i, r := range callers.Commands {
		if out.Fenced {
			p.reply(r, &reply{err: protocol.ErrUnavailable})
			continue
		}
		a := &reply{}
		if i < len(out.Results) {
			a.result = out.Results[i]
			a.revision = a.result.Revision
			if a.result.Err != nil {
				a.err = a.result.Err
			}
		}
		p.reply(r, a)
	}
	for _, x := range callers.Renewals {
		switch result, ok := p.state.Renewed(x.Number); {
		case out.Fenced:
			p.reply(x.Caller, &reply{err: protocol.ErrOverloaded}) // it is put back
		case ok:
			p.reply(x.Caller, &reply{result: result, revision: result.Revision})
		case x.Caller.command.Kind == entry.RenewGateway:
			p.reply(x.Caller, &reply{err: protocol.ErrLeaseNotFound})
		case p.state.WasReplaced(x.Caller.command.User, x.Caller.command.Session):
			p.reply(x.Caller, &reply{err: protocol.ErrSessionReplaced})
		default:
			p.reply(x.Caller, &reply{err: protocol.ErrSessionNotFound})
		}
	}
	for _, r := range callers.Barriers {
		if r.get != nil {
			p.answerQuery(r)
			continue
		}
		p.reply(r, &reply{})
	}
}

// wireError is service.journalError.
func wireError(err error) error {
	switch {
	case errors.Is(err, journal.ErrOutcomeUnknown):
		return protocol.ErrOutcomeUnknown
	case errors.Is(err, journal.ErrRejected):
		return protocol.ErrUnavailable
	case errors.Is(err, journal.ErrRenewalPending):
		return protocol.ErrOverloaded
	}
	return err
}

// disconnected tells an instance that the broker closed a client's connection,
// now, late or not at all.
func (w *world) disconnected(connection uint64) {
	delay := w.between(100*time.Microsecond, 10*time.Millisecond)
	switch {
	case w.happens(w.plan.lostReports):
		return
	case w.happens(w.plan.lostReports):
		delay = w.between(10*time.Millisecond, 20*time.Second)
	}
	w.after(delay, func() {
		var members []*process
		for _, h := range w.hosts {
			if h.p != nil && h.p.member && h.noClients == 0 {
				members = append(members, h.p)
			}
		}
		if w.brokerDown || len(members) == 0 {
			return
		}
		p := members[w.chance.IntN(len(members))]
		w.say("connection %d closed, %s hears", connection, p.instance)
		p.after(0, func() { p.report(entry.Command{Kind: entry.Closed, Server: "N", Client: connection}) })
	})
}

var kinds = map[entry.Kind]string{
	entry.Configure: "configure", entry.Login: "login", entry.Renew: "renew", entry.Logout: "logout", entry.Set: "set",
	entry.Closed: "closed", entry.RequestsLost: "requests lost", entry.Open: "open", entry.RenewGateway: "renew", entry.Apply: "apply",
	entry.Close: "close", entry.Lost: "lost", entry.Idle: "idle", entry.Kick: "kick", entry.Erase: "erase", entry.SetFormat: "set format",
}

// show writes a command down for people.
func show(c *entry.Command) string {
	s := kinds[c.Kind]
	add := func(set bool, format string, args ...any) {
		if set {
			s += " " + fmt.Sprintf(format, args...)
		}
	}
	add(c.Gateway != "", "%s/%s", c.Gateway, c.Process)
	add(c.Seq != 0, "%d", c.Seq)
	add(c.User != "", "%s", c.User)
	add(c.Session != "", "session=%s", c.Session)
	add(c.Device != "", "device=%s", c.Device)
	add(c.Client != 0, "connection=%d", c.Client)
	add(c.Text != "", "%q", c.Text)
	add(c.Availability != 0, "availability=%d", c.Availability)
	add(c.Override != 0, "for %d ms", c.Override)
	add(c.SetIdle || c.Idle, "idle=%t", c.Idle)
	add(c.All, "all")
	for i := range c.Ops {
		s += "; " + show(&c.Ops[i])
	}
	return s
}

func showRevision(r uint64) string {
	return fmt.Sprintf("%d.%d", r/entry.IndexSpan, r%entry.IndexSpan)
}
