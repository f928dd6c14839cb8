package admission

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"presence/pkg/protocol"
)

// These are white-box tests, because time passes in them that nobody waits for.

// allowed reports whether a key may do n more, and else when.
func allowed(t *testing.T, r *rate, key string, n int, at time.Duration) (ok bool, wait time.Duration) {
	t.Helper()
	err := r.take(key, n, r.begun.Add(at))
	if err == nil {
		return true, 0
	}
	wait = protocol.AsError(err).RetryAfter()
	if !errors.Is(err, protocol.ErrRateLimited) || wait <= 0 {
		t.Fatalf("got %v with %v, want rate_limited and when to try again", err, wait)
	}
	return false, wait
}

// TestRate: as many as the allowance at once, and then one for each interval, at the moment that
// the refusal names and not before. Another key is not affected.
func TestRate(t *testing.T) {
	r := newRate(20, RateWindow)
	for i := range 20 {
		if ok, _ := allowed(t, r, "alice", 1, 0); !ok {
			t.Fatalf("the change %d of 20 is refused", i+1)
		}
	}
	ok, wait := allowed(t, r, "alice", 1, 0)
	if ok || wait != 250*time.Millisecond {
		t.Fatalf("the 21st: got %v and %v, want a refusal for 250ms", ok, wait)
	}
	if ok, _ := allowed(t, r, "bob", 1, 0); !ok {
		t.Error("somebody else is refused too")
	}
	if ok, _ := allowed(t, r, "alice", 1, wait-time.Microsecond); ok {
		t.Error("it passes before the time named")
	}
	if ok, _ := allowed(t, r, "alice", 1, wait); !ok {
		t.Error("it is refused at the time named")
	}
	if ok, _ := allowed(t, r, "alice", 1, wait); ok {
		t.Error("one more passes than came back")
	}
	if ok, _ := allowed(t, r, "alice", 20, wait+RateWindow); !ok {
		t.Error("not everything came back in a window")
	}
	if ok, wait := allowed(t, newRate(1000, RateWindow), "gw", 1001, 0); ok || wait != 5*time.Millisecond {
		t.Errorf("more than the allowance at once: got %v and %v", ok, wait)
	}
	if e := newRate(Unlimited, RateWindow).take("alice", 1<<40, time.Now()); e != nil {
		t.Errorf("unlimited: got %v", e)
	}
}

// TestRate_AnyTraffic: whatever comes when, no key does more than its allowance and what came back.
// A key that does less is never refused. Keys come and go, so the maps change places.
func TestRate_AnyTraffic(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	const limit, interval = 20, RateWindow / 20
	r := newRate(limit, RateWindow)
	type bucket struct {
		left float64
		at   time.Duration
	}
	model := map[string]*bucket{}
	var at time.Duration
	var passed, refused int
	for range 100_000 {
		at += time.Duration(rnd.IntN(int(interval / 10)))
		if rnd.IntN(2000) == 0 {
			at += time.Duration(rnd.Int64N(int64(3 * RateWindow)))
		}
		key := fmt.Sprint(rnd.IntN(10), at/(10*RateWindow))
		n := 1 + rnd.IntN(3)
		b := model[key]
		if b == nil {
			b = &bucket{left: limit, at: at}
			model[key] = b
		}
		b.left = min(limit, b.left+float64(at-b.at)/float64(interval))
		b.at = at
		ok, _ := allowed(t, r, key, n, at)
		switch spare := b.left - float64(n); {
		case ok && spare < -1e-6:
			t.Fatalf("%v: %d of %s pass, %.3f are left", at, n, key, b.left)
		case !ok && spare > 1e-6:
			t.Fatalf("%v: %d of %s are refused, %.3f are left", at, n, key, b.left)
		}
		if ok {
			b.left -= float64(n)
			passed++
		} else {
			refused++
		}
	}
	if passed < 1000 || refused < 1000 {
		t.Errorf("%d passed and %d were refused: that says little", passed, refused)
	}
}

