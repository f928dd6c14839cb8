package replica

import (
	"time"

	"presence/pkg/internal/state"
)

// AnnounceAgain is for how long an event stays pending after it has reached the broker. The broker
// may die with it. So after a reconnect, the events of that time are published again.
const AnnounceAgain = 5 * time.Second

// Ledger keeps track of which changes an instance has announced (G4). It has no queue: pending
// events are in the state, one for each user.
//
//	turn := l.Turn()
//	to, more := s.Pending(instance, turn.Cursor, …)   // publish what it yields
//	l.Published(turn, to, position, more)        // position is s.Position() at that look
//
//	turn = l.Turn()                              // a round trip to the broker
//	l.Reached(turn, now)
//
// A published event counts as announced when the broker has had it for AnnounceAgain and is still
// there. AnnouncedThrough tells all other instances. The zero value has announced nothing.
type Ledger struct {
	cursor state.Cursor // behind the last change published
	resets int          // how often the cursor was set back
	sentAt uint64       // position up to which everything was published
	marks  []mark
	stops  bool // the instance is about to stop
	// final says that the broker was reached since stops was set. Then what has reached it counts
	// at once.
	final   bool
	refused bool // the broker takes no events
}

// mark says that at that time everything up to a position had reached the broker.
type mark struct {
	position uint64
	at       time.Time
}

// Turn is how far the ledger was when a publication or a round trip began.
type Turn struct {
	Cursor state.Cursor
	sentAt uint64
	resets int
}

// Turn begins a publication, or a round trip to the broker.
func (l *Ledger) Turn() Turn { return Turn{Cursor: l.cursor, sentAt: l.sentAt, resets: l.resets} }

// Published notes that everything was published up to a cursor and, without more, up to a position.
// It reports whether there is more to publish. If Again was called meanwhile, there always is.
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

// Reached notes that what was published when a turn began has reached the broker by now.
func (l *Ledger) Reached(t Turn, now time.Time) {
	if l.resets != t.resets || l.refused {
		return // all of that is to be published again
	}
	// Of the marks that are old enough, only the last is needed.
	for len(l.marks) > 1 && now.Sub(l.marks[1].at) >= AnnounceAgain {
		l.marks = l.marks[1:]
	}
	l.marks = append(l.marks, mark{position: t.sentAt, at: now})
	l.final = l.stops
}

// Again has everything announced again that is still pending: all of the last AnnounceAgain, and
// more. It must be called when the connection for events was lost. It must also be called when the
// state was replaced, because the new one numbers its changes differently.
func (l *Ledger) Again() {
	l.cursor, l.sentAt, l.marks = state.Cursor{}, 0, nil
	l.resets++
}

// Refuse notes that the broker does not take an event, though it is there: the instance may not
// publish it. Since when that is nobody knows, so nothing more counts as announced until Accept.
func (l *Ledger) Refuse() { l.refused, l.final, l.marks = true, false, nil }

// Accept notes that the broker takes events again. All that is still pending is announced again.
func (l *Ledger) Accept() {
	l.refused = false
	l.Again()
}

// Finish is called when the instance is about to stop. From the next call of Reached on, everything
// that has reached the broker counts at once. That call shows that the broker is still there.
func (l *Ledger) Finish() { l.stops = true }

// AnnouncedThrough returns the position up to which nothing is pending. A mark counts when a later
// mark, at least AnnounceAgain after it, shows that the broker was still there. Time alone does not
// show that.
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
