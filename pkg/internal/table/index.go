package table

import (
	"fmt"
	"math/bits"
	"runtime"
)

// Index finds numbers by keys that the numbers' records hold. It keeps no keys: only the
// numbers, and 15 bits of each key's hash. It takes 7 to 9 bytes for each number.
//
// It is a hash table in segments of at most about 900 numbers, by the first bits of the hash
// (extendible hashing). A segment grows by a quarter, for which those 15 bits suffice, or is
// split in two. A segment shrinks when three quarters of it are empty, and two that were split
// become one again when they have few numbers. So no Add or Remove takes longer than to hash 900
// keys, beside the list of segments, which has about 8 bytes for each 500 numbers and is copied
// when it doubles or halves.
type Index[K comparable] struct {
	hash func(K) uint64
	key  func(number uint32) K
	// segments has a power of two elements, by the first bits of a hash. A segment that has
	// fewer bits of its own is there several times.
	segments []*segment
	depth    uint8 // how many bits
	deepest  int   // how many segments have as many bits
	count    int
}

// segment is a hash table with open addressing, in groups of 8 slots. A search ends at the
// first group that has a slot that was never used.
type segment struct {
	groups []group
	depth  uint8 // how many first bits the hashes have in common
	count  int
	left   int // so many unused slots may still be used
}

// group has a tag for each slot: the last 7 bits of the hash, or unused or deleted. more has the
// 8 bits before those.
type group struct {
	tags    uint64
	more    [groupSize]uint8
	numbers [groupSize]uint32
}

const (
	groupSize = 8
	tagBits   = 7
	lastBits  = tagBits + 8 // of a hash, that a group keeps
	// perGroup is how many slots of a group are used at most, on average.
	perGroup = 7
	// maxGroups is how many groups a segment has before it is split.
	maxGroups = 128

	unused  = 0x80
	deleted = 0xfe

	each = 0x0101010101010101
	high = 0x8080808080808080
)

// NewIndex returns an empty index. key returns the key of a number that was added. Keys that
// are equal must have equal hashes, of which all bits should be random.
func NewIndex[K comparable](hash func(K) uint64, key func(number uint32) K) *Index[K] {
	return &Index[K]{hash: hash, key: key, segments: []*segment{newSegment(0, 0)}, deepest: 1}
}

// newSegment returns an empty segment with room for some numbers.
func newSegment(depth uint8, numbers int) *segment {
	n := numbers/perGroup + 1
	s := &segment{groups: make([]group, n), depth: depth, left: n * perGroup}
	for i := range s.groups {
		s.groups[i].tags = unused * each
	}
	return s
}

// Grow makes room for so many numbers at once. The index must be empty.
func (x *Index[K]) Grow(numbers int) {
	depth := uint8(0)
	for numbers>>depth > maxGroups*perGroup*3/4 {
		depth++
	}
	x.depth, x.deepest, x.segments = depth, 1<<depth, make([]*segment, 1<<depth)
	for i := range x.segments {
		n := numbers >> depth
		x.segments[i] = newSegment(depth, n+n/8)
	}
}

// Len returns how many numbers there are.
func (x *Index[K]) Len() int { return x.count }

// Room returns how many slots there are.
func (x *Index[K]) Room() (n int) {
	last := (*segment)(nil)
	for _, s := range x.segments {
		if s != last { // one that is there several times is there in a row
			n, last = n+len(s.groups)*groupSize, s
		}
	}
	return n
}

// Find returns the number of a key; 0 if there is none.
func (x *Index[K]) Find(k K) uint32 {
	h := x.hash(k)
	s := x.segment(h)
	for p := s.probe(h); ; p.next() {
		g := &s.groups[p.at]
		for m := match(g.tags, h); m != 0; m &= m - 1 {
			i := slot(m)
			if n := g.numbers[i]; g.more[i] == more(h) && x.key(n) == k {
				return n
			}
		}
		if g.unused() != 0 {
			return 0
		}
	}
}

// Several is how many keys Likely takes at once.
const Several = 64

