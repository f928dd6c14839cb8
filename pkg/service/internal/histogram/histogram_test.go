package histogram

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// TestHistogram: a duration is in the bucket of the first bound that it does not exceed, and in all
// later ones, however many goroutines observe.
func TestHistogram(t *testing.T) {
	t.Parallel()
	for name, bounds := range map[string][]time.Duration{"latency": Latency, "detection": Detection} {
		if !slices.IsSorted(bounds) || len(bounds) > mostBounds {
			t.Errorf("%s: bad bounds: %v", name, bounds)
		}
	}
	h := Histogram{Bounds: []time.Duration{10, 20, 30}}
	var observing sync.WaitGroup
	for range 4 {
		observing.Go(func() {
			for _, d := range []time.Duration{-5, 0, 10, 11, 20, 30, 31, time.Hour} {
				for range 1000 {
					h.Observe(d)
				}
			}
		})
	}
	observing.Wait()
	s := h.Snapshot()
	if want := []uint64{12_000, 20_000, 24_000}; !slices.Equal(s.Counts, want) || s.Count != 32_000 {
		t.Errorf("got %v and %d in all, want %v and 32000", s.Counts, s.Count, want)
	}
	if want := 4000 * (102 + time.Hour); s.Sum != want {
		t.Errorf("sum: got %d, want %d", s.Sum, want)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			h.Observe(777 * time.Microsecond)
		}
	})
}