// TestRate_Bounded: a million users do not need a million records, and a user who sends without end
// is not forgotten among them.
func TestRate_Bounded(t *testing.T) {
	r := newRate(20, RateWindow)
	passed := 0
	for i := range 1_000_000 {
		at := time.Duration(i) * time.Microsecond
		allowed(t, r, fmt.Sprint(i), 1, at)
		if i%1000 == 0 {
			if ok, _ := allowed(t, r, "flooder", 1, at); ok {
				passed++
			}
		}
	}
	if n := len(r.recent) + len(r.before); n > 2*maxKeys {
		t.Errorf("%d keys are remembered, at most %d should be", n, 2*maxKeys)
	}
	if passed != 23 { // 20, and 3 that came back in less than a second
		t.Errorf("%d changes of the flooder passed in a second, want 23", passed)
	}
}

// TestRate_Room: after a storm of users a rate keeps no room for them, whether others come or none.
func TestRate_Room(t *testing.T) {
	for name, pass := range map[string]func(r *rate, at time.Duration){
		"others come":  func(r *rate, at time.Duration) { allowed(t, r, "alice", 1, at) },
		"nobody comes": func(r *rate, at time.Duration) { r.forget(r.begun.Add(at)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRate(20, RateWindow)
			before := heapInUse()
			for i := range maxKeys {
				allowed(t, r, fmt.Sprint(i), 1, 0)
			}
			full := heapInUse()
			for turn := range 3 {
				pass(r, time.Duration(1+turn)*RateWindow)
			}
			if left := heapInUse(); full < before+1<<20 || left > before+1<<20 {
				t.Errorf("the heap has %d bytes before, %d with %d keys, and %d when they are forgotten", before, full, maxKeys, left)
			}
			if n := r.keys(); n > 2 {
				t.Errorf("%d keys are left", n)
			}
			runtime.KeepAlive(r)
		})
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestOpsOf: whatever the body of a gateway's request has, the smallest allowance that can be
// configured lets it pass at some time.
func TestOpsOf(t *testing.T) {
	r := newRate(LeastGatewayOps, time.Second)
	for _, size := range []int{0, 100, 100 * opBytes, protocol.MaxBodyBytes} {
		n := opsOf(size)
		if ok, wait := allowed(t, r, fmt.Sprint(size), n, 0); !ok || n < 1 {
			t.Errorf("a body of %d bytes costs %d ops: told to wait for %v, which is in vain", size, n, wait)
		}
	}
}

// TestPending: only so many requests of a gateway may wait. Nothing is remembered of a gateway for
// which nothing waits.
func TestPending(t *testing.T) {
	var a pending
	var tickets [3]Ticket
	if !a.take(&tickets[0], "gw", 2) || !a.take(&tickets[1], "gw", 2) || a.take(&tickets[2], "gw", 2) {
		t.Error("want two to be allowed, and no third")
	}
	a.release(&tickets[2]) // which holds nothing
	if a.take(&tickets[2], "gw", 2) {
		t.Error("what held nothing has made room")
	}
	a.release(&tickets[0])
	if !a.take(&tickets[2], "gw", 2) {
		t.Error("an answer makes no room")
	}
	for i := range tickets {
		a.release(&tickets[i])
	}
	if len(a.waiting) != 0 {
		t.Errorf("%v is remembered", a.waiting)
	}
}

// BenchmarkRate measures what a change costs, with as many users as a full load has.
func BenchmarkRate(b *testing.B) {
	for _, users := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(users), func(b *testing.B) {
			keys := make([]string, users)
			for i := range keys {
				keys[i] = fmt.Sprintf("user-%07d", i)
			}
			r := newRate(20, RateWindow)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				// 100,000 changes a second.
				_ = r.take(keys[i%users], 1, r.begun.Add(time.Duration(i)*10*time.Microsecond))
				i++
			}
		})
	}
}

// TestBounded_Rate: a key that is used again and again is remembered once in each map.
func TestBounded_Rate(t *testing.T) {
	r := newRate(20, RateWindow)
	for i := range 1_000_000 {
		r.take("alice", 1, r.begun.Add(time.Duration(int64(i)*r.interval.Load())))
	}
	if n := r.keys(); n > 2 {
		t.Errorf("one key is remembered %d times", n)
	}
}
