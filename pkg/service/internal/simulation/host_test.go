package simulation

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/entry"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/replica"
	"presence/pkg/service/internal/state"
)

// host is a machine on which one instance after the other runs.
type host struct {
	w         *world
	name      string
	p         *process // nil: none runs
	noJournal int      // how many faults cut it off from the journal
	noClients int      // the same, from the clients' broker
	paused    bool
	link      int  // generation of the connection to the clients' broker
	swallows  bool // cut off from the clients, and neither side knows yet
	damage    bool // its memory is going to be damaged
}

// process is one run of an instance: the service with its state, the queue of its
// journal and its announcer. What package service does on several goroutines is
// here a chain of happenings for each of them.
type process struct {
	w      *world
	host   *host
	writer string
	dead   bool
	held   []func() // while the host is paused

	state   *state.State
	digests replica.Digests
	// caughtUp, registered and member come in this order: the journal's end was
	// reached, an entry is applied, requests are taken.
	caughtUp, registered, member, leaving bool
	untrusted, waking                     bool
	corrupt, damaged                      bool // its state is wrong; was

	// Of the journal:
	packing  journal.Queue[*request]
	waiting  int // callers who have no answer
	inFlight map[uint64]*flight
	sequence uint64
	flying   bool
	follower *follower
	heardAt  time.Duration // when something came from the follower
	lastAt   time.Duration // when the last entry was applied that was not caught up with
	applied  time.Duration // when the state became what it is
	target   uint64
	last     []byte // entry applied
	// Of its snapshots: entries since the last one known, since when another is
	// due, and one that is wanted or being written.
	lastSnapshot uint64
	dueSince     time.Duration
	wanted       bool
	writing      *state.Snapshot

	// Of the announcer:
	ledger     replica.Ledger
	announcing bool
	kicked     bool
	markedAt   time.Duration

	waiters []waiter
	coming  int // requests on their way from the broker
}

// flight is an entry on its way into the journal.
type flight struct {
	p        *process
	sequence uint64
	entry    *entry.Entry
	callers  *journal.Callers[*request]
	data     []byte
	packedAt time.Duration
	offset   time.Duration // of the stream's clock then
	attempts journal.Attempts
	attempt  int
	applied  bool
	landed   bool // acknowledged, or given up
	next     bool // the next one is on its way
}

func (f *flight) String() string {
	if f.p == nil {
		return "the first"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%d of %.3f", f.p.writer, f.sequence, f.packedAt.Seconds())
	if len(f.entry.Renewed) > 0 {
		fmt.Fprintf(&b, " renews %v", f.entry.Renewed)
	}
	for i := range f.entry.Commands {
		b.WriteString(" {" + show(&f.entry.Commands[i]) + "}")
	}
	return b.String()
}

// waiter is a query that waits for a revision.
type waiter struct {
	r        *request
	position uint64
	deadline time.Duration
}

// start starts an instance.
func (h *host) start() {
	if h.p != nil {
		return
	}
	w := h.w
	w.writers++
	p := &process{w: w, host: h, writer: fmt.Sprintf("%s.%d", h.name, w.writers), state: state.New(), inFlight: map[uint64]*flight{}}
	h.p = p
	p.lastAt = w.now
	w.say("%s starts as %s", h.name, p.writer)
	p.begin(0)
	p.every(2*time.Second, p.maintain)
}

// crash is kill -9.
func (h *host) crash() {
	if h.p == nil {
		return
	}
	h.w.say("%s is killed", h.name)
	h.end()
}

// end has nothing of the process happen any more. What it sent last may be lost.
func (h *host) end() {
	p := h.p
	p.dead, h.p = true, nil
	h.link++
	h.swallows = false
	h.w.stream.leave(p.follower)
}

func (h *host) pause() {
	if h.p != nil && !h.paused {
		h.paused = true
		h.w.say("%s stands still", h.name)
	}
}

func (h *host) resume(stood time.Duration) {
	if !h.paused {
		return
	}
	h.paused = false
	h.w.say("%s goes on", h.name)
	p := h.p
	if p == nil {
		return
	}
	held := p.held
	p.held = nil
	if stood > protocol.StaleAfter {
		p.wake()
	}
	for _, do := range held {
		if !p.dead {
			do()
		}
	}
}

// wake is what service.pauses does after the process stood still: it is stale
// until it has seen all requests that came meanwhile and all entries.
func (p *process) wake() {
	if !p.registered {
		return
	}
	p.waking = true
	p.report(entry.Command{Kind: entry.Deaf})
	p.barrier(func(err error) {
		if err != nil {
			p.after(100*time.Millisecond, p.wake)
			return
		}
		p.waking = false
	})
}

// after has something happen in the process, if it is still there; while it
// stands still that waits.
func (p *process) after(d time.Duration, do func()) {
	p.w.after(d, func() {
		switch {
		case p.dead:
		case p.host.paused:
			p.held = append(p.held, do)
		default:
			do()
		}
	})
}

func (p *process) every(d time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		p.after(d, again)
	}
	p.after(d, again)
}

