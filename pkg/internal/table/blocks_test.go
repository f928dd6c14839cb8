package table

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type record struct{ a, b int }

// blocksModel is a Blocks beside a map that holds the same.
type blocksModel struct {
	blocks Blocks[record]
	want   map[uint32]record
	at     map[uint32]*record
	next   int
}

func newBlocksModel() *blocksModel {
	return &blocksModel{want: map[uint32]record{}, at: map[uint32]*record{}}
}

func (m *blocksModel) add(t testing.TB) {
	n, r := m.blocks.New()
	if _, ok := m.want[n]; ok || n == 0 {
		t.Fatalf("New gave the number %d, which is in use or 0", n)
	}
	if *r != (record{}) {
		t.Fatalf("New gave a record that is not zero: %v", *r)
	}
	m.next++
	*r = record{m.next, -m.next}
	m.want[n], m.at[n] = *r, r
}

func (m *blocksModel) free(n uint32) {
	m.blocks.Free(n)
	delete(m.want, n)
	delete(m.at, n)
}

func (m *blocksModel) check(t testing.TB) {
	if m.blocks.Len() != len(m.want) {
		t.Fatalf("Len() is %d, want %d", m.blocks.Len(), len(m.want))
	}
	var numbers []uint32
	for n, r := range m.blocks.All() {
		numbers = append(numbers, n)
		if r != m.at[n] || r != m.blocks.At(n) || *r != m.want[n] || !m.blocks.Has(n) {
			t.Fatalf("record %d is %v, want %v; Has is %t", n, *r, m.want[n], m.blocks.Has(n))
		}
	}
	if want := slices.Sorted(maps.Keys(m.want)); !slices.Equal(numbers, want) {
		t.Fatalf("All gives the numbers %v, want %v", numbers, want)
	}
}

// TestBlocks: whatever is added and freed, each number has its own record, which stays in its
// place, and a number that is given again has a record that is zero.
func TestBlocks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newBlocksModel()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			for range rapid.SampledFrom([]int{0, 1, 3, 400}).Draw(rt, "add") {
				m.add(t)
			}
			numbers := slices.Sorted(maps.Keys(m.want))
			if len(numbers) == 0 {
				continue
			}
			from := rapid.IntRange(0, len(numbers)).Draw(rt, "from")
			to := min(len(numbers), from+rapid.SampledFrom([]int{0, 1, 3, 500}).Draw(rt, "free"))
			for _, n := range numbers[from:to] {
				m.free(n)
				if m.blocks.Has(n) {
					rt.Fatalf("Has(%d) after Free", n)
				}
			}
			m.check(t)
		}
	})
}

// TestBlocks_From: a walk that goes on at the number behind the last one visits each record
// that is there throughout, whatever is added and freed between.
func TestBlocks_From(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newBlocksModel()
		for range rapid.IntRange(0, 900).Draw(rt, "before") {
			m.add(t)
		}
		throughout, seen := maps.Clone(m.want), map[uint32]bool{}
		next := uint32(0)
		for more := true; more; {
			more = false
			left := rapid.IntRange(1, 100).Draw(rt, "step")
			for n := range m.blocks.From(next) {
				if n < next || seen[n] {
					rt.Fatalf("From(%d) gives %d, which came before: %t", next, n, seen[n])
				}
				seen[n], next = true, n+1
				if left--; left == 0 {
					more = true
					break
				}
			}
			numbers := slices.Sorted(maps.Keys(m.want))
			for i := range rapid.IntRange(0, 60).Draw(rt, "change") {
				if len(numbers) > 0 && i%2 == 0 {
					n := numbers[rapid.IntRange(0, len(numbers)-1).Draw(rt, "which")]
					if _, ok := m.want[n]; ok {
						m.free(n)
						delete(throughout, n)
					}
				} else {
					m.add(t)
				}
			}
		}
		for n := range throughout {
			if !seen[n] {
				rt.Fatalf("the walk left out %d", n)
			}
		}
	})
}

// TestBlocks_Memory: there is memory for what is in use, not for what once was.
func TestBlocks_Memory(t *testing.T) {
	m := newBlocksModel()
	for range 10 * blockSize {
		m.add(t)
	}
	all := slices.Sorted(maps.Keys(m.want))
	for _, n := range all[1:] {
		m.free(n)
	}
	m.check(t)
	if room := m.blocks.Room(); room > blockSize {
		t.Errorf("there is room for %d records, one is in use", room)
	}
	if len(m.blocks.blocks) != 1 {
		t.Errorf("a walk goes over %d blocks, one is in use", len(m.blocks.blocks))
	}
	for range 2 * blockSize {
		m.add(t)
	}
	m.check(t)
	// New records go into low blocks, so that high ones become empty.
	if highest := slices.Max(slices.Collect(maps.Keys(m.want))); highest >= 3*blockSize {
		t.Errorf("the highest of %d numbers is %d", len(m.want), highest)
	}
}

// TestBlocks_FreedTwice: to free what is not in use is a mistake of the caller.
func TestBlocks_FreedTwice(t *testing.T) {
	var b Blocks[record]
	n, _ := b.New()
	b.New()
	b.Free(n)
	for _, n := range []uint32{n, 0, 7, 1 << 30} {
		if !panics(func() { b.Free(n) }) {
			t.Errorf("Free(%d), which is not in use, did not panic", n)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// TestBlocks_NoPointers: a block of a type without pointers has none either.
func TestBlocks_NoPointers(t *testing.T) {
	var visit func(reflect.Type) bool
	visit = func(x reflect.Type) bool {
		switch x.Kind() {
		case reflect.Array:
			return visit(x.Elem())
		case reflect.Struct:
			for i := range x.NumField() {
				if visit(x.Field(i).Type) {
					return true
				}
			}
			return false
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.String, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
			return true
		}
		return false
	}
	if records := reflect.TypeFor[block[record]]().Field(0).Type.Elem(); visit(records) {
		t.Errorf("%v has pointers", records)
	}
	if visit(reflect.TypeFor[group]()) {
		t.Error("a group of the index has pointers")
	}
}

// FuzzBlocks: each byte adds a record, or frees one.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{0, 0, 0, 129, 0, 200})
	f.Fuzz(func(t *testing.T, steps []byte) {
		m := newBlocksModel()
		for _, b := range steps {
			if b < 128 {
				for range int(b) + 1 {
					m.add(t)
				}
				continue
			}
			numbers := slices.Sorted(maps.Keys(m.want))
			for i, n := range numbers {
				if i%(int(b)-126) != 0 {
					m.free(n)
				}
			}
		}
		m.check(t)
	})
}

// TestBlocks_Shrinks: the list of blocks gives its room back too.
func TestBlocks_Shrinks(t *testing.T) {
	var b Blocks[record]
	const most = 3000 * blockSize
	for range most {
		b.New()
	}
	for n := uint32(most); n > 1; n-- {
		b.Free(n)
	}
	if n := cap(b.blocks); n > 100 || cap(b.room) > 100 {
		t.Errorf("there is room for %d blocks, and %d words, with one in use", n, cap(b.room))
	}
}
