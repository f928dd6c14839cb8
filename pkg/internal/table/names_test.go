package table

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestNames: each text has one number while it is in use, and each number its text. Names
// without uses are forgotten when they are more than half.
func TestNames(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var ns Names
		uses := map[uint32]int{}
		texts := map[uint32]string{}
		for range rapid.IntRange(1, 300).Draw(rt, "steps") {
			text := fmt.Sprint(rapid.IntRange(0, 60).Draw(rt, "text"))
			n := ns.Find(text)
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				if got := ns.Take(text); n != 0 && got != n || got == 0 || uses[got] > 0 && texts[got] != text {
					rt.Fatalf("Take(%q) is %d, Find gave %d; that is the number of %q", text, got, n, texts[got])
				} else {
					uses[got]++
					texts[got] = text
				}
			case 2, 3:
				if uses[n] > 0 {
					ns.Release(n)
					uses[n]--
				}
			case 4:
				ns.Tidy()
			}
		}
		ns.Tidy()
		used := 0
		for n, k := range uses {
			if k > 0 {
				used++
				if ns.Get(n) != texts[n] || ns.Find(texts[n]) != n {
					rt.Fatalf("%d is %q, and %q has %d", n, ns.Get(n), texts[n], ns.Find(texts[n]))
				}
			}
		}
		if ns.Len() > 2*used+fewUnused || ns.Used() != used {
			rt.Fatalf("%d names are left, %d are in use, want %d", ns.Len(), ns.Used(), used)
		}
		if ns.Take("") != 0 || ns.Get(0) != "" {
			rt.Fatal("the empty text is not 0")
		}
	})
}

// TestNames_ReleasedTwice: to release what is not in use is a mistake of the caller.
func TestNames_ReleasedTwice(t *testing.T) {
	var ns Names
	n := ns.Take("x")
	ns.Release(n)
	if !panics(func() { ns.Release(n) }) {
		t.Error("Release did not panic")
	}
}
