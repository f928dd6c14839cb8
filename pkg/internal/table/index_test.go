package table

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// indexModel is an Index beside a map that holds the same.
type indexModel struct {
	index *Index[string]
	keys  map[uint32]string // of all numbers that were ever added
	want  map[string]uint32
	next  uint32
}

func newIndexModel(hash func(string) uint64) *indexModel {
	m := &indexModel{keys: map[uint32]string{}, want: map[string]uint32{}}
	m.index = NewIndex(hash, func(n uint32) string { return m.keys[n] })
	return m
}

var seed = maphash.MakeSeed()

func goodHash(k string) uint64 { return maphash.String(seed, k) }

// hashes are a good one and bad ones: then there is more to search, and the same to find.
var hashes = map[string]func(string) uint64{
	"good":               goodHash,
	"all alike":          func(string) uint64 { return 42 },
	"begin alike":        func(k string) uint64 { return goodHash(k) >> 20 },
	"end alike":          func(k string) uint64 { return goodHash(k) << 40 },
	"few different ones": func(k string) uint64 { return goodHash(k) % 3 << 62 },
}

func (m *indexModel) add(k string) {
	if m.want[k] == 0 {
		m.next++
		m.keys[m.next], m.want[k] = k, m.next
		m.index.Add(m.next)
	}
}

func (m *indexModel) remove(k string) {
	m.index.Remove(m.want[k])
	delete(m.want, k)
}

// findSeveral finds keys by Likely.
func (m *indexModel) findSeveral(keys []string) []uint32 {
	var numbers [Several]uint32
	m.index.Likely(keys, &numbers)
	for i, k := range keys {
		if n := numbers[i]; n != 0 && m.keys[n] != k {
			numbers[i] = m.index.Find(k)
		}
	}
	return numbers[:len(keys)]
}

func (m *indexModel) check(t testing.TB, others ...string) {
	if m.index.Len() != len(m.want) {
		t.Fatalf("Len() is %d, want %d", m.index.Len(), len(m.want))
	}
	keys := append(slices.Sorted(maps.Keys(m.want)), others...)
	for some := range slices.Chunk(keys, Several) {
		for i, n := range m.findSeveral(some) {
			if k := some[i]; n != m.want[k] || m.index.Find(k) != n {
				t.Fatalf("of %q Likely gives %d, Find %d, want %d", k, n, m.index.Find(k), m.want[k])
			}
		}
	}
	count, deepest, seen := 0, 0, map[*segment]bool{}
	for i, s := range m.index.segments {
		if places := 1 << (m.index.depth - s.depth); s != m.index.segments[i/places*places] {
			t.Fatalf("the segment at %d has %d bits of %d and not %d places in a row", i, s.depth, m.index.depth, places)
		}
		if seen[s] {
			continue
		}
		if seen[s] = true; s.depth == m.index.depth {
			deepest++
		}
		inUse, never := 0, 0
		for i := range s.groups {
			for k := range groupSize {
				switch s.groups[i].tag(k) {
				case unused:
					never++
				case deleted:
				default:
					inUse++
				}
			}
		}
		if inUse != s.count || never < len(s.groups) || s.left != never-len(s.groups) {
			t.Fatalf("a segment has %d numbers in %d groups and says %d, %d unused slots and says %d", inUse, len(s.groups), s.count, never, s.left)
		}
		count += s.count
	}
	if deepest != m.index.deepest || deepest == 0 {
		t.Fatalf("%d segments have as many bits as the list, it says %d", deepest, m.index.deepest)
	}
	if count != len(m.want) {
		t.Fatalf("the segments have %d numbers, want %d", count, len(m.want))
	}
}

// TestIndex: whatever is added and removed, each key is found, and no other one, with good and
// with bad hashes.
func TestIndex(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			most := []int{0, 1, 3, 300}
			if name == "good" {
				most = append(most, 3000)
			}
			rapid.Check(t, func(rt *rapid.T) {
				m := newIndexModel(hash)
				if rapid.Bool().Draw(rt, "grow") {
					m.index.Grow(rapid.SampledFrom(most).Draw(rt, "numbers"))
				}
				next := 0
				for range rapid.IntRange(1, 12).Draw(rt, "steps") {
					for range rapid.SampledFrom(most).Draw(rt, "add") {
						next++
						m.add(fmt.Sprint(next % 4096))
					}
					keys := slices.Sorted(maps.Keys(m.want))
					from := rapid.IntRange(0, len(keys)).Draw(rt, "from")
					for _, k := range keys[from:min(len(keys), from+rapid.SampledFrom(most).Draw(rt, "remove"))] {
						m.remove(k)
						if n := m.index.Find(k); n != 0 {
							rt.Fatalf("%q is found after Remove: %d", k, n)
						}
					}
					m.check(t, "", "x", "-1")
				}
			})
		})
	}
}

