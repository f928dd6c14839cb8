package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"presence/pkg/protocol"
)

// plan is what a seed makes of a history before it begins: who is there, how bad
// things are, and which faults happen when.
type plan struct {
	seed    uint64
	rolling bool // a rolling restart in peace (G7)

	hosts, clients, gateways int
	users                    []string
	persistent               bool          // the policy of texts
	retention                time.Duration // of lost sessions
	ends                     bool          // operators kick and erase
	damages                  bool          // the memory of instances

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
	by    time.Duration // of a clock
}

func (f fault) String() string {
	s := fmt.Sprintf("%v: %s", f.at.Round(time.Millisecond), f.kind)
	switch f.kind {
	case "clock":
		return fmt.Sprintf("%s by %v", s, f.by)
	case "no leader", "no broker", "no journal":
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
		span:    between(r, 20*time.Second, 4*time.Minute),
		actions: between(r, time.Second, 20*time.Second),
		mess:    pick(0, 0, 0.01, 0.1, 0.3), skips: pick(0, 0, 0.001, 0.01), lateRequests: pick(0, 0, 0.01),
		lostReports: pick(0, 0.1, 0.3), slowEvents: pick(0, 0, 0.02, 0.3),
		slowRestore: between(r, 10*time.Millisecond, 10*time.Second), slowSnapshot: between(r, 2*time.Millisecond, 2*time.Second),
		slowAnnouncer: between(r, 10*time.Microsecond, 2*time.Second),
		snapshotEvery: 20 + r.Uint64N(200), snapshotStep: 1 + r.IntN(400), announceBatch: 1 + r.IntN(6),
		keep: between(r, time.Second, time.Minute),
	}
	if r.IntN(4) == 0 {
		p.retention = between(r, time.Minute, 3*time.Minute)
	}
	for i := range 1 + r.IntN(4) {
		p.users = append(p.users, fmt.Sprintf("u%d", i))
	}
	if p.rolling {
		p.span, p.ends, p.damages, p.retention = 30*time.Second, false, false, protocol.DefaultRetention
		p.mess, p.skips, p.lateRequests, p.slowEvents, p.lostReports = 0, 0, 0, 0, 0
		p.slowAnnouncer, p.slowRestore = min(p.slowAnnouncer, 50*time.Millisecond), min(p.slowRestore, time.Second)
		return p
	}
	kinds := []string{"kill", "kill", "pause", "pause", "restart", "cut from the journal", "cut from the clients", "silently cut from the clients",
		"no leader", "no leader", "no journal", "no broker", "clock", "damage", "bad snapshot"}
	for at := between(r, time.Second, 20*time.Second); at < p.span; at += between(r, time.Second, 40*time.Second) {
		f := fault{kind: kinds[r.IntN(len(kinds))], at: at, host: r.IntN(p.hosts), lasts: between(r, 100*time.Millisecond, 30*time.Second)}
		switch f.kind {
		case "no leader":
			f.lasts = between(r, 100*time.Millisecond, 9*time.Second)
		case "no journal", "no broker":
			f.lasts = between(r, 10*time.Millisecond, 10*time.Minute)
		case "clock":
			f.by = between(r, time.Millisecond, time.Hour)
			if r.IntN(2) == 0 {
				f.by = -f.by
			}
		case "damage":
			if !p.damages {
				continue
			}
		}
		p.faults = append(p.faults, f)
		if f.lasts > time.Minute { // it delays the rest
			p.span += f.lasts
			at += f.lasts
		}
	}
	return p
}
