package simulation

import (
	"fmt"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/replica"
)

// host is a machine on which one instance after the other runs.
type host struct {
	w         *world
	name      string
	p         *process // nil: none runs
	noJournal int      // how many faults cut it off from the journal
	noClients int      // the same, from the clients' broker
	paused    bool
	resumedAt time.Duration
	link      int  // generation of the connection to the clients' broker
	swallows  bool // cut off from the clients, and neither side knows yet
	damage    bool // its memory is going to be damaged
}

// start starts an instance.
func (h *host) start() {
	if h.p != nil {
		return
	}
	w := h.w
	w.instances++
	p := &process{w: w, host: h, instance: fmt.Sprintf("%s.%d", h.name, w.instances), state: state.New(), inFlight: map[uint64]*flight{}, known: h.link}
	h.p = p
	p.lastAt = w.now
	w.say("%s starts as %s", h.name, p.instance)
	p.begin(0, 0)
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
	h.paused, h.resumedAt = false, h.w.now
	h.w.say("%s goes on", h.name)
	p := h.p
	if p == nil {
		return
	}
	held := p.paused
	p.paused = nil
	if stood > protocol.StaleAfter {
		p.wake()
	}
	for _, do := range held {
		if !p.dead {
			do()
		}
	}
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
		p.after(p.w.between(time.Microsecond, 100*time.Millisecond), func() { // events of the connection come on a goroutine of theirs
			p.report(entry.Command{Kind: entry.RequestsLost})
			p.ledger.Again()
			p.kick()
		})
	}
}

// process is one run of an instance: the service with its state, the queue of its
// journal and its announcer. What package service does on several goroutines is
// here a chain of happenings for each of them.
type process struct {
	w        *world
	host     *host
	instance string
	dead     bool
	paused   []func() // while the host is paused

	state   *state.State
	digests replica.Digests
	// caughtUp, registered and member come in this order: the journal's end was
	// reached, an entry is applied, requests are taken.
	caughtUp, registered, member, leaving bool
	rebuilding, waking                    bool
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
	offset   time.Duration // of the stream's clock when the last entry was stored
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
	known      int // host.link as the ledger knows it
	sent, had  int // events published, and those of them that the broker said it had

	waiters []waiter
	coming  int // requests on their way from the broker
}

// waiter is a query that waits for a revision.
type waiter struct {
	r        *request
	position uint64
	deadline time.Duration
}

// wake is what service.pauses does after the process stood still: it is stale
// until it has seen all requests that came meanwhile and all entries.
func (p *process) wake() {
	if !p.registered {
		return
	}
	p.waking = true
	p.report(entry.Command{Kind: entry.RequestsLost})
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
			p.paused = append(p.paused, do)
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

// register is Service.register, and what follows: requests are taken.
func (p *process) register() {
	p.barrier(func(err error) {
		if err != nil {
			p.after(time.Second, p.register)
			return
		}
		p.registered, p.member = true, true
		p.w.say("%s is ready at %d", p.instance, p.state.Position())
		p.every(replica.TickGrain, p.tick)
	})
}

// tick is Service.tick.
func (p *process) tick() {
	if replica.Due(p.state, p.instance, p.silent(), p.host.noClients == 0 || p.host.swallows, false) {
		p.packing.Tick()
		p.poke()
	}
	p.failLate() // journal.failOverdue
	p.release()
	p.kick()
}

// barrier is Service.barrier.
func (p *process) barrier(done func(error)) {
	r := &request{w: p.w, what: "barrier", at: p.w.now, begun: p.w.now, inside: true, done: func(r *reply) { done(r.err) }}
	p.waiting++
	p.packing.Barrier(r)
	p.poke()
}

// report is Journal.Report.
func (p *process) report(c entry.Command) {
	p.w.judge.reports(p, &c)
	if err := p.packing.Report(c); err != nil {
		p.w.violated("journal", "%s cannot report: %v", p.instance, err)
	}
	p.poke()
}
