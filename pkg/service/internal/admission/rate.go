package admission

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"
)

// RateWindow is the time in which a whole allowance comes back. All of it may be used at once.
const RateWindow = 5 * time.Second

// rate gives every key an allowance, by GCRA (the generic cell rate algorithm). A key may use the
// whole allowance at once. Then it comes back bit by bit, all of it in RateWindow.
//
// Of a key only one moment is remembered: when its whole allowance will be back. That is at most
// RateWindow from now. So a key that has done nothing for that long can be forgotten. There are two
// maps for that, which change places each RateWindow:
//
//	recent   keys that did something since the last turn
//	before   keys that did something in the turn before, and not since
//
// Both are bounded by maxKeys. In a storm of more keys the turns are shorter, and some keys get
// their whole allowance too soon. Each map is made anew at its turn, because a map that is cleared
// keeps the room of all keys that it ever had.
//
// What is remembered is a time, and not a number of requests. So the limit can change: who had used
// half of an allowance has used half of the new one.
type rate struct {
	interval atomic.Int64 // what one costs, in nanoseconds; 0: nothing, there is no limit
	seed     maphash.Seed // so that nobody can choose IDs that share an allowance
	begun    time.Time

	mu             sync.Mutex
	recent, before map[uint64]time.Duration // since begun
	turned         time.Duration            // since begun
}

// maxKeys bounds the keys of one map. Two full maps take some 10 MiB.
const maxKeys = 1 << 18

// newRate allows limit in a time. As many as RateWindow brings may come at once.
func newRate(limit int, in time.Duration) *rate {
	r := &rate{
		seed:   maphash.MakeSeed(),
		begun:  time.Now(),
		recent: make(map[uint64]time.Duration),
		before: make(map[uint64]time.Duration),
	}
	r.allow(limit, in)
	return r
}

// allow changes the limit.
func (r *rate) allow(limit int, in time.Duration) {
	if limit == Unlimited {
		r.interval.Store(0)
		return
	}
	r.interval.Store(int64(in) / int64(limit))
}

// take takes n off a key's allowance and returns nil, or takes nothing and returns an error that
// says when so much will have come back.
func (r *rate) take(key string, n int, now time.Time) error {
	interval := r.interval.Load()
	if interval == 0 {
		return nil
	}
	at, hash := now.Sub(r.begun), maphash.String(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at)
	back, again := r.recent[hash]
	if !again {
		back = r.before[hash]
	}
	back = max(back, at) + time.Duration(int64(n)*interval)
	if wait := back - at - RateWindow; wait > 0 {
		return protocol.ErrRateLimited.RetryIn(wait)
	}
	r.recent[hash] = back
	return nil
}

// giveBack gives n back to a key's allowance, which was taken just now.
func (r *rate) giveBack(key string, n int) {
	interval := r.interval.Load()
	if interval == 0 {
		return
	}
	hash := maphash.String(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if back, ok := r.recent[hash]; ok {
		r.recent[hash] = back - time.Duration(int64(n)*interval)
	}
}

// keys returns how many keys are remembered: at most two maps of maxKeys.
func (r *rate) keys() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.recent) + len(r.before)
}

// turn forgets the older map when its time is over.
func (r *rate) turn(at time.Duration) {
	if at-r.turned < RateWindow && len(r.recent) < maxKeys {
		return
	}
	r.before, r.turned = r.recent, at
	r.recent = make(map[uint64]time.Duration, len(r.before))
}

// forget forgets the keys that did nothing for long. It is for times in which nobody calls take.
func (r *rate) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now.Sub(r.begun))
}
