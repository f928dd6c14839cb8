package main

import (
	"context"
	"errors"
	"slices"
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

func TestWhatPresencedSays(t *testing.T) {
	const says = `gc 7 @1.215s 2%: 0.026+0.39+0.10 ms clock, 0.21+0.88/0.52/0+0.83 ms cpu, 34->36->19 MB, 35 MB goal, 0 MB stacks, 0 MB globals, 2 P
time=2026-11-24T10:00:00.000Z level=INFO msg="health and metrics by HTTP" ready=http://127.0.0.1:40003/readyz
time=2026-11-24T10:00:07.123Z level=INFO msg="took a snapshot" position=812 bytes=40960 took=23ms
time=2026-11-24T10:00:08.000Z level=INFO msg="restored a snapshot" position=812 bytes=40960 took=9ms
gc 8 @2.215s 2%: 0.026+0.39+0.10 ms clock, 0.21+0.88/0.52/0+0.83 ms cpu, 20->30->17 MB, 35 MB goal, 0 MB stacks, 0 MB globals, 2 P
`
	if n, live := collections(says); n != 2 || live != 17<<20 {
		t.Errorf("collections: got %d and %d bytes, want 2 and %d", n, live, 17<<20)
	}
	if got := figuresLine.FindStringSubmatch(says); got == nil || got[1] != "127.0.0.1:40003" {
		t.Errorf("the figures' address: got %q", got)
	}
	at := time.Date(2026, 11, 24, 10, 0, 7, 100e6, time.UTC)
	if got, want := tookSnapshots(says), []span{{at, at.Add(23 * time.Millisecond)}}; !slices.Equal(got, want) {
		t.Errorf("tookSnapshots: got %v, want %v", got, want)
	}
}

// at is a moment so many milliseconds after some other.
func at(ms int) time.Time { return time.UnixMilli(1_000_000 + int64(ms)) }

func spans(ms ...int) (list []span) {
	for i := 0; i+1 < len(ms); i += 2 {
		list = append(list, span{at(ms[i]), at(ms[i+1])})
	}
	return list
}

func TestSplit(t *testing.T) {
	calls := spans(0, 5, 8, 11, 12, 13, 19, 30, 21, 22, 5, 40)
	during, quiet := split(calls, spans(10, 20, 50, 60))
	ms := func(list []time.Duration) (n []int) {
		for _, d := range list {
			n = append(n, int(d/time.Millisecond))
		}
		return n
	}
	if got, want := ms(during), []int{1, 3, 11, 35}; !slices.Equal(got, want) {
		t.Errorf("split: during the spans got %v ms, want %v", got, want)
	}
	if got, want := ms(quiet), []int{1, 5}; !slices.Equal(got, want) {
		t.Errorf("split: outside of them got %v ms, want %v", got, want)
	}
}

// TestCallPaced guards against a load that waits while what it measures pauses,
// and so sees one long call where many would have been.
func TestCallPaced(t *testing.T) {
	const pause = 100 * time.Millisecond
	calls, err := callPaced(t.Context(), 1, 10*time.Millisecond, 2*pause, func(_, i int) error {
		if i == 0 {
			time.Sleep(pause)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for i, c := range calls {
		if c.took() > pause/2 {
			late++
		}
		if i > 0 && c.to.Before(calls[i-1].to) {
			t.Errorf("call %d ended before the one before it", i)
		}
	}
	if late < 5 {
		t.Errorf("a pause of %v held up %d calls due every 10 ms by more than half of it, want 5 or more", pause, late)
	}

	want := errors.New("refused")
	if _, err := callPaced(context.Background(), 3, time.Millisecond, time.Minute, func(int, int) error { return want }); !errors.Is(err, want) {
		t.Errorf("callPaced: got %v, want the call's error", err)
	}
}

func TestFindFigure(t *testing.T) {
	const text = "presence_snapshot_bytes_total 7\n# HELP presence_snapshot_bytes size\npresence_snapshot_bytes 40960\npresence_requests_total{endpoint=\"get\"} 1.2e+06\n"
	for name, want := range map[string]float64{"presence_snapshot_bytes": 40960, `presence_requests_total{endpoint="get"}`: 1.2e6} {
		if got, ok := findFigure(text, name); !ok || got != want {
			t.Errorf("findFigure(%s): got %v, %v, want %v", name, got, ok, want)
		}
	}
	if got, ok := findFigure(text, "presence_snapshot"); ok {
		t.Errorf("findFigure of the beginning of a name: got %v, want none", got)
	}
}

func TestChosen(t *testing.T) {
	var all, usual, fast []string
	for _, m := range measures {
		if m.named {
			continue
		}
		all = append(all, m.name)
		if !m.long {
			usual = append(usual, m.name)
		}
		if !m.slow && !m.long {
			fast = append(fast, m.name)
		}
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-full"}, all},
		{nil, usual},
		{[]string{"-short"}, fast},
		{[]string{"-short", "-only", "idle"}, []string{"idle"}},
		{[]string{"-short", "-only", "growth"}, []string{"growth"}},
		{[]string{"-only", "get,set"}, []string{"set", "get"}},
		{[]string{"-only", "large"}, []string{"large"}},
	} {
		o, err := parseOptions(c.args, t.Output())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range o.chosen() {
			got = append(got, m.name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with %v: got %v, want %v", c.args, got, c.want)
		}
	}
}
