// Package load has many callers make calls at once, and measures them.
//
//	r := load.Run(ctx, load.Plan{Callers: 16, For: 5 * time.Second}, call, nil)
//	fmt.Println(r.Rate(), r.Percentile(99), r.Failed)
//
// A caller makes its next call when the last one has ended. So while what is called stands still,
// few calls are made: a pause shows in the longest latency, and hardly in the percentiles. A
// latency is exact to 1 %.
package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// Longest is the longest latency that is told apart; a longer one counts as this.
	Longest = 10 * time.Minute
	// digits of a latency that are exact.
	digits = 2
	// pause of a caller after a call that failed: what refuses calls must not be flooded.
	pause = 10 * time.Millisecond
	// tick is how often Run tells its progress.
	tick = 200 * time.Millisecond
)

// Plan says how much is called.
type Plan struct {
	Callers int           // at least 1
	For     time.Duration // no call begins later
	Calls   int           // nor after so many; 0 for no bound
}

// Progress is how far a Run is.
type Progress struct {
	Calls   int64 // that have ended
	Elapsed time.Duration
}

// Result is what was measured.
type Result struct {
	Calls   int64            // that succeeded
	Failed  map[string]int64 // the others, by the names of their errors
	First   error            // of the calls that failed
	Elapsed time.Duration    // until the last call had ended

	latencies *hdrhistogram.Histogram // of those that succeeded, in microseconds
}

// Rate is the calls a second that succeeded.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Calls) / r.Elapsed.Seconds()
}

// Percentile is the latency that percent of the calls did not exceed, and 0 without calls.
func (r *Result) Percentile(percent float64) time.Duration {
	return time.Duration(r.latencies.ValueAtPercentile(percent)) * time.Microsecond
}

// Max is the longest latency.
func (r *Result) Max() time.Duration { return time.Duration(r.latencies.Max()) * time.Microsecond }

// Failures is the number of calls that failed.
func (r *Result) Failures() (n int64) {
	for _, times := range r.Failed {
		n += times
	}
	return n
}

// Caller makes calls and names their errors. Both functions are called concurrently.
type Caller struct {
	// Call makes the call of a number: 0, 1, 2 … in the order in which they begin.
	Call func(ctx context.Context, n int) error
	// Name is the name under which an error is counted.
	Name func(error) string
}

// Run makes calls until the plan is done or ctx ends. Then it waits for those under way: their ctx
// has ended too, and those that fail because of that do not count. It calls progress, unless that
// is nil, from the goroutine of Run.
func Run(ctx context.Context, p Plan, c Caller, progress func(Progress)) *Result {
	m := &measure{caller: c, begun: time.Now()}
	m.result = &Result{Failed: map[string]int64{}, latencies: hdrhistogram.New(1, Longest.Microseconds(), digits)}

	var callers sync.WaitGroup
	for range p.Callers {
		callers.Go(func() { m.callUntil(ctx, p) })
	}
	done := make(chan struct{})
	go func() {
		callers.Wait()
		close(done)
	}()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			m.result.Elapsed = time.Since(m.begun)
			return m.result
		case <-ticker.C:
			if progress != nil {
				progress(Progress{Calls: m.ended.Load(), Elapsed: time.Since(m.begun)})
			}
		}
	}
}

// measure is a Run at work.
type measure struct {
	caller Caller
	begun  time.Time
	next   atomic.Int64 // number of the next call
	ended  atomic.Int64

	mu     sync.Mutex
	result *Result // guarded by mu while callers are at work
}

// callUntil is one caller.
func (m *measure) callUntil(ctx context.Context, p Plan) {
	for at := time.Now(); ctx.Err() == nil && at.Sub(m.begun) < p.For; at = time.Now() {
		n := int(m.next.Add(1)) - 1
		if p.Calls > 0 && n >= p.Calls {
			return
		}
		err := m.caller.Call(ctx, n)
		if err != nil && ctx.Err() != nil {
			return
		}
		m.count(time.Since(at), err)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

func (m *measure) count(took time.Duration, err error) {
	m.ended.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.result.Failed[m.caller.Name(err)]++
		if m.result.First == nil {
			m.result.First = err
		}
		return
	}
	m.result.Calls++
	// The only error is of a value out of bounds.
	_ = m.result.latencies.RecordValue(max(1, min(took, Longest).Microseconds()))
}
