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

// TestIsSpare: memory goes back if there is much of it, and if it would not be used within 20 s.
func TestIsSpare(t *testing.T) {
	const mib = 1 << 20
	idle := heap{live: 20 * mib, objects: 30 * mib, free: 10 * mib, allocated: 1000 * mib}
	for _, c := range []struct {
		name   string
		change func(h *heap)
		want   bool
	}{
		{"nothing is allocated", func(*heap) {}, true},
		{"1.9 MiB in 2 s would be 19 in 20 s", func(h *heap) { h.allocated += 19 * mib / 10 }, true},
		{"2.1 MiB in 2 s would be 21", func(h *heap) { h.allocated += 21 * mib / 10 }, false},
		{"there is little", func(h *heap) { h.objects, h.free = 21*mib, mib }, false},
		{"all of it is garbage", func(h *heap) { h.free = 0 }, true},
		{"all of it is free", func(h *heap) { h.objects = h.live }, true},
		{"less is in use than was alive at the last collection", func(h *heap) { h.objects, h.free = 0, 0 }, false},
		{"there is little beside a large heap", func(h *heap) { h.live, h.objects = 500*mib, 510*mib }, false},
		{"there is much beside a large heap", func(h *heap) { h.live, h.objects = 500*mib, 530*mib }, true},
	} {
		h := idle
		c.change(&h)
		if got := h.isSpare(h.spare(), idle, 2*time.Second); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestGiveBack: garbage is collected, and its memory goes back to the system, though nothing else
// makes Go collect.
func TestGiveBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // never
	debug.FreeOSMemory()
	for range 256 {
		part := make([]byte, 1<<20)
		for i := 0; i < len(part); i += 4096 {
			part[i] = 1
		}
		runtime.KeepAlive(part)
	}
	returned := func() uint64 {
		list := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(list)
		return list[0].Value.Uint64()
	}
	before := returned()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { giveBack(ctx); close(done) }()
	for deadline := time.Now().Add(time.Minute); returned() < before+200<<20 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if got := returned(); got < before+200<<20 {
		t.Errorf("%d bytes were returned before and %d later, want the garbage of 256 MiB more", before, got)
	}
	cancel()
	<-done
}
