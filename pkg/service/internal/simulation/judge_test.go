package simulation

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/state"
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
	users            map[string]*seen
	took             map[*flight]bool  // effect
	sequences        map[string]uint64 // of writers: the last that took effect
	rejected         map[*flight]bool  // whose callers were told that nothing was done

	clients  map[string]*client // by user and session
	runs     map[string]*run
	holders  map[string]any  // of sessions: *client or *run
	ended    map[string]bool // sessions that were ended by others than who holds them
	entered  [][2]string     // users and sessions that the entry at hand logged in
	replaced map[string]bool // those that must not come back
	seqs     map[string]uint64

	reported map[uint64]*process // closed connections that are not yet in the journal

	quiet bool // nothing is to be announced or refused now (G7)
}

// seen is what there is to know of a user.
type seen struct {
	versions []version // what everybody sees
	highest  uint64    // revision
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
		ended: map[string]bool{}, replaced: map[string]bool{}, seqs: map[string]uint64{}, reported: map[uint64]*process{}}
	for _, u := range w.plan.users {
		j.users[u] = &seen{ids: map[string]bool{}, versions: []version{{0, protocol.Status{UserID: u, StatusType: protocol.Unlogined}}}}
	}
	return j
}

// packed checks nothing; an entry that a writer packs has its sequence once.
func (j *judge) packed(f *flight) {
	if f.sequence <= j.sequences[f.p.writer] {
		j.w.violated("journal", "%s packs %d again", f.p.writer, f.sequence)
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
		j.w.violated("journal", "%s lost the reports of connections %v", p.writer, lost)
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
		j.lease += min(max(at-j.wall, 0), 2*time.Second)
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
	age := x.when - f.packedAt
	// A clock that goes back during an outage by about as much as that lasts has an
	// old entry look like a fresh one: there is no other clock to tell.
	looks := time.Duration(x.at-start)*time.Millisecond - f.packedAt - f.offset
	fresh := looks > -3*time.Second && looks < 11*time.Second
	switch {
	case j.took[f]:
		w.violated("G8", "entry %s took effect twice, again at %d", f, position)
	case f.sequence <= j.sequences[f.p.writer]:
		w.violated("G8", "entry %s took effect at %d after entry %d of its writer", f, position, j.sequences[f.p.writer])
	case age > journal.GiveUp+protocol.OutcomeWithin && !fresh && len(f.entry.Commands) > 0:
		w.violated("G8", "entry %s took effect at %d, %v after it was packed", f, position, age)
	case j.rejected[f]:
		w.violated("G1", "entry %s took effect at %d after its callers were told that nothing was done", f, position)
	}
	j.took[f], j.sequences[f.p.writer] = true, f.sequence
}

// follow keeps the judge's own accounts of an entry that takes effect.
func (j *judge) follow(e *entry.Entry, out *state.Outcome) {
	for i := range e.Commands {
		c := &e.Commands[i]
		if out.Results[i].Err != nil {
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
			j.runs[c.Gateway+"/"+c.Process].binds(c.Client)
		case entry.Set:
			j.set(c)
		case entry.Apply:
			key := c.Gateway + "/" + c.Process
			if c.Seq <= j.seqs[key] {
				continue // it was done before
			}
			j.seqs[key] = c.Seq
			failed := map[int]bool{}
			for _, f := range out.Results[i].Gateway.Failures {
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

// checkUser holds what an entry did to a user against the guarantees.
func (j *judge) checkUser(position uint64, user string, e *entry.Entry, out *state.Outcome) {
	w, u := j.w, j.users[user]
	last := &u.versions[len(u.versions)-1].status
	if now := j.state.Status(user, false); !same(&now, last) {
		switch {
		case now.Revision == 0: // forgotten
		case now.Revision <= u.highest || now.Revision/entry.IndexSpan != position:
			w.violated("G3", "position %d changed %s, and its revision from %s to %s", position, user, showRevision(last.Revision), showRevision(now.Revision))
		}
		w.say("  %s is %v %q %s, revision %s", user, now.StatusType, now.CustomStatus, now.Availability, showRevision(now.Revision))
		u.highest = max(u.highest, now.Revision)
		u.versions = append(u.versions, version{position, now})
		j.changedAt = w.now
	}
	own, _, sessions := j.state.OwnStatus(user)
	if w.plan.persistent && !w.plan.ends && own.CustomStatus != u.text {
		w.violated("G1", "position %d: the text of %s is %q, and what was set last is %q", position, user, own.CustomStatus, u.text)
	}
	for i := range u.sessions {
		before := &u.sessions[i]
		k := slices.IndexFunc(sessions, func(x protocol.Session) bool { return x.SessionID == before.SessionID })
		switch {
		case k < 0:
			j.checkEnd(position, user, before, e, out)
		case before.Live && !sessions[k].Live:
			j.checkLoss(position, user, before.SessionID, e, out)
		}
	}
	for i := range sessions {
		if key := user + " " + sessions[i].SessionID; j.replaced[key] {
			w.violated("G8", "position %d: session %s of %s is back, though it was replaced", position, sessions[i].SessionID, user)
		}
	}
	u.sessions = sessions
}

// checkLoss: nobody is lost who renewed as it should (G6), and nobody by what
// somebody sends late who does not hold the session any more (G8).
func (j *judge) checkLoss(position uint64, user, session string, e *entry.Entry, out *state.Outcome) {
	w := j.w
	w.say("  session %s of %s is lost", session, user)
	switch h := j.holders[user+" "+session].(type) {
	case *client:
		if h.session == session && !h.mayBeLost() {
			w.violated("G6", "position %d: session %s of %s is lost, whose client %s renewed %v of lease time ago", position, session, user, h.name, j.lease-h.sentAt)
		}
	case *run:
		if !h.mayBeLost() && !out.Fenced && !names(e, entry.Lost, user, session, h) {
			w.violated("G6", "position %d: session %s of %s is lost, whose gateway %s/%s renewed %v of lease time ago", position, session, user, h.gateway.name, h.process, j.lease-h.sentAt)
		}
	}
}

// names reports whether an entry has an op of a run for a session.
func names(e *entry.Entry, kind entry.Kind, user, session string, by *run) bool {
	for i := range e.Commands {
		c := &e.Commands[i]
		if c.Kind != entry.Apply || by != nil && (c.Gateway != by.gateway.name || c.Process != by.process) {
			continue
		}
		if slices.ContainsFunc(c.Ops, func(op entry.Command) bool { return op.Kind == kind && op.User == user && op.Session == session }) {
			return true
		}
	}
	return false
}

// checkEnd: a session that is live ends only by somebody who may end it (G8).
func (j *judge) checkEnd(position uint64, user string, x *protocol.Session, e *entry.Entry, out *state.Outcome) {
	key := user + " " + x.SessionID
	holder, _ := j.holders[key].(*run)
	found, back, erased := false, false, false
	var each func(c *entry.Command, by *run)
	each = func(c *entry.Command, by *run) {
		switch c.Kind {
		case entry.Logout:
			if c.User == user && (c.All || c.Session == x.SessionID && (by == nil || by == holder)) {
				found, back = true, back || !c.All
			}
		case entry.Login:
			if c.User == user && c.Session != x.SessionID {
				if c.Device != "" && c.Device == x.Device {
					found = true
				} else if !x.Live {
					found, back = true, true // it makes room
				}
			}
		case entry.Kick:
			found = found || c.User == user && (c.All || c.Session == x.SessionID)
		case entry.Erase:
			found, erased = found || c.User == user, erased || c.User == user
		case entry.Close:
			if r := j.runs[c.Gateway+"/"+c.Process]; c.All && r != nil && r == holder {
				found, back = true, true
			}
		case entry.Apply:
			for k := range c.Ops {
				each(&c.Ops[k], j.runs[c.Gateway+"/"+c.Process])
			}
		}
	}
	if !out.Fenced {
		for i := range e.Commands {
			each(&e.Commands[i], nil)
		}
	}
	j.ended[key] = true
	switch {
	case !found && x.Live:
		j.w.violated("G8", "position %d: session %s of %s is gone, and nobody ended it", position, x.SessionID, user)
	case erased:
		j.forgive(user)
	case found && !back && len(j.users[user].ids) < 32:
		j.replaced[key] = true
	}
	j.w.say("  session %s of %s is ended", x.SessionID, user)
}

// forgive lets the replaced sessions of a user come back.
func (j *judge) forgive(user string) {
	for session := range j.users[user].ids {
		delete(j.replaced, user+" "+session)
	}
}

// same reports whether two statuses are.
func same(a, b *protocol.Status) bool {
	return a.StatusType == b.StatusType && a.CustomStatus == b.CustomStatus && a.CustomStatusExpiresAt == b.CustomStatusExpiresAt &&
		a.Availability == b.Availability && a.LastSeenAt == b.LastSeenAt && a.Revision == b.Revision && a.UpdatedAt == b.UpdatedAt
}

// wholeOf hashes everything that a state holds. A snapshot of it is written in an
// order that tells of its past; so the records are sorted.
func wholeOf(s *state.State) uint64 {
	x := s.BeginSnapshot()
	defer x.End()
	x.Step = 1
	var blocks [][]byte
	for more := true; more; {
		var b []byte
		var err error
		if b, more, err = x.Next(nil); err != nil {
			panic(err)
		}
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks[1:], bytes.Compare)
	return xxhash.Sum64(bytes.Join(blocks, nil))
}

// holds checks that an instance's state is the only one there is of its position
// (G3, G14).
func (j *judge) holds(p *process) {
	position := p.state.Position()
	want, ok := j.whole[position]
	if p.corrupt {
		p.corrupt = !ok || p.writing != nil || wholeOf(p.state) != want // what it did not do may make no difference
		return
	}
	if !j.agrees(p) {
		j.w.violated("G14", "%s has the digest %016x at %d, want %016x", p.writer, p.state.Digest(), position, j.digests[position-1])
	}
	if ok && p.writing == nil && wholeOf(p.state) != want {
		j.w.violated("G14", "the state of %s at %d is another, though its digest is the same", p.writer, position)
	}
}

// agrees reports whether an instance's digest is the right one.
func (j *judge) agrees(p *process) bool { return p.state.Digest() == j.digests[p.state.Position()-1] }

// answers checks what an entry's callers are told (G3).
func (j *judge) answers(position uint64, out *state.Outcome) {
	if want := j.outcomes[position-1]; !reflect.DeepEqual(*out, want) {
		j.w.violated("G3", "position %d: its callers are told %+v, want %+v", position, *out, want)
	}
}

// differs: only who was damaged may.
func (j *judge) differs(p, other *process) {
	if !p.damaged && !other.damaged {
		j.w.violated("G14", "%s differs from %s at %d", p.writer, other.writer, p.state.Position())
	}
}

// at returns what everybody saw of a user at a position.
func (j *judge) at(user string, position uint64) *protocol.Status {
	v := j.users[user].versions
	i := len(v) - 1
	for v[i].position > position {
		i--
	}
	return &v[i].status
}

// finished checks what somebody outside was told (G1, G2, G3, G7).
func (j *judge) finished(r *request, a *reply) {
	if r.inside {
		return
	}
	w := j.w
	if a.err != nil {
		if j.quiet {
			w.violated("G7", "%s failed: %v", r.what, a.err)
		}
		w.say("%s: %v", r.what, a.err)
		return
	}
	if r.get == nil {
		j.acknowledged(r, a)
		return
	}
	if r.fresh && a.revision < r.floor {
		w.violated("G2", "a fresh read of %s is as of %s, after %s was acknowledged", r.from.writer, showRevision(a.revision), showRevision(r.floor))
	}
	if a.revision < r.minRevision {
		w.violated("G2", "a read of %s is as of %s, less than %s", r.from.writer, showRevision(a.revision), showRevision(r.minRevision))
	}
	for i := range a.statuses {
		if want := j.at(r.get[i], a.revision/entry.IndexSpan); !same(&a.statuses[i], want) {
			w.violated("G3", "a read of %s at %s: got %+v, want %+v", r.from.writer, showRevision(a.revision), a.statuses[i], *want)
		}
	}
}

// acknowledged checks that a change is in the journal, at its revision (G1).
func (j *judge) acknowledged(r *request, a *reply) {
	w := j.w
	position, index := a.revision/entry.IndexSpan, int(a.revision%entry.IndexSpan)
	w.say("%s {%s} is acknowledged: %s", r.what, show(&r.command), showRevision(a.revision))
	if position == 0 && r.from != nil && r.from.damaged { // it passed over the command
		return
	}
	if position == 0 || position > uint64(len(j.entries)) {
		w.violated("G1", "%s is acknowledged as %s, beyond the journal", r.what, showRevision(a.revision))
	}
	j.acknowledgedUpTo = max(j.acknowledgedUpTo, a.revision)
	if index == entry.IndexSpan-1 {
		return // a renewal by number
	}
	e := j.entries[position-1]
	if i := index - 1 - len(e.Renewed); i < 0 || i >= len(e.Commands) || j.outcomes[position-1].Fenced || !reflect.DeepEqual(e.Commands[i], r.command) {
		w.violated("G1", "%s {%s} is acknowledged as %s, where it is not", r.what, show(&r.command), showRevision(a.revision))
	}
}

// announces checks an event (G3, G7).
func (j *judge) announces(p *process, e *protocol.Event) {
	w := j.w
	w.say("%s announces %s %v %q, revision %s", p.writer, e.UserID, e.StatusType, e.CustomStatus, showRevision(e.Revision))
	if j.quiet {
		w.violated("G7", "%s announces %s, revision %s", p.writer, e.UserID, showRevision(e.Revision))
	}
	if p.corrupt {
		return
	}
	v := j.users[e.UserID].versions
	for i := len(v) - 1; i > 0; i-- {
		if v[i].status.Revision != e.Revision {
			continue
		}
		// One entry can do two things to a user, and forget one first.
		within := e.PreviousRevision/entry.IndexSpan == v[i].position && e.PreviousRevision < e.Revision
		forgotten := e.PreviousRevision == 0 && (w.plan.ends || w.plan.retention < protocol.DefaultRetention)
		if !same(&v[i].status, &e.Status) || e.PreviousRevision != v[i-1].status.Revision && !within && !forgotten {
			w.violated("G3", "an event is %+v, want %+v after %s", *e, v[i].status, showRevision(v[i-1].status.Revision))
		}
		return
	}
	w.violated("G3", "an event of %s has revision %s, which it never had", e.UserID, showRevision(e.Revision))
}

// heard notes an event that everybody could hear.
func (j *judge) heard(e *protocol.Event) {
	u := j.users[e.UserID]
	u.heard = max(u.heard, e.Revision)
}

// end checks what must be so once everything has been calm for long.
func (j *judge) end() {
	w := j.w
	for _, h := range w.hosts {
		p := h.p
		switch {
		case p == nil || !p.member:
			w.violated("calm", "%s does not serve", h.name)
		case p.state.Position()+8 < w.stream.last():
			w.violated("calm", "%s is at %d of %d", h.name, p.state.Position(), w.stream.last())
		case p.corrupt && !j.agrees(p):
			w.violated("G14", "nobody noticed that the state of %s is wrong", p.writer)
		}
		j.settled(p)
	}
	for _, user := range w.plan.users {
		if !w.plan.damages {
			j.endAnnounced(user)
		}
		if !slices.ContainsFunc(w.hosts, func(h *host) bool { return h.p.corrupt }) {
			j.endOnline(user)
		}
	}
}

// endAnnounced: the last visible change was announced, and who watched as
// PROTOCOL 5 says ends in the true state (G4).
func (j *judge) endAnnounced(user string) {
	w, u := j.w, j.users[user]
	last := u.versions[len(u.versions)-1].status
	if last.Revision == 0 && len(u.versions) > 1 {
		last = u.versions[len(u.versions)-2].status
	}
	if u.heard < last.Revision {
		w.violated("G4", "revision %s of %s was not announced, the last that was is %s", showRevision(last.Revision), user, showRevision(u.heard))
	}
	i := slices.Index(w.plan.users, user)
	for _, x := range w.watchers {
		k := &x.known[i]
		if !x.connected || !k.fetched {
			w.violated("calm", "%s has nothing of %s", x.name, user)
		}
		if now := &u.versions[len(u.versions)-1].status; !same(&k.status, now) && now.Revision != 0 {
			w.violated("G4", "%s ends with %+v as of %s, the truth is %+v", x.name, k.status, showRevision(k.asOf), *now)
		}
	}
}

// endOnline: live are the sessions of those who are there, and no others (G6).
func (j *judge) endOnline(user string) {
	w := j.w
	live := map[string]bool{}
	for _, x := range j.users[user].sessions {
		live[x.SessionID] = x.Live
	}
	want := map[string]bool{}
	for _, c := range w.clients {
		if c.user == user && c.present && c.holds {
			want[c.session] = true
		}
	}
	for _, g := range w.gateways {
		for _, r := range g.runs {
			for _, x := range r.sessions {
				if key := x.User + " " + x.Session; x.User == user && r.present && r.holds[key] && !j.ended[key] && j.holders[key] == any(r) {
					want[x.Session] = true
				}
			}
		}
	}
	for _, x := range j.users[user].sessions {
		if x.Live != want[x.SessionID] {
			w.violated("G6", "session %s of %s is live: %t, want %t", x.SessionID, user, x.Live, want[x.SessionID])
		}
		delete(want, x.SessionID)
	}
	if len(want) > 0 {
		w.violated("G6", "of the sessions of %s these are missing: %v, there are %v", user, fmt.Sprint(want), fmt.Sprint(live))
	}
}
