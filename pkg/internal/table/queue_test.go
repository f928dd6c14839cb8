package table

import (
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestQueue: a queue gives what was pushed, in that order, and a copy of it what was in it then.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var q, copied Queue[int]
		var want, wantCopied []int
		next := 0
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			n := rapid.SampledFrom([]int{1, 7, queueSize - 1, queueSize, 3*queueSize + 1}).Draw(rt, "n")
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				for range n {
					next++
					q.Push(next)
					want = append(want, next)
				}
			case 2:
				for range min(n, len(want)) {
					if first, got := q.First(), q.Pop(); first != got || got != want[0] {
						rt.Fatalf("First gives %d and Pop %d, want %d", first, got, want[0])
					}
					want = want[1:]
				}
			case 3:
				copied, wantCopied = q, want
			}
			if q.Len() != len(want) {
				rt.Fatalf("Len() is %d, want %d", q.Len(), len(want))
			}
		}
		if got := slices.Collect(q.All()); !slices.Equal(got, want) {
			rt.Fatalf("All gives %v, want %v", got, want)
		}
		for _, w := range wantCopied {
			if got := copied.Pop(); got != w {
				rt.Fatalf("the copy gives %d, want %d", got, w)
			}
		}
		if copied.Len() != 0 {
			rt.Fatalf("the copy has %d more", copied.Len())
		}
	})
}

// TestQueue_Flat: a queue through which much goes takes the memory of what is in it.
func TestQueue_Flat(t *testing.T) {
	var q Queue[[64]byte]
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 100_000 {
		q.Push([64]byte{})
		if i >= 100 {
			q.Pop()
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap had %d bytes, and %d with %d values", before, after, q.Len())
	}
	runtime.KeepAlive(&q)
}
