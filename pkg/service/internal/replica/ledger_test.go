package replica

import (
	"testing"
	"time"

	"presence/pkg/internal/state"
)

// TestG04_BrokerDiesAfterMark: events that reached the broker just before it died stay pending,
// however long it is away. They may have died with it.
func TestG04_BrokerDiesAfterMark(t *testing.T) {
	var l Ledger
	now := time.UnixMilli(0)
	l.Published(l.Turn(), state.Cursor{}, 7, false)
	l.Reached(l.Turn(), now)
	if got := l.AnnouncedThrough(); got != 0 {
		t.Errorf("AnnouncedThrough() with one mark = %d, want 0", got)
	}
	// The broker is away, and there are no more marks, until the reconnect.
	l.Again()
	if got := l.AnnouncedThrough(); got != 0 {
		t.Errorf("AnnouncedThrough() after a reconnect = %d, want 0", got)
	}
	l.Published(l.Turn(), state.Cursor{}, 9, false)
	for _, after := range []struct {
		d    time.Duration
		want uint64
	}{{0, 0}, {AnnounceAgain - 1, 0}, {AnnounceAgain, 9}} {
		l.Reached(l.Turn(), now.Add(time.Hour+after.d))
		if got := l.AnnouncedThrough(); got != after.want {
			t.Errorf("AnnouncedThrough() %v after the first mark = %d, want %d", after.d, got, after.want)
		}
	}
	l.Again()
	l.Published(l.Turn(), state.Cursor{}, 11, false)
	l.Reached(l.Turn(), now.Add(2*time.Hour))
	if l.Finish(); l.AnnouncedThrough() != 0 {
		t.Errorf("AnnouncedThrough() of an instance that stops = %d, want 0: the broker may have died since", l.AnnouncedThrough())
	}
	if l.Reached(l.Turn(), now.Add(2*time.Hour+time.Second)); l.AnnouncedThrough() != 11 {
		t.Errorf("AnnouncedThrough() of an instance that stops, and whose broker is there = %d, want 11", l.AnnouncedThrough())
	}
}

// TestLedger_Turns: three things do not show that events are announced. A turn that began before a
// reconnect does not, for events that are to be published again. A publication of a part does not,
// for the rest. An answer of the broker does not, for what was published after the question.
func TestLedger_Turns(t *testing.T) {
	now := time.UnixMilli(0)
	announced := func(l *Ledger, asked Turn) uint64 { // by the broker's answers
		l.Reached(asked, now)
		l.Reached(asked, now.Add(time.Hour))
		return l.AnnouncedThrough()
	}

	var l Ledger
	l.Published(l.Turn(), state.Cursor{}, 7, false)
	before := l.Turn()
	l.Again()
	if got := announced(&l, before); got != 0 {
		t.Errorf("AnnouncedThrough() by answers to before the reconnect = %d, want 0", got)
	}
	if got := announced(&l, l.Turn()); got != 0 {
		t.Errorf("AnnouncedThrough() while nothing is published again = %d, want 0", got)
	}
	if !l.Published(before, state.Cursor{}, 9, false) {
		t.Error("Published() of before the reconnect says that there is no more")
	}
	if got := announced(&l, l.Turn()); got != 0 {
		t.Errorf("AnnouncedThrough() by what was published before the reconnect = %d, want 0", got)
	}

	l = Ledger{}
	if l.Published(l.Turn(), state.Cursor{}, 7, true); announced(&l, l.Turn()) != 0 {
		t.Errorf("AnnouncedThrough() while there is more = %d, want 0", l.AnnouncedThrough())
	}

	l = Ledger{}
	l.Published(l.Turn(), state.Cursor{}, 7, false)
	asked := l.Turn()
	l.Published(l.Turn(), state.Cursor{}, 9, false)
	if got := announced(&l, asked); got != 7 {
		t.Errorf("AnnouncedThrough() by an answer to before position 9 = %d, want 7", got)
	}
}

// TestG04_BrokerRefusesEvents: nothing counts as announced while the broker refuses events, whatever
// it answers, and also where it was said a moment before. Then all that is pending is announced
// again.
func TestG04_BrokerRefusesEvents(t *testing.T) {
	for _, stops := range []bool{false, true} {
		var l Ledger
		now := time.UnixMilli(0)
		reached := func(after time.Duration) { l.Reached(l.Turn(), now.Add(after)) }
		if stops {
			l.Finish()
		}
		l.Published(l.Turn(), state.Cursor{}, 7, false)
		reached(0)
		reached(AnnounceAgain)
		if got := l.AnnouncedThrough(); got != 7 {
			t.Fatalf("AnnouncedThrough() before = %d, want 7", got)
		}
		l.Published(l.Turn(), state.Cursor{}, 9, false)
		reached(AnnounceAgain + 1)
		l.Refuse()
		if got := l.AnnouncedThrough(); got != 0 {
			t.Errorf("AnnouncedThrough() once an event was refused = %d, want 0", got)
		}
		reached(time.Hour)
		l.Again() // a reconnect changes nothing of it
		l.Published(l.Turn(), state.Cursor{}, 9, false)
		reached(2 * time.Hour)
		reached(3 * time.Hour)
		if got := l.AnnouncedThrough(); got != 0 {
			t.Errorf("AnnouncedThrough() while events are refused = %d, want 0", got)
		}
		before := l.Turn()
		l.Accept()
		if !l.Published(before, state.Cursor{}, 9, false) {
			t.Error("Published() of before the broker took events again says that there is no more")
		}
		l.Published(l.Turn(), state.Cursor{}, 9, false)
		reached(4 * time.Hour)
		reached(5 * time.Hour)
		if got := l.AnnouncedThrough(); got != 9 {
			t.Errorf("AnnouncedThrough() afterwards = %d, want 9", got)
		}
	}
}
