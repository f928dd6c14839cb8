package lograte

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// White-box, because time is what it is about.
func TestDoubling(t *testing.T) {
	var s Doubling
	begun := time.Now()
	said := func(what string, from, until time.Duration) (at []int) {
		for after := from; after < until; after += 10 * time.Second {
			if s.Due(what, begun.Add(after)) {
				at = append(at, int(after/time.Minute))
			}
		}
		return at
	}
	if got, want := said("a", 0, 4*time.Hour), []int{0, 1, 3, 7, 15, 31, 63, 123, 183}; !slices.Equal(got, want) {
		t.Errorf("what goes on for 4 hours is said after %v minutes, want %v", got, want)
	}
	if got, want := said("b", 4*time.Hour, 4*time.Hour+2*time.Minute), []int{240, 241}; !slices.Equal(got, want) {
		t.Errorf("something else is said after %v minutes, want %v", got, want)
	}
	if got, want := said("a", 8*time.Hour, 8*time.Hour+2*time.Minute), []int{480, 481}; !slices.Equal(got, want) {
		t.Errorf("what comes up again after hours is said after %v minutes, want %v", got, want)
	}
	for i := range 1000 {
		if s.Due(fmt.Sprint(i), begun); len(s.said) > maxSaid {
			t.Fatalf("%d things are remembered", len(s.said))
		}
	}
}
