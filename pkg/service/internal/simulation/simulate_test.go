package simulation

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simulate = flag.Duration("simulate", 3*time.Second, "play histories for so long")
	// The same histories each time, so that a failure is of the change at hand.
	seed = flag.Uint64("seed", 305972239, "play the history of this seed first; 0: any")
)

// TestSimulate plays histories for -simulate and checks G1 to G4, G6 to G8 and
// G14 on each. What it finds it shows with its seed, after having left out the
// faults that it does without.
func TestSimulate(t *testing.T) {
	t.Parallel()
	// Histories are small and make much garbage: collecting takes a third of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	var next, histories, steps, faults atomic.Uint64
	var failed atomic.Bool
	begun := time.Now()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !failed.Load() && time.Since(begun) < *simulate {
				p := newPlan(first + next.Add(1) - 1)
				w, v := play(p, false)
				histories.Add(1)
				steps.Add(uint64(w.steps))
				faults.Add(uint64(w.faults))
				if v != nil && !failed.Swap(true) {
					t.Error(explain(p, v))
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d histories from seed %d on, %d steps, %d faults, in %v", histories.Load(), first, steps.Load(), faults.Load(), time.Since(begun).Round(time.Millisecond))
}

// shown is how many lines of a history are shown before what it violates.
const shown = 120

// explain shows a history that violates something.
func explain(p *plan, v *violation) string {
	p, v = minimise(p, v)
	w, again := play(p, true)
	if again == nil || *again != *v {
		return fmt.Sprintf("seed %d: %s: %s, but not when it is played again: %+v", p.seed, v.guarantee, v.what, again)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\nafter %v of seed %d: %d instances, %d clients, %d gateways, %d users, mess %v, skips %v\n",
		v.guarantee, v.what, v.at, p.seed, p.hosts, p.clients, p.gateways, len(p.users), p.mess, p.skips)
	for _, f := range p.faults {
		if f.at < v.at {
			fmt.Fprintln(&b, " ", f)
		}
	}
	fmt.Fprintf(&b, "The last of %d lines of its history:\n%s", len(w.trace), strings.Join(w.trace[max(0, len(w.trace)-shown):], "\n"))
	return b.String()
}

// minimise leaves out what the same guarantee is violated without.
func minimise(p *plan, v *violation) (*plan, *violation) {
	try := func(change func(*plan)) {
		q := *p
		q.faults = slices.Clone(p.faults)
		change(&q)
		if _, again := play(&q, false); again != nil && again.guarantee == v.guarantee {
			p, v = &q, again
		}
	}
	for i := len(p.faults) - 1; i >= 0; i-- {
		try(func(q *plan) { q.faults = slices.Delete(q.faults, i, i+1) })
	}
	for _, change := range []func(*plan){
		func(q *plan) { q.mess = 0 },
		func(q *plan) { q.skips = 0 },
		func(q *plan) { q.lateRequests = 0 },
		func(q *plan) { q.slowEvents = 0 },
		func(q *plan) { q.lostReports = 0 },
		func(q *plan) { q.gateways = 0 },
		func(q *plan) { q.clients = 1 },
		func(q *plan) { q.hosts = 2 },
		func(q *plan) { q.ends = false },
	} {
		try(change)
	}
	return p, v
}

// TestSeeds: a seed always plays the same history; else what is found could not be
// looked at.
func TestSeeds(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 5; seed++ {
		first, v := play(newPlan(seed), true)
		if v != nil {
			t.Error(explain(newPlan(seed), v))
		}
		second, _ := play(newPlan(seed), true)
		if !slices.Equal(first.trace, second.trace) {
			t.Errorf("seed %d played two histories", seed)
		}
	}
}