func (p *process) silent() time.Duration { return p.w.now - p.lastAt }

// stale is Service.stale.
func (p *process) stale() bool { return p.silent() > protocol.StaleAfter || p.waking }

// begin gives the state a place to begin at, as journal.begin does: the newest
// snapshot that can be read, or the first entry.
func (p *process) begin(atLeast uint64) {
	p.w.stream.leave(p.follower)
	p.follower = nil
	p.after(p.w.between(time.Millisecond, p.w.plan.slowRestore), func() {
		s := p.w.stream
		for _, x := range s.snapshots {
			if x.damaged || x.position < atLeast || x.position+1 < s.first {
				continue
			}
			rest := x.blocks
			restored, err := state.Restore(func() ([]byte, error) {
				if len(rest) == 0 {
					return nil, io.EOF
				}
				b := rest[0]
				rest = rest[1:]
				return b, nil
			}, nil)
			if err != nil {
				p.w.violated("G14", "%s cannot restore the snapshot of %d: %v", p.writer, x.position, err)
			}
			p.replace(restored)
			p.lastSnapshot = x.position
			p.w.judge.holds(p)
			p.w.say("%s restored the snapshot of %d", p.writer, x.position)
			p.follow()
			return
		}
		if s.first > 1 {
			p.w.violated("journal", "%s finds no snapshot to begin at before %d", p.writer, s.first)
		}
		p.replace(state.New())
		p.follow()
	})
}

// replace is Service.replace.
func (p *process) replace(with *state.State) {
	p.state, p.untrusted, p.corrupt, p.last = with, false, false, nil
	p.applied = p.w.now
	p.ledger.Again()
	p.kick()
}

// rebuild builds the state anew, as journal.forgetState and begin do.
func (p *process) rebuild(atLeast uint64, why string) {
	p.w.say("%s builds its state anew: %s", p.writer, why)
	p.lastAt = -time.Hour
	for _, f := range p.flights() {
		p.giveBack(f, journal.ErrOutcomeUnknown)
		f.applied = true
		p.landed(f)
	}
	p.begin(atLeast)
}

// flights returns what is in flight, in order.
func (p *process) flights() []*flight {
	var list []*flight
	for _, f := range p.inFlight {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *flight) int { return int(a.sequence) - int(b.sequence) })
	return list
}

// follow follows the journal with a new consumer, as journal.followOnce does.
func (p *process) follow() {
	w := p.w
	w.stream.leave(p.follower)
	p.follower = nil
	if p.host.noJournal > 0 || w.stream.leaderless && w.happens(0.5) {
		p.after(w.between(time.Second, 2*time.Second), p.follow)
		return
	}
	p.target = w.stream.last()
	p.heardAt = w.now
	p.follower = w.stream.follow(p, max(p.state.Position(), 1))
	p.checkCaughtUp()
	p.listen(p.follower)
}

// listen replaces a consumer that is silent for 3 s.
func (p *process) listen(c *follower) {
	const silence = 3 * time.Second
	p.after(p.heardAt+silence-p.w.now, func() {
		switch {
		case p.follower != c:
		case p.w.now-p.heardAt >= silence:
			p.follow()
		default:
			p.listen(c)
		}
	})
}

// receive is the part of journal.consume that decides what an entry is.
func (p *process) receive(position uint64, x *stored) {
	p.heardAt = p.w.now
	next := p.state.Position() + 1
	switch {
	case position == next-1:
		if p.last != nil && string(p.last) != string(x.data) {
			p.w.violated("journal", "%s: the entry at %d is not the one that was applied", p.writer, position)
		}
	case position < next: // delivered again
	case position > next && p.w.stream.first > next:
		p.rebuild(p.w.stream.first-1, "its next entry was trimmed")
	case position > next:
		p.follow()
	default:
		p.apply(position, x)
	}
}

