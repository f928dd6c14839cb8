// Package histogram counts durations in buckets, as Prometheus' classic histograms do.
//
//	var h histogram.Histogram        // of latencies
//	h.Observe(time.Since(begun))
//	s := h.Snapshot()                // s.Counts[i] took at most s.Bounds[i]
//
// To observe takes some nanoseconds and no lock: every request does it. The libraries at hand take
// a lock, or would bring more memory into presenced than all its figures.
package histogram

import (
	"sort"
	"sync/atomic"
	"time"
)

// Latency are the bounds of latencies: those of requests and of the journal.
var Latency = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Detection are the bounds of the times that losses take to be noticed. They are fine around the
// default grace of 5 s and TTLs of 15 and 30 s.
var Detection = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 5500 * time.Millisecond, 6 * time.Second, 7 * time.Second, 10 * time.Second,
	15 * time.Second, 17 * time.Second, 20 * time.Second, 30 * time.Second, 32 * time.Second, 45 * time.Second,
	time.Minute, 90 * time.Second, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, time.Hour,
}

// mostBounds is as many as any histogram has.
const mostBounds = 19

// Histogram counts durations. The zero value has the bounds Latency. Its methods are safe for
// concurrent use.
type Histogram struct {
	// Bounds are ascending, at most mostBounds. They are set before the first use.
	Bounds []time.Duration

	counts [mostBounds + 1]atomic.Uint64 // the last one used is of what is above all bounds
	sum    atomic.Int64
}

// Observe counts a duration. A negative one counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	bounds := h.bounds()
	h.counts[sort.Search(len(bounds), func(i int) bool { return d <= bounds[i] })].Add(1)
	h.sum.Add(int64(max(d, 0)))
}

func (h *Histogram) bounds() []time.Duration {
	if h.Bounds == nil {
		return Latency
	}
	return h.Bounds
}

// Snapshot is what a histogram has counted.
type Snapshot struct {
	Bounds []time.Duration // shared: not to be changed
	// Counts has for each bound how many durations were at most as long.
	Counts []uint64
	Count  uint64        // of all durations
	Sum    time.Duration // of all durations
}

// Snapshot returns what was counted so far. What is observed at the same time may be missing in
// Sum and present in Count, or the other way round.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Bounds: h.bounds(), Sum: time.Duration(h.sum.Load())}
	s.Counts = make([]uint64, len(s.Bounds))
	for i := range s.Bounds {
		s.Count += h.counts[i].Load()
		s.Counts[i] = s.Count
	}
	s.Count += h.counts[len(s.Bounds)].Load()
	return s
}
