package simulation

import (
	"errors"
	"reflect"
	"slices"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
)

// judge sees everything and holds it against the guarantees of PROTOCOL 8. It
// has a state of its own, which applies every entry as soon as it is stored, and
// remembers what everybody could see at every position. What entries should do it
// knows by itself where that is easy: which ones take effect, what the texts are,
// who holds which session and whether by fault of its own it is lost.
type judge struct {
	changedAt time.Duration // true time of the last visible change
	w         *world
	state     *state.State
	entries   []*entry.Entry
	outcomes  []state.Outcome
	digests   []uint64
	whole     map[uint64]uint64 // hashes of the whole state at some positions

	lease, wall time.Duration // lease time by the judge's own account, and the last timestamp

	acknowledgedUpTo uint64
	settledBy        time.Duration // true time at which the last fresh read was sent that is at its entry
	late             int           // changes that took effect after protocol.OutcomeWithin
	users            map[string]*seen
	took             map[*flight]bool  // effect
	sequences        map[string]uint64 // of writers: the last that took effect
	rejected         map[*flight]bool  // whose callers were told that nothing was done

	clients  map[string]*client // by user and session
	runs     map[string]*run
	holders  map[string]any    // of sessions: *client or *run
	ended    map[string]bool   // sessions that were ended by others than who holds them
	entered  [][2]string       // users and sessions that the entry at hand logged in
	replaced map[string]bool   // those that must not come back
	leases   map[string]uint32 // numbers of the runs' leases, and the answers to the applies of each
	applies  map[string][]applied

	reported map[uint64]*process // closed connections that are not yet in the journal

	wrongAt time.Duration // true time at which an instance last applied an entry to a wrong state

	quiet bool // nothing is to be announced or refused now (G7)
}

// seen is what there is to know of a user.
type seen struct {
	versions []version // what everybody sees
	highest  uint64    // revision
	erased   []uint64  // revisions that may be those of erasures
	heard    uint64    // the highest revision announced for certain
	sessions []protocol.Session
	text     string          // by the judge's own account
	ids      map[string]bool // of all sessions there were
}

// version is what everybody sees of a user from a position on.
type version struct {
	position uint64
	status   protocol.Status
}

func newJudge(w *world) *judge {
	j := &judge{w: w, state: state.New(), whole: map[uint64]uint64{}, users: map[string]*seen{}, took: map[*flight]bool{}, sequences: map[string]uint64{},
		rejected: map[*flight]bool{}, clients: map[string]*client{}, runs: map[string]*run{}, holders: map[string]any{},
		ended: map[string]bool{}, replaced: map[string]bool{}, leases: map[string]uint32{}, applies: map[string][]applied{}, reported: map[uint64]*process{}}
	for _, u := range w.plan.users {
		j.users[u] = &seen{ids: map[string]bool{}, versions: []version{{0, protocol.Status{UserID: u, StatusType: protocol.Unlogined}}}}
	}
	return j
}

// packed checks nothing; an entry that a writer packs has its sequence once.
func (j *judge) packed(f *flight) {
	if f.sequence <= j.sequences[f.p.instance] {
		j.w.violated("journal", "%s packs %d again", f.p.instance, f.sequence)
	}
}

// reports notes what an instance was told, and must not lose while it lives.
func (j *judge) reports(p *process, c *entry.Command) {
	if c.Kind == entry.Closed {
		j.reported[c.Client] = p
	}
}

// settled checks that an instance that has done everything has.
func (j *judge) settled(p *process) {
	var lost []uint64
	for connection, by := range j.reported {
		if by == p && !p.damaged {
			lost = append(lost, connection)
		}
	}
	if slices.Sort(lost); len(lost) > 0 {
		j.w.violated("journal", "%s lost the reports of connections %v", p.instance, lost)
	}
}

// failed notes that the callers of an entry were told that it failed.
func (j *judge) failed(f *flight, err error) {
	if errors.Is(err, journal.ErrRejected) {
		j.rejected[f] = true
		if j.took[f] {
			j.w.violated("G1", "the callers of entry %s were told that nothing was done, and it had taken effect", f)
		}
	}
}

