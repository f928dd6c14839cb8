package state

import (
	"container/heap"
	"math"
)

// bucketWidth is the grain of a calendar in milliseconds: what is due falls
// due at the end of its bucket, at most this much late.
const bucketWidth = 100

// calendar holds items by the moment at which they fall due, without a timer
// or a heap slot for each: a map of buckets, and a heap of the buckets' numbers.
//
// It is lazy: an item whose moment moved later stays where it is and is added
// again when its bucket comes up, so that renewing a lease costs nothing here.
// Who holds an item remembers the bucket it waits in (see session.bucket).
// What falls due when follows from the items alone, not from the calendar's
// history; a calendar built anew from the same items behaves the same.
type calendar[B bucket, T any] struct {
	buckets map[B][]T
	order   bucketHeap[B]
}

// bucket numbers one: uint32 suffices for the lease clock, which would have to
// run for 13 years, and halves what each item remembers of it; int64 for wall
// time.
type bucket interface{ uint32 | int64 }

// bucketOf returns the number of the bucket in which a moment falls due: the
// first that ends at or after it. Numbers begin at 1; 0 stands for none.
func bucketOf(at int64) int64 {
	return max(1, (at+bucketWidth-1)/bucketWidth)
}

// leaseBucket is bucketOf for a moment of the lease clock.
func leaseBucket(at int64) uint32 { return uint32(min(bucketOf(at), math.MaxUint32)) }

// add puts an item into a bucket.
func (c *calendar[B, T]) add(bucket B, item T) {
	if c.buckets == nil {
		c.buckets = make(map[B][]T)
	}
	items, ok := c.buckets[bucket]
	if !ok {
		heap.Push(&c.order, bucket)
	}
	c.buckets[bucket] = append(items, item)
}

// pop removes the earliest bucket that is due at now and returns its number
// and items, or 0.
func (c *calendar[B, T]) pop(now int64) (B, []T) {
	if len(c.order) == 0 || int64(c.order[0])*bucketWidth > now {
		return 0, nil
	}
	bucket := heap.Pop(&c.order).(B)
	items := c.buckets[bucket]
	delete(c.buckets, bucket)
	return bucket, items
}

// next returns when the earliest bucket falls due.
func (c *calendar[B, T]) next() (int64, bool) {
	if len(c.order) == 0 {
		return 0, false
	}
	return int64(c.order[0]) * bucketWidth, true
}

type bucketHeap[B bucket] []B

func (h bucketHeap[B]) Len() int           { return len(h) }
func (h bucketHeap[B]) Less(i, j int) bool { return h[i] < h[j] }
func (h bucketHeap[B]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *bucketHeap[B]) Push(x any)        { *h = append(*h, x.(B)) }
func (h *bucketHeap[B]) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
