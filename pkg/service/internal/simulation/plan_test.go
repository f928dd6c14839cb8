package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// plan is what a seed makes of a history before it begins: who is there, how bad
// things are, and which faults happen when.
type plan struct {
	seed    uint64
	rolling bool // a rolling restart in peace (G7)

	hosts, clients, gateways int
	users                    []string
	persistent               bool            // the policy of texts
	graces                   []time.Duration // what one lease after the other chooses; 0: nothing
	format                   uint8           // the format in force
	retention                time.Duration   // of lost sessions
	ends                     bool            // operators kick and erase
	damages                  bool            // the memory of instances

	last    time.Duration // when all users change for the last time
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
	by    time.Duration // how far a clock jumps; how long after its entry or event an instance is struck
}

func (f fault) String() string {
	s := fmt.Sprintf("%v: %s", f.at.Round(time.Millisecond), f.kind)
	switch f.kind {
	case "clock":
		return fmt.Sprintf("%s by %v", s, f.by)
	case "death of a writer":
		return fmt.Sprintf("%s %v after the next entry, for %v", s, f.by.Round(time.Millisecond), f.lasts.Round(time.Millisecond))
	case "cut of an announcer":
		return fmt.Sprintf("%s %v after the next event, for %v", s, f.by.Round(time.Millisecond), f.lasts.Round(time.Millisecond))
	case "power cut":
		return fmt.Sprintf("%s for %v, clock by %v", s, f.lasts.Round(time.Millisecond), f.by)
	case "no leader", "no majority", "no broker", "no broker of the clients", "no journal":
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
		span:    between(r, 4*time.Second, time.Duration(pick(0.5, 0.5, 1, 4)*float64(time.Minute))),
		actions: between(r, time.Second, 20*time.Second),
		mess:    pick(0, 0, 0.01, 0.1, 0.3), skips: pick(0, 0, 0.001, 0.01), lateRequests: pick(0, 0, 0.01),
		lostReports: pick(0, 0.1, 0.3), slowEvents: pick(0, 0.02, 0.3),
		slowRestore: between(r, 10*time.Millisecond, 10*time.Second), slowSnapshot: between(r, 2*time.Millisecond, 2*time.Second),
		slowAnnouncer: between(r, 10*time.Microsecond, 5*time.Second),
		snapshotEvery: 20 + r.Uint64N(200), snapshotStep: 1 + r.IntN(400), announceBatch: int(pick(1, 1, 2, 6)),
		keep: between(r, time.Second, time.Minute),
	}
	if r.IntN(4) == 0 {
		p.retention = between(r, time.Minute, 3*time.Minute)
	}
	p.format = entry.Format
	p.drawGraces()
	for i := range int(pick(1, 2, 3, 4, 8)) {
		p.users = append(p.users, fmt.Sprintf("u%d", i))
	}
	if p.rolling {
		p.span, p.ends, p.damages, p.retention = 30*time.Second, false, false, protocol.DefaultRetention
		p.mess, p.skips, p.lateRequests, p.slowEvents, p.lostReports = 0, 0, 0, 0, 0
		p.slowAnnouncer, p.slowRestore = min(p.slowAnnouncer, 50*time.Millisecond), min(p.slowRestore, time.Second)
		return p
	}
	p.drawFaults(r)
	p.drawEnd(r)
	return p
}

// drawGraces draws by chances of its own, so that a seed's history is as it was before there was a
// choice, but for the graces.
func (p *plan) drawGraces() {
	r := rand.New(rand.NewPCG(p.seed, 2))
	for range 3 {
		p.graces = append(p.graces, []time.Duration{0, 0, time.Second, 20 * time.Second, 60 * time.Second}[r.IntN(5)])
	}
}

func (p *plan) drawFaults(r *rand.Rand) {
	if p.damages { // once: of two that are wrong in two ways nobody can tell who is right
		p.faults = append(p.faults, p.fault(r, []string{"damage"}, between(r, time.Second, p.span)))
	}
	for at := between(r, 3*time.Second, 20*time.Second); at < p.span; at += gap(r) {
		f := p.fault(r, faultKinds, at)
		p.faults = append(p.faults, f)
		if f.lasts > time.Minute { // it delays the rest
			p.span += f.lasts
			at += f.lasts
		}
	}
}

// drawEnd draws how it ends: nobody does anything any more, but for a last change of
// every user. What goes wrong while those are stored and announced is not made good
// by a later one.
func (p *plan) drawEnd(r *rand.Rand) {
	p.last = p.span
	for range 1 + r.IntN(3) {
		f := p.fault(r, lastKinds, p.last+between(r, time.Millisecond, 5*time.Second))
		f.lasts = min(f.lasts, 10*time.Second)
		p.faults = append(p.faults, f)
	}
	p.span += between(r, time.Second, 20*time.Second)
}

// gap draws how long after a fault the next one is: often they overlap.
func gap(r *rand.Rand) time.Duration {
	if r.IntN(3) == 0 {
		return between(r, time.Millisecond, 3*time.Second)
	}
	return between(r, time.Second, 40*time.Second)
}

var (
	faultKinds = []string{"kill", "pause", "restart", "death of a writer", "cut of an announcer", "cut from the journal", "cut from the clients", "silently cut from the clients", "alone in silence",
		"kill", "pause", "no leader", "no leader", "no majority", "no majority", "no journal", "no broker", "no broker of the clients", "power cut", "clock", "bad snapshot"}
	lastKinds = []string{"kill", "pause", "restart", "death of a writer", "death of a writer", "cut of an announcer", "cut of an announcer", "cut from the clients",
		"silently cut from the clients", "silently cut from the clients", "silently cut from the clients", "no leader", "no majority", "no broker", "power cut"}
)

// fault draws one.
func (p *plan) fault(r *rand.Rand, kinds []string, at time.Duration) fault {
	f := fault{kind: kinds[r.IntN(len(kinds))], at: at, host: r.IntN(p.hosts), lasts: between(r, 10*time.Millisecond, 30*time.Second)}
	switch f.kind {
	case "death of a writer", "cut of an announcer":
		f.by = between(r, 10*time.Microsecond, 5*time.Second)
		if r.IntN(2) == 0 {
			f.by = 0
		}
	case "no leader":
		f.lasts = between(r, 100*time.Millisecond, 9*time.Second)
	case "no majority":
		f.lasts = between(r, time.Second, 40*time.Second)
	case "no journal", "no broker", "no broker of the clients":
		f.lasts = between(r, 10*time.Millisecond, 10*time.Minute)
		if r.IntN(3) == 0 { // it restarts
			f.lasts = between(r, 10*time.Millisecond, 2*time.Second)
		}
	case "power cut":
		// A shorter one is none to the lease clock, and neither is one during which the
		// clock goes back by as much as it lasts: clients have what is left of their TTL.
		f.lasts = between(r, 2500*time.Millisecond, 10*time.Minute)
		if r.IntN(2) == 0 {
			f.by = clockJump(r)
		}
		if f.by < 0 {
			f.by -= f.lasts + 5*time.Second
		}
	case "clock":
		f.by = clockJump(r)
	}
	return f
}

func clockJump(r *rand.Rand) time.Duration {
	by := between(r, time.Millisecond, time.Hour)
	if r.IntN(2) == 0 {
		return -by
	}
	return by
}
