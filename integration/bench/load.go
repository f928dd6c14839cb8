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

// span is the time during which something was done.
type span struct{ from, to time.Time }

func (s span) took() time.Duration { return s.to.Sub(s.from) }

// overlaps says that some moment is in both.
func (s span) overlaps(o span) bool { return !s.to.Before(o.from) && !o.to.Before(s.from) }

// callPaced makes each caller call once in every; the callers' times are spread evenly
// over it. It returns all calls, in the order of their ends. A call counts from when it
// was due, even if the call before it was still under way then. So a pause shows in every
// call that it held up. The first error ends all.
func callPaced(ctx context.Context, callers int, every, d time.Duration, call func(caller, i int) error) ([]span, error) {
	calls := make([][]span, callers)
	begun := time.Now()
	_, err := callFor(ctx, callers, d, func(caller, i int) error {
		due := begun.Add(every*time.Duration(i) + every*time.Duration(caller)/time.Duration(callers))
		time.Sleep(time.Until(due))
		err := call(caller, i)
		calls[caller] = append(calls[caller], span{due, time.Now()})
		return err
	})
	all := slices.Concat(calls...)
	slices.SortFunc(all, func(a, b span) int { return a.to.Compare(b.to) })
	return all, err
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