// apply is journal.apply and Service.apply.
func (p *process) apply(position uint64, x *stored) {
	w := p.w
	var e entry.Entry
	if err := entry.Decode(x.data, &e); err != nil {
		w.violated("journal", "position %d: %v", position, err)
	}
	var f *flight
	if e.Header.Writer == p.writer {
		f = p.inFlight[e.Header.Sequence]
	}
	switch verdict, _ := p.digests.Compare(p.state, &e.Header); verdict {
	case replica.Rebuild:
		w.judge.differs(p, x.of.p)
		p.untrusted = true
		p.rebuild(0, "its digest is another")
		return
	case replica.TheyErr:
		w.judge.differs(p, x.of.p)
	}
	wanted := f != nil
	if p.host.damage && len(e.Commands) > 0 {
		p.host.damage = false
		w.say("%s: its memory is damaged at %d", p.writer, position)
		p.corrupt, p.damaged = true, true
		e.Commands = nil
		wanted = false
	}
	out, err := p.state.Apply(&e, position, x.at, wanted)
	if err != nil {
		w.violated("journal", "%s cannot apply position %d: %v", p.writer, position, err)
	}
	p.last, p.applied = x.data, w.now
	w.judge.holds(p)
	if position >= p.target {
		p.lastAt = w.now
	}
	p.checkCaughtUp()
	if f != nil {
		delete(p.inFlight, f.sequence)
		f.applied = true
		if wanted && !p.corrupt {
			w.judge.answers(position, &out)
		}
		if out.Fenced {
			p.packing.PutBack(f.entry, f.callers)
			p.poke()
		}
		p.answer(f, position, &out)
		p.landed(f)
	}
	p.release()
	if e.Header.Writer == p.writer {
		p.kick()
	}
	if p.wanted {
		p.wanted = false
		p.beginSnapshot()
	}
}

func (p *process) checkCaughtUp() {
	if p.caughtUp || p.state.Position() < p.target {
		return
	}
	p.caughtUp = true
	p.lastAt = p.w.now
	p.register()
}

// register is Service.register, and what follows: requests are taken.
func (p *process) register() {
	p.barrier(func(err error) {
		if err != nil {
			p.after(time.Second, p.register)
			return
		}
		p.registered, p.member = true, true
		p.w.say("%s is ready at %d", p.writer, p.state.Position())
		p.every(replica.TickGrain, p.tick)
	})
}

// tick is Service.tick.
func (p *process) tick() {
	if replica.Due(p.state, p.writer, p.silent()) {
		p.packing.Tick()
		p.poke()
	}
	p.release()
	p.kick()
}

// barrier is Service.barrier.
func (p *process) barrier(done func(error)) {
	r := &request{w: p.w, what: "barrier", at: p.w.now, inside: true, done: func(r *reply) { done(r.err) }}
	p.waiting++
	p.packing.Barrier(r)
	p.poke()
}

// report is Journal.Report.
func (p *process) report(c entry.Command) {
	p.w.judge.reports(p, &c)
	if err := p.packing.Report(c); err != nil {
		p.w.violated("journal", "%s cannot report: %v", p.writer, err)
	}
	p.poke()
}

// poke has the next entry packed, unless one is in flight.
func (p *process) poke() {
	if p.flying || p.packing.Empty() {
		return
	}
	p.flying = true
	p.after(p.w.between(time.Microsecond, 200*time.Microsecond), p.pack)
}

// pack is the beginning of journal.appendOne.
func (p *process) pack() {
	e, callers := p.packing.Take()
	if e == nil {
		p.flying = false
		return
	}
	p.sequence++
	f := &flight{p: p, sequence: p.sequence, entry: e, callers: callers, packedAt: p.w.now, offset: p.w.stream.offset}
	p.inFlight[f.sequence] = f
	h := &e.Header
	h.Writer, h.Sequence = p.writer, f.sequence
	replica.Stamp(h, p.state, p.w.now-p.applied, p.registered)
	p.digests.Stamp(h, p.state)
	h.Flushed = p.ledger.Flushed()
	data, err := entry.Append(nil, e)
	if err != nil {
		p.w.violated("journal", "encoding an entry: %v", err)
	}
	f.data = data
	p.w.judge.packed(f)
	p.publish(f)
}

