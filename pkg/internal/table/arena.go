package table

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Text is a text in an Arena. 0 is none, and is read as the empty text.
type Text uint32

const (
	// A Text is the number of its chunk, and its place there in units of 4 bytes.
	placeBits = 14
	unit      = 4
	chunkSize = unit << placeBits // 64 KiB
	// firstChunk is the size of the first chunk. Each chunk is as large as all before it
	// together, until chunkSize.
	firstChunk = 1 << 10
	maxChunks  = 1 << (32 - placeBits)

	ownerBytes = 4
	// dead is in the place of the owner of a text that was freed.
	dead = ^uint32(0)
)

// Arena holds texts back to back, in chunks without pointers. Texts are at most 16 GiB
// together.
//
// Each text has an owner, a number that its user chooses. When half of a chunk is dead, Tidy
// copies what is left of it to another chunk. It tells the owner of each text by the function
// given to NewArena where the text is from then on.
//
// A string that Get returned stays valid and never changes, also after the text was freed or
// has moved: the bytes of a chunk are written once. Such a string keeps its whole chunk in
// memory, so it should not be kept for long.
type Arena struct {
	moved  func(owner uint32, to Text)
	chunks []chunk // the first one is not used
	free   []uint32
	filled uint32   // the chunk that is being filled
	worn   []uint32 // chunks of which more than half is dead
	count  int
	bytes  int // of all chunks
	dead   int
}

type chunk struct {
	bytes []byte // its capacity never changes; nil: not in use
	dead  int
	worn  bool // in Arena.worn
}

// NewArena returns an empty arena. Tidy calls moved for each text that it moves. The text has
// moved by then, and moved must not use the arena.
func NewArena(moved func(owner uint32, to Text)) *Arena {
	return &Arena{moved: moved, chunks: make([]chunk, 1)}
}

// Put adds a text, which may be empty. The owner must not be 1<<32 - 1. Texts that are equal
// are not shared.
func (a *Arena) Put(owner uint32, text string) Text {
	size := sizeOf(len(text))
	c := a.roomFor(size)
	b := c.bytes
	place := len(b)
	b = binary.LittleEndian.AppendUint32(b, owner)
	b = binary.AppendUvarint(b, uint64(len(text)))
	b = append(b, text...)
	a.count++
	c.bytes = b[:place+size] // what pads it to whole units is zero already
	return Text(a.filled<<placeBits | uint32(place/unit))
}

// sizeOf returns how many bytes a text of a length takes.
func sizeOf(length int) int {
	size := ownerBytes + 1 + length
	for n := length; n >= 1<<7; n >>= 7 {
		size++
	}
	return (size + unit - 1) / unit * unit
}

// roomFor returns the chunk that is being filled, with room for so many bytes.
func (a *Arena) roomFor(size int) *chunk {
	if c := &a.chunks[a.filled]; a.filled != 0 && cap(c.bytes)-len(c.bytes) >= size {
		return c
	}
	before := a.filled
	if n := len(a.free); n > 0 {
		a.filled, a.free = a.free[n-1], a.free[:n-1]
	} else {
		if len(a.chunks) == maxChunks {
			panic("table: the texts of an arena take more than 16 GiB")
		}
		a.filled = uint32(len(a.chunks))
		a.chunks = append(a.chunks, chunk{})
	}
	room := max(min(max(firstChunk, a.bytes), chunkSize), size)
	a.chunks[a.filled] = chunk{bytes: make([]byte, 0, room)}
	a.bytes += room
	a.noteWorn(before)
	return &a.chunks[a.filled]
}

// Get returns a text.
func (a *Arena) Get(t Text) string {
	if t == 0 {
		return ""
	}
	b := a.at(t)[ownerBytes:]
	length, from := uint64(b[0]), 1
	if length >= 1<<7 {
		length, from = binary.Uvarint(b)
	}
	b = b[from:]
	return unsafe.String(unsafe.SliceData(b), int(length)) // no byte of it is ever written again
}

// Length returns the length of a text in bytes.
func (a *Arena) Length(t Text) int { return len(a.Get(t)) }

// Owner returns the owner of a text, which must not be 0.
func (a *Arena) Owner(t Text) uint32 { return binary.LittleEndian.Uint32(a.at(t)) }

// at returns the bytes of a chunk from a text on.
func (a *Arena) at(t Text) []byte {
	return a.chunks[t>>placeBits].bytes[(t%(1<<placeBits))*unit:]
}

// Free takes a text back. Until the next call of Tidy no text moves.
func (a *Arena) Free(t Text) {
	if t == 0 {
		return
	}
	if a.Owner(t) == dead {
		panic(fmt.Sprintf("table: the text %d is freed twice", t))
	}
	size := sizeOf(len(a.Get(t)))
	binary.LittleEndian.PutUint32(a.at(t), dead)
	n := uint32(t >> placeBits)
	a.count--
	a.chunks[n].dead += size
	a.dead += size
	a.noteWorn(n)
}

// noteWorn has Tidy look at a chunk of which more than half is dead. The one that is being
// filled is left alone until it is full.
func (a *Arena) noteWorn(n uint32) {
	c := &a.chunks[n]
	if n == 0 || n == a.filled || c.worn || 2*c.dead <= len(c.bytes) {
		return
	}
	c.worn = true
	a.worn = append(a.worn, n)
}

// Tidy gives the chunks back of which more than half is dead. It copies fewer bytes than were
// freed since the last call, or about.
func (a *Arena) Tidy() {
	for len(a.worn) > 0 {
		n := a.worn[len(a.worn)-1]
		a.worn = a.worn[:len(a.worn)-1]
		a.empty(n)
	}
}

// empty moves all texts of a chunk to the one that is being filled.
func (a *Arena) empty(n uint32) {
	b := a.chunks[n].bytes
	for place := 0; place < len(b); {
		t := Text(n<<placeBits | uint32(place/unit))
		text, owner := a.Get(t), a.Owner(t)
		if owner != dead {
			a.count--
			a.moved(owner, a.Put(owner, text))
		}
		place += sizeOf(len(text))
	}
	a.bytes -= cap(b)
	a.dead -= a.chunks[n].dead
	a.chunks[n] = chunk{}
	a.free = append(a.free, n)
}

// Len returns how many texts there are.
func (a *Arena) Len() int { return a.count }

// Bytes returns how many bytes the chunks have, and how many of those are dead.
func (a *Arena) Bytes() (all, dead int) { return a.bytes, a.dead }