// stored applies an entry at the moment when it is in the journal.
func (j *judge) stored(position uint64, x *stored) {
	e := new(entry.Entry)
	if err := entry.Decode(x.data, e); err != nil {
		j.w.violated("journal", "position %d: %v", position, err)
	}
	at := time.Duration(x.at) * time.Millisecond
	if position > 1 {
		// No more than its writer had seen go by: else the leader may have had no majority.
		step := 2 * time.Second
		if j.state.Format() >= 6 && !j.anybodyLive() {
			step = 32 * time.Second
		}
		most, next := time.Duration(e.Header.LeaseClock)*time.Millisecond+step, j.lease+min(max(at-j.wall, 0), step)
		if e.Header.Epoch == j.state.Epoch() { // else it was packed while its writer's state was built anew
			next = max(j.lease, min(next, most))
		}
		j.lease = next
	}
	j.wall = at
	out, err := j.state.Apply(e, position, x.at, true)
	if err != nil {
		j.w.violated("journal", "position %d: %v", position, err)
	}
	j.entries = append(j.entries, e)
	j.outcomes = append(j.outcomes, out)
	j.digests = append(j.digests, j.state.Digest())
	if position%32 == 0 {
		j.whole[position] = wholeOf(j.state)
	}
	if x.of.p != nil {
		j.checkFence(position, x, out.Fenced)
		j.checkSettled(position, x.of, out.Fenced)
	}
	if !out.Fenced {
		j.follow(e, &out)
	}
	for _, user := range j.w.plan.users {
		j.checkUser(position, user, e, &out)
	}
	for _, x := range j.entered { // and ended at once?
		if !slices.ContainsFunc(j.users[x[0]].sessions, func(s protocol.Session) bool { return s.SessionID == x[1] }) {
			j.ended[x[0]+" "+x[1]] = true
		}
	}
	j.entered = j.entered[:0]
}

// checkFence: an entry takes effect once, not after a later one of its writer,
// not when its callers have given it up, and never when they were told that
// nothing was done (G8, PROTOCOL 6).
func (j *judge) checkFence(position uint64, x *stored, fenced bool) {
	w, f := j.w, x.of
	if fenced {
		if f.p.inFlight[f.sequence] == f {
			j.rejected[f] = true // or will be
		}
		w.say("position %d counts as empty", position)
		return
	}
	age := x.had - f.arrived
	turned := x.offset < f.offset-state.Skew // the stream's clock, since its writer saw it
	switch {
	case j.took[f]:
		w.violated("G8", "entry %s took effect twice, again at %d", f, position)
	case f.sequence <= j.sequences[f.p.instance]:
		w.violated("G8", "entry %s took effect at %d after entry %d of its writer", f, position, j.sequences[f.p.instance])
	case age > state.CountsFor+state.Skew && !turned && len(f.entry.Commands) > 0 && f.entry.Header.StoreBy != 0:
		w.violated("G8", "entry %s took effect at %d, which the leader had %v after it arrived", f, position, age)
	case j.rejected[f]:
		w.violated("G1", "entry %s took effect at %d after its callers were told that nothing was done", f, position)
	}
	for _, r := range f.callers.Commands {
		switch waited := f.packedAt - r.begun; {
		case r.refused:
			w.violated("G1", "%s {%s} took effect at %d after its caller was told that nothing was done", r.what, show(&r.command), position)
		case waited > journal.LateAfter:
			w.violated("G8", "%s {%s} took effect at %d, and had waited for %v before it was packed", r.what, show(&r.command), position, waited)
		}
	}
	j.took[f], j.sequences[f.p.instance] = true, f.sequence
}

// anybodyLive reports whether there is a live session, or a gateway.
func (j *judge) anybodyLive() bool {
	for _, u := range j.users {
		if slices.ContainsFunc(u.sessions, func(x protocol.Session) bool { return x.Live }) {
			return true
		}
	}
	return j.state.Gateways() > 0
}

// checkSettled: what a fresh read shows that was sent protocol.OutcomeWithin after a
// change is final: if it was not done by then, it never is (G2, PROTOCOL 6). A request
// may be on its way for a second; one that is for longer is as if it was sent later.
func (j *judge) checkSettled(position uint64, f *flight, fenced bool) {
	for _, r := range f.callers.Commands {
		sent := max(r.at, r.begun-time.Second)
		if !fenced && sent+protocol.OutcomeWithin <= j.settledBy {
			j.w.violated("G2", "%s {%s}, sent at %v, took effect at %d, after a fresh read that was sent at %v", r.what, show(&r.command), r.at, position, j.settledBy)
		}
		if !fenced && j.w.now-r.at > protocol.OutcomeWithin {
			j.late++
		}
	}
	for _, r := range f.callers.Barriers {
		if r.get != nil {
			j.settledBy = max(j.settledBy, r.at)
		}
	}
}

