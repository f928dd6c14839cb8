package table

import (
	"fmt"
	"iter"
)

const (
	arrayBits = 10
	arraySize = 1 << arrayBits
)

// Array holds numbers by index, in blocks of 1024. A block in which all numbers are 0 takes no
// memory. No number moves when the array grows, so no caller waits for a copy of all. The zero
// value is empty.
type Array[T ~uint32] struct {
	blocks []arrayBlock[T]
	length int
}

type arrayBlock[T ~uint32] struct {
	numbers *[arraySize]T // nil: all are 0
	count   int           // how many are not 0
}

// Len returns how many numbers there are, those that are 0 included.
func (a *Array[T]) Len() int { return a.length }

// Grow adds numbers that are 0 until there are so many.
func (a *Array[T]) Grow(length int) {
	a.length = max(a.length, length)
	for len(a.blocks)<<arrayBits < a.length {
		a.blocks = append(a.blocks, arrayBlock[T]{})
	}
}

// Get returns the number at an index; 0 if it is beyond the length.
func (a *Array[T]) Get(i uint32) T {
	if int(i) >= a.length {
		return 0
	}
	k := &a.blocks[i>>arrayBits]
	if k.numbers == nil {
		return 0
	}
	return k.numbers[i%arraySize]
}

// Set changes the number at an index, which must be below the length.
func (a *Array[T]) Set(i uint32, n T) {
	if int(i) >= a.length {
		panic(fmt.Sprintf("table: index %d of an array of %d", i, a.length))
	}
	k := &a.blocks[i>>arrayBits]
	switch before := a.Get(i); {
	case before == n:
		return
	case before == 0:
		if k.count++; k.numbers == nil {
			k.numbers = new([arraySize]T)
		}
	case n == 0:
		if k.count--; k.count == 0 {
			k.numbers = nil
			return
		}
	}
	k.numbers[i%arraySize] = n
}

// All iterates over the numbers that are not 0, in the order of their indexes. Numbers may be
// changed meanwhile.
func (a *Array[T]) All() iter.Seq2[uint32, T] {
	return func(yield func(uint32, T) bool) {
		for at := 0; at < len(a.blocks); at++ {
			if a.blocks[at].numbers == nil {
				continue
			}
			for i := uint32(at) << arrayBits; i>>arrayBits == uint32(at); i++ {
				if n := a.Get(i); n != 0 && !yield(i, n) {
					return
				}
			}
		}
	}
}

// Room returns for how many numbers there is memory.
func (a *Array[T]) Room() (n int) {
	for i := range a.blocks {
		if a.blocks[i].numbers != nil {
			n += arraySize
		}
	}
	return n
}
