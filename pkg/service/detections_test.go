package service

import (
	"testing"
	"time"

	"presence/pkg/internal/state"
)

// TestDetections: each loss is measured once, from the report or the last sign of life on, up to its
// announcement; and what is remembered for that ends. White-box: from outside it takes an instance
// that cannot announce.
func TestDetections(t *testing.T) {
	t.Parallel()
	var d detections
	d.init()
	begun := time.Now()
	at := func(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }
	d.closed("A", 1, causeClosed, at(0))
	d.closed("A", 2, causeComparison, at(0))
	d.closed("A", 1, causeComparison, at(3)) // it was known
	losses := []state.Loss{
		{Server: "A", Client: 1, Silence: time.Minute},
		{Server: "A", Client: 2, Silence: time.Minute},
		{Server: "B", Client: 1, Silence: time.Minute}, // another instance has learned of it
		{Silence: 30 * time.Second},
		{Gateway: true, Silence: 15 * time.Second},
		{Gateway: true, Server: "A", Client: 1, Silence: time.Minute},
	}
	want := func(when string, want map[string][2]int) {
		t.Helper()
		for cause, h := range d.figures() {
			if got := [2]int{int(h.Count), int(h.Sum / time.Second)}; got != want[cause] {
				t.Errorf("%s, %s: got %d of %d s in all, want %d", when, cause, got[0], got[1], want[cause])
			}
		}
	}
	d.lost(losses, 7, true, at(5))
	want("before it is announced", nil)
	d.announced(6, at(6))
	want("when an earlier entry is announced", nil)
	d.announced(9, at(7))
	all := map[string][2]int{"closed": {1, 7}, "comparison": {1, 62}, "silent": {1, 32}, "gateway": {2, 17 + 7}}
	want("when it is announced", all)

	// By another instance's entry: that one measures what it lost for its silence.
	d.lost(losses, 10, false, at(5))
	all["closed"], all["comparison"], all["gateway"] = [2]int{2, 12}, [2]int{2, 122}, [2]int{3, 29}
	want("by another instance's entry", all)

	d.sweep(at(5), 10*time.Second)
	if closings, _ := d.counts(); closings != 2 {
		t.Errorf("%d closed connections are remembered during their grace, want 2", closings)
	}
	d.sweep(at(70), 10*time.Second)
	for i := range uint64(2 * maxClosings) {
		d.closed("C", i, causeClosed, at(71))
	}
	for range 2 * maxUnannounced / len(losses) {
		d.lost([]state.Loss{{}, {}, {}, {}, {}, {}}, 11, true, at(71))
	}
	if closings, unannounced := d.counts(); closings != maxClosings || unannounced != maxUnannounced {
		t.Errorf("%d closed connections and %d losses are remembered, want %d and %d", closings, unannounced, maxClosings, maxUnannounced)
	}
	d.announced(11, at(72))
	if _, unannounced := d.counts(); unannounced != 0 || d.entries != nil {
		t.Errorf("%d losses are remembered after their announcement", unannounced)
	}
}
