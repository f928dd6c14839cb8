package replica

import (
	"testing"
	"time"

	"presence/pkg/service/internal/state"
)

// TestG04_BrokerDiesAfterMark: what the broker got a moment before it died is still
// owed, however long it is away: the events may have died with it.
func TestG04_BrokerDiesAfterMark(t *testing.T) {
	var l Ledger
	now := time.UnixMilli(0)
	l.Published(l.Turn(), state.Cursor{}, 7, false)
	l.Reached(l.Turn(), now)
	if got := l.Flushed(); got != 0 {
		t.Errorf("Flushed() with one mark = %d, want 0", got)
	}
	// The broker is away, and there are no more marks, until the reconnect.
	l.Again()
	if got := l.Flushed(); got != 0 {
		t.Errorf("Flushed() after a reconnect = %d, want 0", got)
	}
	l.Published(l.Turn(), state.Cursor{}, 9, false)
	for _, after := range []struct {
		d    time.Duration
		want uint64
	}{{0, 0}, {AnnounceAgain - 1, 0}, {AnnounceAgain, 9}} {
		l.Reached(l.Turn(), now.Add(time.Hour+after.d))
		if got := l.Flushed(); got != after.want {
			t.Errorf("Flushed() %v after the first mark = %d, want %d", after.d, got, after.want)
		}
	}
	l.Again()
	l.Published(l.Turn(), state.Cursor{}, 11, false)
	l.Reached(l.Turn(), now.Add(2*time.Hour))
	if l.Finish(); l.Flushed() != 11 {
		t.Errorf("Flushed() of an instance that stops = %d, want 11", l.Flushed())
	}
}