// Likely returns for each key the number that it most likely has, and 0 for a key that has none.
// It goes by the hash alone. The caller compares the keys, and calls Find where they differ: that
// is once in a thousand times.
//
// Most of a search is waiting for memory. So Likely takes each step for all keys, one right after
// the other, and the processor waits for the memory of several at once. A caller who goes on in
// that way finds many keys in half the time. There are at most Several keys.
func (x *Index[K]) Likely(keys []K, numbers *[Several]uint32) {
	var hashes [Several]uint64
	var groups [Several]*group
	var read uint32 // without a use the compiler would leave the reading out
	for i, k := range keys {
		hashes[i] = x.hash(k)
	}
	for i := range keys {
		s := x.segment(hashes[i])
		groups[i] = &s.groups[s.probe(hashes[i]).at]
	}
	for i := range keys {
		// This is what waits. A group may be in two lines of the processor's cache.
		read += uint32(groups[i].tags) + groups[i].numbers[groupSize-1]
	}
	runtime.KeepAlive(read)
	for i := range keys {
		numbers[i] = x.segment(hashes[i]).likely(hashes[i])
	}
}

// likely returns the first number that has the hash, as far as a group keeps it.
func (s *segment) likely(h uint64) uint32 {
	for p := s.probe(h); ; p.next() {
		g := &s.groups[p.at]
		for m := match(g.tags, h); m != 0; m &= m - 1 {
			if i := slot(m); g.more[i] == more(h) {
				return g.numbers[i]
			}
		}
		if g.unused() != 0 {
			return 0
		}
	}
}

// Add adds a number. Its key must not be in the index.
func (x *Index[K]) Add(n uint32) {
	h := x.hash(x.key(n))
	s := x.segment(h)
	for s.left == 0 {
		x.widen(h)
		s = x.segment(h)
	}
	s.add(h, n)
	x.count++
}

// Remove removes a number. Its key must be the one with which it was added.
func (x *Index[K]) Remove(n uint32) {
	h := x.hash(x.key(n))
	s := x.segment(h)
	for p := s.probe(h); ; p.next() {
		g := &s.groups[p.at]
		for m := match(g.tags, h); m != 0; m &= m - 1 {
			if i := slot(m); g.numbers[i] == n {
				s.remove(g, i)
				x.count--
				if s.count < len(s.groups)*groupSize/4 {
					x.shrink(s, h)
				}
				return
			}
		}
		if g.unused() != 0 {
			panic(fmt.Sprintf("table: the number %d is removed and not in the index", n))
		}
	}
}

// segment returns the segment of a hash.
func (x *Index[K]) segment(h uint64) *segment { return x.segments[h>>(64-x.depth)] }

// widen makes room in the segment of a hash.
func (x *Index[K]) widen(h uint64) {
	s := x.segment(h)
	switch full := len(s.groups) * perGroup; {
	case s.count < full*3/4: // the rest is deleted
		x.rebuild(s, s.count+s.count/4)
	case len(s.groups) < maxGroups, s.depth == x.depth && len(x.segments) > x.count/64:
		// In the second case too many hashes begin alike: to split more would help little.
		x.rebuild(s, full+full/4)
	default:
		x.split(h)
	}
}

// rebuild gives a segment new slots, for so many numbers.
func (x *Index[K]) rebuild(s *segment, numbers int) {
	old := *s
	*s = *newSegment(old.depth, numbers)
	for h, n := range old.all {
		s.add(h, n)
	}
}

// split divides the segment of a hash by one more bit.
func (x *Index[K]) split(h uint64) {
	old := x.segment(h)
	if old.depth == x.depth {
		wider := make([]*segment, 2*len(x.segments))
		for i, s := range x.segments {
			wider[2*i], wider[2*i+1] = s, s
		}
		x.segments, x.depth, x.deepest = wider, x.depth+1, 0
	}
	depth := old.depth + 1
	if depth == x.depth {
		x.deepest += 2
	}
	var halves [2][]uint32
	var hashes [2][]uint64
	for _, n := range old.all {
		h := x.hash(x.key(n))
		i := h >> (64 - depth) & 1
		halves[i], hashes[i] = append(halves[i], n), append(hashes[i], h)
	}
	first, places := x.places(h, depth-1)
	places /= 2
	for i, numbers := range halves {
		s := newSegment(depth, len(numbers)+len(numbers)/4)
		for k, n := range numbers {
			s.add(hashes[i][k], n)
		}
		for p := range places {
			x.segments[first+i*places+p] = s
		}
	}
}

