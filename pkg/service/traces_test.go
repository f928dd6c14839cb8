package service

import "testing"

// TestTraces: a trace is remembered until its change is announced, and no more than maxTraces are.
func TestTraces(t *testing.T) {
	t.Parallel()
	var x traces
	x.add(1, 7, "a")
	x.add(2, 8, "b")
	if x.of(1) != "a" || x.of(2) != "b" || x.of(3) != "" {
		t.Errorf("got %q, %q, %q", x.of(1), x.of(2), x.of(3))
	}
	if x.announced(7); x.of(1) != "" || x.of(2) != "b" || x.count() != 1 {
		t.Errorf("after the first is announced: %q, %q, %d", x.of(1), x.of(2), x.count())
	}
	for i := range uint64(2 * maxTraces) {
		x.add(10+i, 9, "c")
	}
	if x.count() != maxTraces || len(x.byRevision) != maxTraces {
		t.Errorf("%d traces are remembered, want %d", x.count(), maxTraces)
	}
	if x.announced(9); x.count() != 0 || x.byRevision != nil {
		t.Errorf("%d traces are remembered after the last event", x.count())
	}
}
