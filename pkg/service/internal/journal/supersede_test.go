package journal

import (
	"testing"
	"time"
)

// TestSupersede: once Supersede is called, two snapshots are stored and earlier entries leave the
// journal, although few entries were applied since the last snapshot. Without the call they stay.
func TestSupersede(t *testing.T) {
	a, _ := twoSnapshots(t, startBroker(t))
	before := a.snapshots(t, 2, 0)
	a.mu.Lock()
	position := a.last
	a.mu.Unlock()
	a.Supersede(position)
	deadline := time.Now().Add(30 * time.Second)
	for {
		list, err := a.store.list(t.Context())
		if err == nil && len(list) == 2 && list[1].position >= position && a.firstSeq(t) == list[1].position {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the snapshots are %v, %v, and the journal begins at %d, want all at %d or later; before: %v", list, err, a.firstSeq(t), position, before)
		}
		a.Tick()
		time.Sleep(20 * time.Millisecond)
	}
	after := a.snapshots(t, 2, 0)
	a.fill(t, 200, 203)
	if again := a.snapshots(t, 2, 0); again[0].position != after[0].position {
		t.Errorf("one more snapshot, of %d, was taken without need", again[0].position)
	}
}