// shrink gives back room of a segment, which has the hash, or makes it one with others.
func (x *Index[K]) shrink(s *segment, h uint64) {
	merged := false
	for x.merge(h) {
		merged = true
	}
	if !merged && len(s.groups) > 1 {
		x.rebuild(s, s.count+s.count/2)
	}
}

// fewNumbers is how many numbers two segments have together, at most, when they become one.
const fewNumbers = maxGroups * perGroup / 4

// merge makes one segment of that of a hash and the one from which it was split, if both have few
// numbers. It reports whether it did.
func (x *Index[K]) merge(h uint64) bool {
	s := x.segment(h)
	if s.depth == 0 {
		return false
	}
	other := x.segment(h ^ 1<<(64-s.depth))
	if other.depth != s.depth || s.count+other.count > fewNumbers {
		return false
	}
	one := newSegment(s.depth-1, s.count+other.count+(s.count+other.count)/2)
	for _, from := range []*segment{s, other} {
		for h, n := range from.all {
			one.add(h, n)
		}
	}
	first, places := x.places(h, one.depth)
	for p := range places {
		x.segments[first+p] = one
	}
	if s.depth == x.depth {
		x.deepest -= 2
	}
	for x.deepest == 0 && x.depth > 0 {
		x.halve()
	}
	return true
}

// halve makes the list of segments half as long. No segment has as many bits as the list.
func (x *Index[K]) halve() {
	half := make([]*segment, len(x.segments)/2)
	x.depth--
	for i := range half {
		if half[i] = x.segments[2*i]; half[i].depth == x.depth {
			x.deepest++
		}
	}
	x.segments = half
}

// places returns which elements of segments are for the hashes that have so many first bits in
// common with h.
func (x *Index[K]) places(h uint64, depth uint8) (first, count int) {
	return int(h >> (64 - x.depth) &^ (1<<(x.depth-depth) - 1)), 1 << (x.depth - depth)
}

// all yields all numbers of a segment, and the last bits of their hashes.
func (s *segment) all(yield func(uint64, uint32) bool) {
	for at := range s.groups {
		g := &s.groups[at]
		for m := ^g.tags & high; m != 0; m &= m - 1 {
			i := slot(m)
			if !yield(uint64(g.more[i])<<tagBits|uint64(g.tag(i)), g.numbers[i]) {
				return
			}
		}
	}
}

// add adds a number where there is room. Of the hash the last bits suffice.
func (s *segment) add(h uint64, n uint32) {
	for p := s.probe(h); ; p.next() {
		g := &s.groups[p.at]
		if m := g.tags & high; m != 0 { // unused or deleted
			i := slot(m)
			if g.tag(i) == unused {
				s.left--
			}
			g.setTag(i, uint8(h&0x7f))
			g.more[i], g.numbers[i] = more(h), n
			s.count++
			return
		}
	}
}

// remove empties a slot. A search must not end there if it went past the group before.
func (s *segment) remove(g *group, i int) {
	tag := uint8(deleted)
	if g.unused() != 0 { // each search ends in this group anyway
		tag = unused
		s.left++
	}
	g.setTag(i, tag)
	g.numbers[i] = 0
	s.count--
}

// probe goes through the groups of a segment, from one on that depends on the last bits of the
// hash.
func (s *segment) probe(h uint64) probe {
	n := uint64(len(s.groups))
	return probe{at: int(h & (1<<lastBits - 1) * n >> lastBits), groups: int(n)}
}

// more returns the bits of a hash before those of the tag.
func more(h uint64) uint8 { return uint8(h >> tagBits) }

type probe struct{ at, groups int }

func (p *probe) next() {
	if p.at++; p.at == p.groups {
		p.at = 0
	}
}

// match returns a bit for each slot that may have the hash's tag. Now and then there is one
// too many, of a slot that is in use.
func match(tags, h uint64) uint64 {
	x := tags ^ each*(h&0x7f)
	return (x - each) &^ x & high
}

// unused returns a bit for each slot that was never used.
func (g *group) unused() uint64 { return g.tags &^ (g.tags << 6) & high }

func (g *group) tag(i int) uint8 { return uint8(g.tags >> (8 * i)) }

func (g *group) setTag(i int, tag uint8) {
	g.tags = g.tags&^(0xff<<(8*i)) | uint64(tag)<<(8*i)
}

// slot returns the index of the first slot that has a bit.
func slot(m uint64) int { return bits.TrailingZeros64(m) / 8 }
