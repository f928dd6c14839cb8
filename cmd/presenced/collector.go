package main

import (
	"context"
	"os"
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
