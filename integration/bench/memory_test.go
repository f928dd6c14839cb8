package main

import (
	"slices"
	"testing"
)

func TestMemorySizes(t *testing.T) {
	for _, c := range []struct {
		users int
		want  []int
	}{{20_000, []int{20_000}}, {100_000, []int{100_000}}, {1_000_000, []int{100_000, 1_000_000}}} {
		if got := memorySizes(c.users); !slices.Equal(got, c.want) {
			t.Errorf("memorySizes(%d): got %v, want %v", c.users, got, c.want)
		}
	}
}

// TestMemoryRows: the parts add up to the growth of what is resident.
func TestMemoryRows(t *testing.T) {
	idle, after := memory{resident: 30e6}, memory{resident: 80e6}
	for i := range memoryParts {
		idle.parts = append(idle.parts, 1e6)
		after.parts = append(after.parts, 1e6*float64(i+1))
	}
	rows := memoryRows(100_000, idle, after, 90e6)
	if got := []float64{rows[0].Value, rows[1].Value}; !slices.Equal(got, []float64{500, 600}) {
		t.Errorf("resident and right after the logins: got %v bytes a user, want 500 and 600", got)
	}
	sum := 0.0
	for _, r := range rows[2:] {
		sum += r.Value
	}
	if sum != 500 || len(rows) != 2+len(memoryParts)+1 {
		t.Errorf("%d parts add up to %v bytes a user, want %d and 500", len(rows)-2, sum, len(memoryParts)+1)
	}
	if rows := memoryRows(100_000, memory{parts: idle.parts}, memory{parts: after.parts}, 0); len(rows) != 1 {
		t.Errorf("without resident memory: got %d rows, want the live heap alone", len(rows))
	}
}
