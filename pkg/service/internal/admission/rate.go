package admission

import (
	"hash/maphash"
	"sync"
	"time"

	"presence/pkg/protocol"
)

// RateWindow is the time that rates are counted over: so much of an allowance may be used at
// once.
const RateWindow = 5 * time.Second

// rate gives each of any number of keys an allowance, by GCRA (the generic cell rate
// algorithm). A key may do so much at once. From then on it may do as much as comes back in
// RateWindow.
//
// All that is remembered of a key is a moment: when its whole allowance will be back. That is
// at most RateWindow from now, so a key that has done nothing for that long can be forgotten.
// Two generations of a map do that, each for a RateWindow:
//
//	recent   keys that did something since the last turn
//	before   keys that did something in the turn before, and not since
//
// Both are bounded by maxKeys. In a storm of more keys they turn sooner, and a key that
// maxKeys others came after has its whole allowance again. A nil rate limits nothing.
type rate struct {
	interval time.Duration // what one costs
	seed     maphash.Seed  // so that nobody can choose IDs that share an allowance
	begun    time.Time

	mu             sync.Mutex
	recent, before map[uint64]time.Duration // since begun
	turned         time.Duration            // since begun
}

// maxKeys bounds the keys of one generation: with two of them some 10 MiB.
const maxKeys = 1 << 18

// newRate limits to so many in a time; those of RateWindow may come at once.
func newRate(limit int, in time.Duration) *rate {
	if limit == Unlimited {
		return nil
	}
	return &rate{
		interval: in / time.Duration(limit),
		seed:     maphash.MakeSeed(),
		begun:    time.Now(),
		recent:   make(map[uint64]time.Duration),
		before:   make(map[uint64]time.Duration),
	}
}

// admit is take for callers who return errors.
func (r *rate) admit(key string, n int, now time.Time) error {
	if e := r.take(key, n, now); e != nil {
		return e
	}
	return nil
}

// take takes n off a key's allowance and returns nil, or takes nothing and says
// when so much will have come back.
func (r *rate) take(key string, n int, now time.Time) *protocol.Error {
	if r == nil {
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
	back = max(back, at) + time.Duration(n)*r.interval
	if wait := back - at - RateWindow; wait > 0 {
		return protocol.ErrRateLimited.RetryIn(wait)
	}
	r.recent[hash] = back
	return nil
}

// give puts n that was taken just now back onto a key's allowance.
func (r *rate) give(key string, n int) {
	if r == nil {
		return
	}
	hash := maphash.String(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if back, ok := r.recent[hash]; ok {
		r.recent[hash] = back - time.Duration(n)*r.interval
	}
}

// keys counts what is remembered of keys: two generations of maxKeys at most.
func (r *rate) keys() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.recent) + len(r.before)
}

// turn lets the older generation go where its time is over.
func (r *rate) turn(at time.Duration) {
	if at-r.turned < RateWindow && len(r.recent) < maxKeys {
		return
	}
	r.recent, r.before, r.turned = r.before, r.recent, at
	clear(r.recent)
}