// publish is journal.publish.
func (p *process) publish(f *flight) {
	f.attempt++
	attempt, begun, applied := f.attempt, p.w.now, p.state.Position()
	once := func(position uint64, err error) {
		if f.landed || f.attempt != attempt {
			return
		}
		if err == nil {
			if position != 0 && position <= applied {
				p.w.violated("journal", "%s: position %d is acknowledged after %d was applied", p.writer, position, applied)
			}
			p.acknowledged(f)
			return
		}
		f.attempt++ // what else comes of this one counts no more
		again, outcome := f.attempts.Failed(err)
		switch {
		case !again:
			p.giveUp(f, outcome)
		case f.applied:
			p.acknowledged(f)
		case p.w.now-f.packedAt >= journal.GiveUp:
			p.giveUp(f, outcome)
		default:
			p.after(min(f.attempts.Pause(p.w.now-begun), f.packedAt+journal.GiveUp-p.w.now), func() {
				switch {
				case f.applied:
					p.acknowledged(f)
				case p.w.now-f.packedAt >= journal.GiveUp:
					p.giveUp(f, outcome)
				case !f.landed:
					p.publish(f)
				}
			})
		}
	}
	p.w.stream.publish(f, func(position uint64, err error) {
		p.after(0, func() { once(position, err) })
	})
	p.after(min(journal.AttemptTimeout, f.packedAt+journal.GiveUp-p.w.now), func() { once(0, errTimeout) })
}

// acknowledged is journal.awaitApplied.
func (p *process) acknowledged(f *flight) {
	if f.landed {
		return
	}
	f.landed = true
	p.landed(f)
	p.after(time.Second, func() { p.nextOne(f) })
}

// landed goes on with the next entry once one is acknowledged and applied.
func (p *process) landed(f *flight) {
	if f.landed && f.applied {
		p.nextOne(f)
	}
}

func (p *process) nextOne(f *flight) {
	if !f.next {
		f.next = true
		p.flying = false
		p.poke()
	}
}

func (p *process) giveUp(f *flight, outcome error) {
	if f.landed {
		return
	}
	f.landed = true
	if p.inFlight[f.sequence] != nil {
		p.w.say("%s gives up %d: %v", p.writer, f.sequence, outcome)
		p.giveBack(f, outcome)
	}
	p.nextOne(f)
}

// giveBack is journal.giveBack.
func (p *process) giveBack(f *flight, err error) {
	p.packing.PutBack(f.entry, f.callers)
	p.poke()
	p.fail(f, err)
}

// fail tells the callers of an entry that it failed.
func (p *process) fail(f *flight, err error) {
	delete(p.inFlight, f.sequence)
	p.w.judge.failed(f, err)
	for _, r := range callersOf(f) {
		p.waiting--
		p.reply(r, &reply{err: wireError(err)})
	}
}

func callersOf(f *flight) []*request {
	all := append(slices.Clone(f.callers.Commands), f.callers.Barriers...)
	for _, r := range f.callers.Renewals {
		all = append(all, r.Caller)
	}
	return all
}

// maintain is a model of journal.maintain.
func (p *process) maintain() {
	rank, ok := p.state.Rank(p.writer)
	if !ok || !p.caughtUp || p.corrupt || p.untrusted {
		return
	}
	s := p.w.stream
	if len(s.snapshots) > 0 && s.snapshots[0].position > p.lastSnapshot {
		p.lastSnapshot = s.snapshots[0].position
	}
	if p.state.Position()-min(p.lastSnapshot, p.state.Position()) < p.w.plan.snapshotEvery {
		p.dueSince = 0
	} else if p.dueSince == 0 {
		p.dueSince = p.w.now
	}
	if p.dueSince != 0 && p.w.now-p.dueSince >= time.Duration(rank)*30*time.Second && p.writing == nil {
		p.wanted = true
		p.packing.Tick()
		p.poke()
	}
	if rank == 0 && p.host.noJournal == 0 {
		s.trim(p.w.plan.keep)
	}
}

// beginSnapshot writes the state down, a step at a time.
func (p *process) beginSnapshot() {
	x := p.state.BeginSnapshot()
	x.Step = p.w.plan.snapshotStep
	p.writing, p.dueSince = x, 0
	image := &image{position: x.Position()}
	p.w.say("%s begins a snapshot of %d", p.writer, image.position)
	p.writeSnapshot(x, image)
}

func (p *process) writeSnapshot(x *state.Snapshot, to *image) {
	p.after(p.w.between(time.Millisecond, p.w.plan.slowSnapshot), func() {
		block, more, err := x.Next(nil)
		if err == nil {
			to.blocks = append(to.blocks, block)
		}
		switch {
		case err != nil:
			p.writing = nil
			x.End()
		case more:
			p.writeSnapshot(x, to)
		default:
			p.writing = nil
			x.End()
			if p.host.noJournal == 0 && !p.w.stream.leaderless {
				p.lastSnapshot = max(p.lastSnapshot, to.position)
				p.w.stream.keep(to)
			}
		}
	})
}
