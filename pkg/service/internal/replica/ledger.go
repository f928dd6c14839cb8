package replica

import (
	"time"

	"presence/pkg/internal/state"
)

// AnnounceAgain is how long an event that reached the broker is still pending:
// after a reconnect what was published in that time is published again. The
// broker that took it may have died with it.
const AnnounceAgain = 5 * time.Second

// Ledger keeps the accounts of which changes an instance has announced (G4). It
// has no queue: what waits is in the state, coalesced to one event for each user.
//
//	turn := l.Turn()
//	to, more := s.Pending(instance, turn.Cursor, …)   // publish what it yields
//	l.Published(turn, to, s.Position(), more)    // the position is that of the look
//
//	turn = l.Turn()                              // a round trip to the broker
//	l.Reached(turn, now)
//
// What was published counts as announced, and AnnouncedThrough says so to all others, when
// the broker has had it for AnnounceAgain, and is there still. The zero value has announced nothing.
type Ledger struct {
	cursor state.Cursor // behind the last change published
	resets int          // how often the cursor was set back
	sentAt uint64       // position up to which everything was published
	marks  []mark
	// stops says that the instance does; final, that the broker was there since. Then
	// what reached it counts at once.
	stops, final bool
}

// mark says that everything up to a position had reached the broker at a time.
type mark struct {
	position uint64
	at       time.Time
}

// Turn is how far the ledger was when something began that takes its time.
type Turn struct {
	Cursor state.Cursor
	sentAt uint64
	resets int
}

// Turn begins a publication, or a round trip to the broker.
func (l *Ledger) Turn() Turn { return Turn{Cursor: l.cursor, sentAt: l.sentAt, resets: l.resets} }

// Published notes that everything was published up to a cursor; without more, up
// to a position. It reports whether there is more to
// publish: always where the ledger was set back meanwhile.
func (l *Ledger) Published(t Turn, to state.Cursor, position uint64, more bool) bool {
	if l.resets != t.resets {
		return true
	}
	l.cursor = to
	if !more {
		l.sentAt = position
	}
	return more
}

// Reached notes that what was published when a turn began has reached the broker
// by now.
func (l *Ledger) Reached(t Turn, now time.Time) {
	if l.resets != t.resets {
		return // what was asked about is to be published again
	}
	// Of the marks that are old enough, the last says it all.
	for len(l.marks) > 1 && now.Sub(l.marks[1].at) >= AnnounceAgain {
		l.marks = l.marks[1:]
	}
	l.marks = append(l.marks, mark{position: t.sentAt, at: now})
	l.final = l.stops
}

// Again has everything announced that is still pending: all of the last
// AnnounceAgain, and more. It must be called when the connection for events was
// lost, and when the state was replaced, in which changes are numbered anew.
func (l *Ledger) Again() {
	l.cursor, l.sentAt, l.marks = state.Cursor{}, 0, nil
	l.resets++
}

// Finish has what reached the broker count at once, from the next time on that
// something does: the instance is about to stop. What reached it before may have died
// with it, unless it is there still.
func (l *Ledger) Finish() { l.stops = true }

// AnnouncedThrough returns the position up to which nothing is pending any more. A mark counts
// when the broker was still there AnnounceAgain later, which the next marks say:
// time alone would count one whose broker died a moment after it.
func (l *Ledger) AnnouncedThrough() uint64 {
	position := uint64(0)
	for _, m := range l.marks {
		if !l.final && l.marks[len(l.marks)-1].at.Sub(m.at) < AnnounceAgain {
			break
		}
		position = m.position
	}
	return position
}
