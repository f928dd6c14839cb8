package differential

import (
	"container/heap"
	"math"
	"slices"
)

// bucketWidth is the grain of a calendar in milliseconds: what is due falls
// due at the end of its bucket, at most this much late.
const bucketWidth = 100

// calendar holds items by the moment at which they fall due, without a timer
// or a heap slot for each: a map of buckets, and a heap of the buckets.
//
// Each item remembers the bucket in which it waits; at says where. An item whose
// moment moved later stays where it is and is put in again when its bucket comes
// up, so that renewing a lease costs nothing here. An item that moved earlier, or
// ended, leaves a dead entry behind. A bucket is swept as soon as more than half
// of it is dead, and goes with its last item. So a calendar has at most two
// entries for each item that waits, however often items come and go.
//
// What falls due when follows from the items alone, not from the calendar's
// history; a calendar built anew from the same items behaves the same.
type calendar[B bucket, T any] struct {
	at      func(T) *B // where an item remembers its bucket; 0 there: it does not wait
	buckets map[B]*items[B, T]
	order   bucketHeap[B, T]
	entries int // in all buckets, dead ones included
}

// items are those of one bucket.
type items[B bucket, T any] struct {
	number  B
	list    []T // what does not remember this bucket is dead
	waiting int // how many are alive
	place   int // index in calendar.order
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

// put has an item wait in a bucket, unless it waits in an earlier one.
func (c *calendar[B, T]) put(item T, bucket B) {
	if at := c.at(item); *at != 0 && *at <= bucket {
		return
	}
	c.drop(item)
	if c.buckets == nil {
		c.buckets = make(map[B]*items[B, T])
	}
	x := c.buckets[bucket]
	if x == nil {
		x = &items[B, T]{number: bucket}
		c.buckets[bucket] = x
		heap.Push(&c.order, x)
	}
	x.list = append(x.list, item)
	x.waiting++
	c.entries++
	*c.at(item) = bucket
}

// drop has an item not wait any more.
func (c *calendar[B, T]) drop(item T) {
	at := c.at(item)
	if *at == 0 {
		return
	}
	x := c.buckets[*at]
	*at = 0
	x.waiting--
	switch {
	case x.waiting == 0:
		heap.Remove(&c.order, x.place)
		c.forget(x)
	case len(x.list) > 2*x.waiting:
		c.sweep(x)
	}
}

// pop removes the earliest bucket that is due at now and returns the items that
// wait in it; none where no bucket is due.
func (c *calendar[B, T]) pop(now int64) []T {
	if len(c.order) == 0 || int64(c.order[0].number)*bucketWidth > now {
		return nil
	}
	x := heap.Pop(&c.order).(*items[B, T])
	c.forget(x)
	return c.release(x)
}

// forget notes that a bucket is out of the heap.
func (c *calendar[B, T]) forget(x *items[B, T]) {
	delete(c.buckets, x.number)
	c.entries -= len(x.list)
}

// sweep takes the dead entries out of a bucket.
func (c *calendar[B, T]) sweep(x *items[B, T]) {
	c.entries -= len(x.list)
	x.list = slices.Clone(c.release(x)) // which gives the room back
	c.entries += len(x.list)
	for _, item := range x.list {
		*c.at(item) = x.number
	}
}

// release returns the items that wait in a bucket, each once, and has them wait no
// more. One that left and came back is in the list twice.
func (c *calendar[B, T]) release(x *items[B, T]) []T {
	alive := x.list[:0]
	for _, item := range x.list {
		if at := c.at(item); *at == x.number {
			*at = 0
			alive = append(alive, item)
		}
	}
	return alive
}

// next returns when the earliest bucket falls due.
func (c *calendar[B, T]) next() (int64, bool) {
	if len(c.order) == 0 {
		return 0, false
	}
	return int64(c.order[0].number) * bucketWidth, true
}

type bucketHeap[B bucket, T any] []*items[B, T]

func (h bucketHeap[B, T]) Len() int           { return len(h) }
func (h bucketHeap[B, T]) Less(i, j int) bool { return h[i].number < h[j].number }
func (h bucketHeap[B, T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *bucketHeap[B, T]) Push(x any) {
	b := x.(*items[B, T])
	b.place = len(*h)
	*h = append(*h, b)
}

func (h *bucketHeap[B, T]) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
