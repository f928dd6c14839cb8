package main

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// By default Go lets the heap grow to twice what is in use before it collects garbage. With a
// million users that is 200 MB for nothing: what there is of users has no pointers, so a
// collection takes the same time however many they are. The smaller the heap is, the more often
// it is collected, so a small one keeps the default.
const (
	mostGrowth  = 100      // percent by which the heap grows between two collections
	leastGrowth = 40       // percent
	fewBytes    = 16 << 20 // by which a heap of medium size grows
	growthEvery = 5 * time.Second
)

// growthFor returns by how many percent a heap should grow of which so many bytes are in use.
func growthFor(live uint64) int {
	return int(min(mostGrowth, max(leastGrowth, 100*fewBytes/max(live, 1))))
}

// limitGrowth keeps what the heap grows by in proportion until ctx is done. It leaves the heap
// alone if GOGC is set.
func limitGrowth(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(growthEvery)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for growth := mostGrowth; ; {
		// To set it stops the process for a moment, so small differences are let pass.
		metrics.Read(live)
		if want := growthFor(live[0].Value.Uint64()); want < growth-growth/10 || want > growth+growth/10 {
			growth = want
			debug.SetGCPercent(growth)
		}
		select {
		case <-ctx.Done():
			debug.SetGCPercent(mostGrowth)
			return
		case <-tick.C:
		}
	}
}

// Go keeps what it has collected, to use it again, and returns it to the system over minutes. It
// does not collect either while little is allocated. So after many logins there is memory that is
// used for nothing. It goes back at once where it would not soon be used again.
const (
	spareEvery = 2 * time.Second // how often presenced looks
	backEvery  = 5 * time.Second // how often it gives back at most
	// usedWithin is how soon spare memory must be used again, at the rate at which memory is
	// allocated, to be kept.
	usedWithin = 20 * time.Second
	// fewSpare bytes are kept, and a part of a large heap.
	fewSpare  = 2 << 20
	sparePart = 1.0 / 16
	// emptied is how many collections it takes until buffers are gone that the NATS server inside
	// keeps in case that they are needed: one lets go of them, and two more empty their pool.
	emptied = 3
)

// heap is what the runtime tells of its heap, in bytes.
type heap struct {
	live, objects, free uint64 // objects are those in use and those to be collected
	allocated           uint64 // in all
}

func readHeap() heap {
	list := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(list)
	n := func(i int) uint64 { return list[i].Value.Uint64() }
	return heap{live: n(0), objects: n(1), free: n(2), allocated: n(3)}
}

// spare is how much a collection would free, as far as is known, with what is free already. What
// was alive at the last collection counts as alive.
func (h heap) spare() uint64 { return h.free + h.objects - min(h.live, h.objects) }

// isSpare reports whether so many bytes are to be given back. before is the heap as it was some
// time ago.
func (h heap) isSpare(bytes uint64, before heap, since time.Duration) bool {
	used := float64(h.allocated-before.allocated) * usedWithin.Seconds() / since.Seconds()
	return float64(bytes) > max(fewSpare, sparePart*float64(h.live), used)
}

// giveBack returns spare memory to the system until ctx is done. It does so again as long as that
// frees more: some of what a busy time leaves is garbage only some seconds later. Each time takes
// some ms of a processor, and more for a large heap, beside what else runs.
func giveBack(ctx context.Context) {
	h, at, last, freed := readHeap(), time.Now(), time.Time{}, uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(spareEvery + rand.N(spareEvery/4)):
		}
		before, since := h, time.Since(at)
		if h, at = readHeap(), time.Now(); at.Sub(last) < backEvery || !h.isSpare(max(h.spare(), freed), before, since) {
			continue
		}
		had := h.objects + h.free
		for range emptied - 1 {
			runtime.GC()
		}
		debug.FreeOSMemory() // which collects once more
		h, at, last = readHeap(), time.Now(), time.Now()
		freed = had - min(had, h.objects+h.free)
	}
}
