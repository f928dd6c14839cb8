package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestGrowthFor: a small heap grows by what Go lets it, a large one by less, and one between by as
// many bytes whatever its size.
func TestGrowthFor(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {3 << 20, 100}, {16 << 20, 100}, {20 << 20, 80}, {32 << 20, 50}, {40 << 20, 40}, {200 << 20, 40}, {1 << 40, 40}} {
		if got := growthFor(c.live); got != c.want {
			t.Errorf("growthFor(%d MiB) = %d, want %d", c.live>>20, got, c.want)
		}
	}
}

// TestLimitGrowth: the growth that is in force is that of the heap, and the default in the end.
func TestLimitGrowth(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(mostGrowth))
	large := make([]byte, 256<<20)
	runtime.GC()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { limitGrowth(ctx); close(done) }()
	inForce := func() int {
		growth := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(growth)
		return int(growth[0].Value.Uint64())
	}
	for deadline := time.Now().Add(time.Minute); inForce() != leastGrowth && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := inForce(); got != leastGrowth {
		t.Errorf("with %d bytes in use the heap grows by %d percent, want %d", len(large), got, leastGrowth)
	}
	runtime.KeepAlive(large)
	cancel()
	<-done
	if got := inForce(); got != mostGrowth {
		t.Errorf("in the end the heap grows by %d percent, want %d", got, mostGrowth)
	}
}

// TestLimitGrowth_GOGC: who sets GOGC decides.
func TestLimitGrowth_GOGC(t *testing.T) {
	t.Setenv("GOGC", "70")
	limitGrowth(t.Context()) // returns at once
}
