package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sample is one variant in one round.
type sample struct {
	count    int // what the rate is of
	elapsed  time.Duration
	p50, p99 time.Duration // of a call; 0: not measured
	cpu      time.Duration // of the server, for all; 0: not known
}

func (s sample) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.count) / s.elapsed.Seconds()
}

// callFor has callers make one call after the other until the time is over.
// i counts a caller's calls. The first error ends all.
func callFor(ctx context.Context, callers int, d time.Duration, call func(caller, i int) error) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	begun := time.Now()
	for c := range callers {
		wg.Go(func() {
			for i, at := 0, begun; at.Sub(begun) < d && ctx.Err() == nil; i++ {
				if err := call(c, i); err != nil {
					cancel(err)
					return
				}
				now := time.Now()
				latencies[c] = append(latencies[c], now.Sub(at))
				at = now
			}
		})
	}
	wg.Wait()
	s := sample{elapsed: time.Since(begun)}
	if ctx.Err() != nil {
		return s, context.Cause(ctx)
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	s.count = len(all)
	s.p50, s.p99 = percentile(all, 50), percentile(all, 99)
	return s, nil
}

// callEach makes the calls 0 to n-1, shared out among callers.
func callEach(ctx context.Context, callers, n int, call func(caller, i int) error) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for c := range min(callers, n) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := call(c, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun), context.Cause(ctx)
}
