package main

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedianWithin(t *testing.T) {
	if mid, low, high := medianWithin(nil); mid != 0 || low != 0 || high != 0 {
		t.Errorf("of no values: got %v, %v to %v, want zeros", mid, low, high)
	}
	if mid, low, high := medianWithin([]float64{0.9}); mid != 0.9 || low != 0.9 || high != 0.9 {
		t.Errorf("of one value: got %v, %v to %v, want 0.9", mid, low, high)
	}
	// One bad round does not move it, and there is no more than there is.
	values := []float64{1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99, 1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 0.1}
	mid, low, high := medianWithin(values)
	if mid != 1 || low < 0.98 || low > 1 || high < 1 || high > 1.02 {
		t.Errorf("got %v, %v to %v, want 1 within 0.98 to 1.02", mid, low, high)
	}
	if _, again, _ := medianWithin(values); again != low {
		t.Errorf("the same values again: got %v, want %v", again, low)
	}
}

// TestMedianWithin_HoldsTheMedian: of many samples whose median is known, the
// interval holds it about as often as it says.
func TestMedianWithin_HoldsTheMedian(t *testing.T) {
	const samples = 300
	held := 0
	for s := range samples {
		values := make([]float64, againstRounds)
		for i := range values {
			// Equally spread over 0.9 to 1.1, by a sequence that never repeats.
			_, fraction := math.Modf(float64(s*againstRounds+i+1) * math.Phi * math.Sqrt(float64(s+2)))
			values[i] = 0.9 + 0.2*fraction
		}
		if _, low, high := medianWithin(values); low <= 1 && 1 <= high {
			held++
		}
	}
	if share := float64(held) / samples; share < 0.80 {
		t.Errorf("the interval held the median in %.2f of the samples, want about 0.90", share)
	}
}

// TestAlternate: each round begins with the one that the round before ended with,
// and the first does not count.
func TestAlternate(t *testing.T) {
	var order []string
	variants := []variant{{name: "a"}, {name: "b"}}
	for i, name := range []string{"a", "b"} {
		variants[i].server = &target{}
		variants[i].run = func(context.Context, time.Duration) (sample, error) {
			order = append(order, name)
			return sample{count: len(order)}, nil
		}
	}
	samples, err := alternate(t.Context(), variants, 3, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(order, ""), "baabbaab"; got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
	var counts []int
	for _, s := range slices.Concat(samples...) {
		counts = append(counts, s.count)
	}
	if want := []int{3, 6, 7, 4, 5, 8}; !slices.Equal(counts, want) {
		t.Errorf("the samples are of the calls %v, want %v", counts, want)
	}
}

func TestAgainstOptions(t *testing.T) {
	for _, c := range []struct {
		args   []string
		rounds int // 0: refused
	}{
		{[]string{"-against", "HEAD"}, againstRounds},
		{[]string{"-against", "HEAD", "-full"}, againstRounds},
		{[]string{"-against", "HEAD", "-rounds", "40", "-only", "set,renew"}, 40},
		{[]string{"-against", "HEAD", "-only", "idle"}, 0},
		{[]string{"-only", "idle"}, 5},
	} {
		o, err := parseOptions(c.args, t.Output())
		if err != nil {
			o.rounds = 0
		}
		if o.rounds != c.rounds {
			t.Errorf("%v: got %d rounds and %v, want %d", c.args, o.rounds, err, c.rounds)
		}
	}
}