// TestIndex_Churn: of keys that come and go the memory stays what it is, and a search stays
// short.
func TestIndex_Churn(t *testing.T) {
	m := newIndexModel(goodHash)
	const keys = 2_000
	room := func() (groups int) {
		for _, s := range m.index.segments {
			groups += len(s.groups) // one that is there several times counts so: no matter
		}
		return groups
	}
	for i := range keys {
		m.add(fmt.Sprint(i))
	}
	before := room()
	for i := range 100 * keys {
		m.remove(fmt.Sprint(i))
		m.add(fmt.Sprint(i + keys))
		delete(m.keys, m.next-keys)
	}
	m.check(t, "x")
	if after := room(); after > 2*before {
		t.Errorf("%d groups before, %d after", before, after)
	}
	for _, k := range slices.Collect(maps.Keys(m.want)) {
		m.remove(k)
	}
	m.check(t, "x")
	if n := len(m.index.segments); n > 1 || room() > 1 {
		t.Errorf("%d groups for no keys in %d segments", room(), n)
	}
}

// TestIndex_Shrinks: of many keys that were removed in any order, the memory is as much as the few
// need that are left.
func TestIndex_Shrinks(t *testing.T) {
	m := newIndexModel(goodHash)
	const keys = 20_000
	for i := range keys {
		m.add(fmt.Sprint(i))
	}
	most := len(m.index.segments)
	for i := range keys {
		if k := fmt.Sprint(i * 7919 % keys); i%100 != 0 {
			m.remove(k)
		}
	}
	m.check(t, "x")
	if n, room := len(m.index.segments), m.index.Room(); n > 8 || n*4 > most || room > 8*len(m.want) {
		t.Errorf("%d segments with %d slots for %d keys, and %d segments for %d before", n, room, len(m.want), most, keys)
	}
}

// TestIndex_NoStall: of a million keys none takes longer to add than a segment takes to be
// split. The time is many times what that takes, and a small part of what it takes to move all
// keys at once, which is what a map does.
func TestIndex_NoStall(t *testing.T) {
	const keys = 300_000
	names := make([]string, keys+1)
	for i := range names {
		names[i] = fmt.Sprint("user-", i)
	}
	hashed := 0
	x := NewIndex(func(k string) uint64 { hashed++; return goodHash(k) }, func(n uint32) string { return names[n] })
	most := 0
	for n := uint32(1); n <= keys; n++ {
		before := hashed
		x.Add(n)
		most = max(most, hashed-before)
	}
	if limit := maxGroups * perGroup * 2; most > limit {
		t.Errorf("one Add hashed %d keys, at most %d should be", most, limit)
	}
	if hashed > 20*keys {
		t.Errorf("%d keys were hashed to add %d", hashed, keys)
	}
	hashed = 0
	for n := uint32(1); n <= keys; n++ {
		x.Remove(n)
	}
	if hashed > keys {
		t.Errorf("%d keys were hashed to remove %d", hashed, keys)
	}
}

// TestIndex_NotThere: to remove what is not there is a mistake of the caller.
func TestIndex_NotThere(t *testing.T) {
	m := newIndexModel(goodHash)
	m.add("x")
	m.keys[7] = "y"
	if !panics(func() { m.index.Remove(7) }) {
		t.Error("Remove did not panic")
	}
}

// FuzzIndex: each pair of bytes adds keys or removes some.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{0, 255, 1, 3, 0, 100}, true)
	f.Fuzz(func(t *testing.T, steps []byte, good bool) {
		hash := goodHash
		if !good {
			hash = hashes["few different ones"]
		}
		m := newIndexModel(hash)
		for i := 0; i+1 < min(len(steps), 200); i += 2 {
			n := int(steps[i+1])
			if steps[i]%2 == 0 {
				for k := range n * 4 {
					m.add(fmt.Sprint(i, k))
				}
				continue
			}
			for k, key := range slices.Sorted(maps.Keys(m.want)) {
				if k%(n+1) != 0 {
					m.remove(key)
				}
			}
		}
		m.check(t, "x")
	})
}

// BenchmarkIndex finds keys of a million one by one and a hundred at a time, and a map's for
// comparison. Their order in memory is another.
func BenchmarkIndex(b *testing.B) {
	const users, each = 1_000_000, 100
	var ids Blocks[Text]
	texts := NewArena(func(owner uint32, to Text) { *ids.At(owner) = to })
	x := NewIndex(goodHash, func(n uint32) string { return texts.Get(*ids.At(n)) })
	byID := make(map[string]uint32)
	keys := make([]string, users)
	begun := time.Now()
	for i := range users {
		n, id := ids.New()
		*id = texts.Put(n, fmt.Sprint("user-", i))
		x.Add(n)
		byID[fmt.Sprint("user-", i)] = n
	}
	b.Logf("%v to add %d", time.Since(begun), users)
	for i := range keys {
		keys[i] = fmt.Sprint("user-", i*7919%users)
	}
	numbers := make([]uint32, 0, each)
	for name, find := range map[string]func([]string){
		"one by one": func(some []string) {
			for _, k := range some {
				numbers = append(numbers, x.Find(k))
			}
		},
		"several": func(all []string) {
			for some := range slices.Chunk(all, Several) {
				var likely [Several]uint32
				x.Likely(some, &likely)
				for i, n := range likely[:len(some)] {
					if n != 0 && texts.Get(*ids.At(n)) != some[i] {
						n = x.Find(some[i])
					}
					numbers = append(numbers, n)
				}
			}
		},
		"a map": func(some []string) {
			for _, k := range some {
				numbers = append(numbers, byID[k])
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				numbers = numbers[:0]
				find(keys[i%(users/each)*each:][:each])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/each, "ns/key")
		})
	}
}
