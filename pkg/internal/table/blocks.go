package table

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

const (
	blockBits = 8
	blockSize = 1 << blockBits
)

// Blocks holds records of one type by number, in blocks of 256. A record stays where it is
// until it is freed, so a pointer to it may be used until then. T should have no pointers.
// The zero value is ready for use.
type Blocks[T any] struct {
	blocks []block[T]
	count  int
	room   []uint64      // a bit for each block that has room
	first  int           // no word of room before this one has a bit
	spare  *[blockSize]T // the records of the block that was emptied last, all zero
}

type block[T any] struct {
	records *[blockSize]T // nil: none is in use
	used    [blockSize / 64]uint64
	count   int
}

// New returns a record that is zero, and its number. It takes a number from the lowest block
// that has room, so that higher blocks become empty in time.
func (b *Blocks[T]) New() (uint32, *T) {
	at := b.withRoom()
	k := &b.blocks[at]
	if k.records == nil {
		k.records, b.spare = b.spare, nil
		if k.records == nil {
			k.records = new([blockSize]T)
		}
	}
	word := 0
	for k.used[word] == ^uint64(0) {
		word++
	}
	i := word*64 + bits.TrailingZeros64(^k.used[word])
	k.used[word] |= 1 << (i % 64)
	k.count++
	b.count++
	if k.count == blockSize {
		b.room[at/64] &^= 1 << (at % 64)
	}
	return uint32(at<<blockBits | i), &k.records[i]
}

// withRoom returns the index of the lowest block that has room. It adds one if there is none.
func (b *Blocks[T]) withRoom() int {
	for ; b.first < len(b.room); b.first++ {
		if w := b.room[b.first]; w != 0 {
			return b.first*64 + bits.TrailingZeros64(w)
		}
	}
	at := len(b.blocks)
	b.blocks = append(b.blocks, block[T]{})
	if at == 0 {
		// The number 0 means none, so it is never given.
		b.blocks[0].used[0], b.blocks[0].count = 1, 1
	}
	b.giveRoom(at)
	return at
}

func (b *Blocks[T]) giveRoom(at int) {
	for len(b.room) <= at/64 {
		b.room = append(b.room, 0)
	}
	b.room[at/64] |= 1 << (at % 64)
	b.first = min(b.first, at/64)
}

// Free takes a record back and makes it zero. The number must be in use.
func (b *Blocks[T]) Free(n uint32) {
	if !b.Has(n) {
		panic(fmt.Sprintf("table: the number %d is freed and not in use", n))
	}
	at, i := int(n>>blockBits), n%blockSize
	k := &b.blocks[at]
	var zero T
	k.records[i] = zero
	k.used[i/64] &^= 1 << (i % 64)
	k.count--
	b.count--
	b.giveRoom(at)
	if k.count == 0 || at == 0 && k.count == 1 {
		b.spare, k.records = k.records, nil
		b.trim()
	}
}

// trim drops empty blocks at the end, so that a walk over all numbers ends early.
func (b *Blocks[T]) trim() {
	last := len(b.blocks)
	for last > 1 && b.blocks[last-1].records == nil {
		last--
		b.room[last/64] &^= 1 << (last % 64)
	}
	b.blocks = b.blocks[:last]
	if words := (last + 63) / 64; words < len(b.room) {
		b.room = b.room[:words]
	}
	if cap(b.blocks) > 4*last+64 {
		b.blocks, b.room = slices.Clone(b.blocks), slices.Clone(b.room)
	}
	b.first = min(b.first, len(b.room))
}

// At returns the record with a number that is in use; nil for 0.
func (b *Blocks[T]) At(n uint32) *T {
	if n == 0 {
		return nil
	}
	return &b.blocks[n>>blockBits].records[n%blockSize]
}

// Has reports whether a number is in use.
func (b *Blocks[T]) Has(n uint32) bool {
	at := int(n >> blockBits)
	return n != 0 && at < len(b.blocks) && b.blocks[at].used[n%blockSize/64]&(1<<(n%64)) != 0
}

// Get returns the record with a number; nil if the number is not in use.
func (b *Blocks[T]) Get(n uint32) *T {
	if !b.Has(n) {
		return nil
	}
	return b.At(n)
}

// Len returns how many records are in use.
func (b *Blocks[T]) Len() int { return b.count }

// Room returns for how many records there is memory.
func (b *Blocks[T]) Room() (n int) {
	for i := range b.blocks {
		if b.blocks[i].records != nil {
			n += blockSize
		}
	}
	return n
}

// End returns a number that no record in use has, nor any higher one.
func (b *Blocks[T]) End() uint32 { return uint32(len(b.blocks)) << blockBits }

// From iterates over the records in use from a number on, in the order of their numbers.
// Records may be added and freed meanwhile: one that is added may be left out.
func (b *Blocks[T]) From(n uint32) iter.Seq2[uint32, *T] {
	return func(yield func(uint32, *T) bool) {
		at, i := int(n>>blockBits), n%blockSize
		for ; at < len(b.blocks); at, i = at+1, 0 {
			for at < len(b.blocks) && b.blocks[at].records != nil {
				i = b.blocks[at].next(i)
				if i == blockSize {
					break
				}
				if number := uint32(at)<<blockBits | i; number != 0 && !yield(number, &b.blocks[at].records[i]) {
					return
				}
				i++
			}
		}
	}
}

// All is From the first number.
func (b *Blocks[T]) All() iter.Seq2[uint32, *T] { return b.From(0) }

// next returns the first index from i on that is in use; blockSize if there is none.
func (k *block[T]) next(i uint32) uint32 {
	for ; i < blockSize; i = (i/64 + 1) * 64 {
		if w := k.used[i/64] >> (i % 64); w != 0 {
			return i + uint32(bits.TrailingZeros64(w))
		}
	}
	return blockSize
}
