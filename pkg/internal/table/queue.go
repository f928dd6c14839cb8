package table

import "iter"

const queueSize = 256

// Queue holds values in the order in which they were pushed, in blocks of 256. No value moves,
// and a block is given back when its last value is popped. The zero value is empty.
//
// A copy of a Queue has the values that were in it at the time of the copy, whatever is pushed to
// the original later or popped from it. Nothing may be pushed to the copy.
type Queue[T any] struct {
	head, tail *queueBlock[T]
	from       int // index of the first value in head
	count      int
}

type queueBlock[T any] struct {
	next   *queueBlock[T] // first, so that the collector passes over values without pointers
	values [queueSize]T
}

// Len returns how many values there are.
func (q *Queue[T]) Len() int { return q.count }

// Push adds a value behind all others.
func (q *Queue[T]) Push(x T) {
	i := (q.from + q.count) % queueSize
	switch {
	case q.head == nil:
		q.head = new(queueBlock[T])
		q.tail, q.from, i = q.head, 0, 0
	case i == 0:
		q.tail.next = new(queueBlock[T])
		q.tail = q.tail.next
	}
	q.tail.values[i] = x
	q.count++
}

// First returns the value that was pushed first. The queue must not be empty.
func (q *Queue[T]) First() T { return q.head.values[q.from] }

// Pop takes the value out that was pushed first. The queue must not be empty.
func (q *Queue[T]) Pop() T {
	x := q.First()
	q.count--
	if q.from++; q.from == queueSize {
		q.head, q.from = q.head.next, 0
	}
	if q.count == 0 {
		*q = Queue[T]{}
	}
	return x
}

// All iterates over the values, the first one first. The queue must not change meanwhile.
func (q *Queue[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for c := *q; c.count > 0; {
			if !yield(c.Pop()) {
				return
			}
		}
	}
}