// answersInTime: who is told that a change failed, or that nobody knows, is told so
// within protocol.OutcomeWithin of the request's arrival, unless the process stood still.
func (j *judge) answersInTime(p *process, r *request) {
	if waited := j.w.now - r.begun; waited > protocol.OutcomeWithin && !r.inside && p.host.resumedAt <= r.begun {
		j.w.violated("G10", "%s of %s waited %v for its answer", r.what, p.instance, waited)
	}
}

// follow keeps the judge's own accounts of an entry that takes effect.
func (j *judge) follow(e *entry.Entry, out *state.Outcome) {
	for i := range e.Commands {
		c := &e.Commands[i]
		if c.Kind == entry.Open { // refused, it has ended the lease
			j.runs[c.Gateway+"/"+c.Process].binds(c.Client)
		}
		if err := out.Results[i].Err; err != nil {
			if c.Kind == entry.Apply {
				j.refusedApply(c.Gateway+"/"+c.Process, c, err)
			}
			continue
		}
		switch c.Kind {
		case entry.Login:
			x := j.clients[c.User+" "+c.Session]
			if x.session == c.Session {
				x.binds(c.Client)
			}
			j.login(c, x)
		case entry.Closed:
			delete(j.reported, c.Client)
		case entry.Open:
			j.open(c)
		case entry.Erase: // nothing is known of the user any more
			j.forgive(c.User)
		case entry.Set:
			j.set(c)
		case entry.Apply:
			key, answer := c.Gateway+"/"+c.Process, out.Results[i].Gateway
			if !j.applied(key, c, answer) {
				continue
			}
			failed := map[int]bool{}
			for _, f := range answer.Failures {
				failed[f.Index] = true
			}
			for k := range c.Ops {
				switch op := &c.Ops[k]; {
				case failed[k]:
				case op.Kind == entry.Login:
					j.login(op, j.runs[key])
				case op.Kind == entry.Set:
					j.set(op)
				}
			}
		}
	}
}

// open: an open that takes effect late, after its lease was closed, makes another
// one, in which seq begins anew.
func (j *judge) open(c *entry.Command) {
	key := c.Gateway + "/" + c.Process
	if number, ok := j.state.GatewayLease(c.Gateway, c.Process); ok && number != j.leases[key] {
		j.leases[key], j.applies[key] = number, nil
	}
}

// applied is an apply that was done.
type applied struct {
	body   uint64
	answer state.GatewayAnswer
}

// applied checks that the applies of a run are done in order, each once, and are answered the same
// as often as they come. It reports whether this one was not done before.
func (j *judge) applied(key string, c *entry.Command, answer state.GatewayAnswer) bool {
	before := j.applies[key]
	switch n := uint64(len(before)); {
	case c.Seq == n+1:
		j.applies[key] = append(before, applied{c.Body, answer})
		return true
	case c.Seq == 0 || c.Seq > n:
		j.w.violated("G8", "apply %d of %s is done after %d", c.Seq, key, n)
	case c.Body != before[c.Seq-1].body || !reflect.DeepEqual(answer, before[c.Seq-1].answer):
		j.w.violated("G8", "apply %d of %s came again, and its answer is %+v, not %+v", c.Seq, key, answer, before[c.Seq-1])
	}
	return false
}

// refusedApply checks that what was refused was not the next apply, and none of the last ones.
func (j *judge) refusedApply(key string, c *entry.Command, err error) {
	before := j.applies[key]
	n := uint64(len(before))
	repeated := c.Seq > 0 && c.Seq <= n && c.Seq+protocol.ApplyWindow > n && before[c.Seq-1].body == c.Body
	if errors.Is(err, protocol.ErrOutOfOrder) && (c.Seq == n+1 || repeated) {
		j.w.violated("G10", "apply %d of %s after %d: %v", c.Seq, key, n, err)
	}
}

func (j *judge) login(c *entry.Command, holder any) {
	key := c.User + " " + c.Session
	j.holders[key] = holder
	delete(j.ended, key)
	j.entered = append(j.entered, [2]string{c.User, c.Session})
	if u := j.users[c.User]; !u.ids[c.Session] {
		if u.ids[c.Session] = true; len(u.ids) == 32 { // from now on some may be forgotten
			j.forgive(c.User)
		}
	}
}

func (j *judge) set(c *entry.Command) {
	if !c.KeepText {
		j.users[c.User].text = c.Text
	}
}
