package load_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"presence/cmd/presencectl/load"
)

func name(err error) string { return err.Error() }

// TestRun: rates, percentiles and errors are those of the calls. Time is that of a bubble.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		r := load.Run(t.Context(), load.Plan{Callers: 4, For: time.Hour, Calls: 1000}, load.Caller{Name: name, Call: func(_ context.Context, n int) error {
			if n%100 == 99 {
				return refused
			}
			if n%100 == 0 {
				time.Sleep(time.Second)
			} else {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		}}, nil)
		if r.Calls != 990 || r.Failures() != 10 || r.Failed["refused"] != 10 || r.First != refused {
			t.Errorf("Run: got %d calls, failed %v, first %v; want 990 and 10 refused", r.Calls, r.Failed, r.First)
		}
		for _, want := range []struct {
			percent float64
			latency time.Duration
		}{{50, 10 * time.Millisecond}, {98, 10 * time.Millisecond}, {99.9, time.Second}} {
			if got := r.Percentile(want.percent); got < want.latency*99/100 || got > want.latency*101/100 {
				t.Errorf("Percentile(%v): got %v, want %v", want.percent, got, want.latency)
			}
		}
		if got := r.Max(); got < 990*time.Millisecond || got > 1010*time.Millisecond {
			t.Errorf("Max: got %v, want 1s", got)
		}
		if got, want := r.Rate(), 990/r.Elapsed.Seconds(); got != want || r.Elapsed < 4*time.Second {
			t.Errorf("Rate: got %v after %v, want %v", got, r.Elapsed, want)
		}
	})
}

// TestRun_Bounds: no call begins after the time, and there are never more at once than callers.
func TestRun_Bounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		begun, told := time.Now(), load.Progress{}
		r := load.Run(t.Context(), load.Plan{Callers: 3, For: time.Second}, load.Caller{Name: name, Call: func(context.Context, int) error {
			if since := time.Since(begun); since >= time.Second {
				t.Errorf("a call began after %v", since)
			}
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(300 * time.Millisecond)
			return nil
		}}, func(p load.Progress) { told = p })
		if r.Calls != 12 || most.Load() != 3 || r.Elapsed != 1200*time.Millisecond {
			t.Errorf("Run: got %d calls, %d at once, in %v; want 12, 3 at once, in 1.2s", r.Calls, most.Load(), r.Elapsed)
		}
		if told.Calls == 0 || told.Elapsed < 800*time.Millisecond {
			t.Errorf("progress: got %+v last", told)
		}
	})
}

// TestRun_Interrupted: what was measured before is kept, and what the end of ctx broke off does
// not count.
func TestRun_Interrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		r := load.Run(ctx, load.Plan{Callers: 2, For: time.Hour}, load.Caller{Name: name, Call: func(ctx context.Context, _ int) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
				return nil
			}
		}}, nil)
		if r.Calls != 4 || r.Failures() != 0 || r.Elapsed != 250*time.Millisecond {
			t.Errorf("Run: got %d calls, failed %v, in %v; want 4, none, in 250ms", r.Calls, r.Failed, r.Elapsed)
		}
	})
}

// TestRun_Nothing: without a call that succeeded all figures are 0.
func TestRun_Nothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := load.Run(ctx, load.Plan{Callers: 1, For: time.Hour}, load.Caller{Name: name, Call: func(context.Context, int) error { return nil }}, nil)
	if r.Calls != 0 || r.Rate() != 0 || r.Percentile(99.9) != 0 || r.Max() != 0 {
		t.Errorf("Run: got %d calls, rate %v, p99.9 %v, max %v, want 0", r.Calls, r.Rate(), r.Percentile(99.9), r.Max())
	}
}
