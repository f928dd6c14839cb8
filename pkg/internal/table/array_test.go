package table

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestArray: an array is what a slice would be, but for the memory of what is 0.
func TestArray(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var a Array[uint32]
		want, length := map[uint32]uint32{}, 0
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				length += rapid.SampledFrom([]int{0, 1, 100, 3 * arraySize}).Draw(rt, "more")
				a.Grow(length)
			case 1:
				a.Grow(length / 2) // it has that many already
			default:
				if length == 0 {
					continue
				}
				i, n := uint32(rapid.IntRange(0, length-1).Draw(rt, "i")), uint32(rapid.IntRange(0, 2).Draw(rt, "n"))
				if a.Set(i, n); n != 0 {
					want[i] = n
				} else {
					delete(want, i)
				}
			}
		}
		if a.Len() != length {
			rt.Fatalf("Len() is %d, want %d", a.Len(), length)
		}
		if got := maps.Collect(a.All()); !maps.Equal(got, want) {
			rt.Fatalf("All gives %v, want %v", got, want)
		}
		var order []uint32
		blocks := map[uint32]bool{}
		for i := range a.All() {
			order = append(order, i)
			blocks[i>>arrayBits] = true
		}
		if !slices.IsSorted(order) {
			rt.Fatalf("All gives the order %v", order)
		}
		if got := a.Room(); got != len(blocks)*arraySize {
			rt.Fatalf("there is room for %d numbers, want %d", got, len(blocks)*arraySize)
		}
		for i := range min(length, 5000) + 10 {
			if got := a.Get(uint32(i)); got != want[uint32(i)] {
				rt.Fatalf("Get(%d) = %d, want %d", i, got, want[uint32(i)])
			}
		}
	})
}

// TestArray_Beyond: to set what is beyond the length is a mistake of the caller.
func TestArray_Beyond(t *testing.T) {
	var a Array[uint32]
	a.Grow(10)
	for _, i := range []uint32{10, arraySize, 1 << 31} {
		if a.Get(i) != 0 || !panics(func() { a.Set(i, 1) }) {
			t.Errorf("index %d of 10 gives %d, or Set did not panic", i, a.Get(i))
		}
	}
}
