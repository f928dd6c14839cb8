package main

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 3}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v): got %v, want %v", c.values, got, c.want)
		}
	}
	values := []time.Duration{30, 10, 20}
	if got := median(values); got != 20 || values[0] != 30 {
		t.Errorf("median(durations): got %v, want 20 and the argument untouched; it is %v", got, values)
	}
}

func TestMedianRatio(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []float64
		want float64
	}{
		{"each round by itself, though the machine got slower", []float64{50, 40, 10}, []float64{100, 80, 20}, 0.5},
		{"a bad round does not count", []float64{50, 1, 50}, []float64{100, 100, 100}, 0.5},
		{"a round without a divisor is left out", []float64{50, 50}, []float64{0, 100}, 0.5},
		{"rounds that one of them lacks", []float64{50, 90, 90}, []float64{100}, 0.5},
		{"none", nil, nil, 0},
	} {
		if got := medianRatio(c.a, c.b); got != c.want {
			t.Errorf("%s: medianRatio(%v, %v): got %v, want %v", c.name, c.a, c.b, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		sorted  []int
		p, want int
	}{
		{nil, 50, 0},
		{[]int{7}, 1, 7},
		{[]int{7}, 99, 7},
		{[]int{1, 2}, 50, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile(%d values, %d): got %d, want %d", len(c.sorted), c.p, got, c.want)
		}
	}
}

func TestSampleRate(t *testing.T) {
	if got := (sample{count: 50, elapsed: 500 * time.Millisecond}).rate(); got != 100 {
		t.Errorf("rate of 50 in 500ms: got %v, want 100", got)
	}
	if got := (sample{count: 50}).rate(); got != 0 {
		t.Errorf("rate without time: got %v, want 0", got)
	}
}

func TestOutputLine(t *testing.T) {
	o := &output{listens: make(chan string, 1)}
	for _, line := range []string{
		"gc 7 @1.215s 2%: 0.026+0.39+0.10 ms clock, 0.21+0.88/0.52/0+0.83 ms cpu, 34->36->17 MB, 35 MB goal, 0 MB stacks, 0 MB globals, 2 P",
		"presenced: listening on nats://127.0.0.1:40001",
		"connected to nats://127.0.0.1:40002",
	} {
		o.line(line)
	}
	if n, live := o.lastCollection(); n != 1 || live != 17<<20 {
		t.Errorf("lastCollection: got %d and %d bytes, want 1 and %d", n, live, 17<<20)
	}
	if got, want := <-o.listens, "nats://127.0.0.1:40001"; got != want {
		t.Errorf("listens: got %q, want %q", got, want)
	}
}
