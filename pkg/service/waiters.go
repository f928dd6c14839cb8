package service

import (
	"slices"
	"sync"
	"time"

	"presence/pkg/protocol"
)

// maxWaiters bounds the queries that wait for a revision; more are refused.
const maxWaiters = 1 << 14

// revisionWaiters are the queries that wait until this instance has applied a revision
// (minRevision of PROTOCOL 4.5). Each is answered once: when its position is applied, when it
// has waited for MinRevisionWait, or when the instance stops. Answers leave by the responder.
//
// It owns no goroutine, and any goroutine may call it. Service.apply reports each position, and
// Service.tick reports the time that passes meanwhile.
type revisionWaiters struct {
	responder *responder

	mu      sync.Mutex
	waiting []waitingGet
	stopped bool
}

type waitingGet struct {
	call     *get
	position uint64
	deadline time.Time
}

// add has a query wait for a position. The caller reports the position that is applied after
// that: the query may have come too late to hear of it.
func (w *revisionWaiters) add(c *get, position uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
		return protocol.ErrUnavailable
	case len(w.waiting) >= maxWaiters:
		return protocol.ErrOverloaded
	}
	w.waiting = append(w.waiting, waitingGet{call: c, position: position, deadline: time.Now().Add(protocol.MinRevisionWait)})
	return nil
}

// applied answers the queries that waited for this position or an earlier one, and refuses
// those that have waited too long.
func (w *revisionWaiters) applied(position uint64) {
	w.mu.Lock()
	if len(w.waiting) == 0 {
		w.mu.Unlock()
		return
	}
	now := time.Now()
	var answers []answer
	w.waiting = slices.DeleteFunc(w.waiting, func(x waitingGet) bool {
		switch {
		case x.position <= position:
			answers = append(answers, answer{to: x.call})
		case now.After(x.deadline):
			answers = append(answers, answer{to: x.call, err: protocol.ErrUnavailable.With("this instance has not reached minRevision in time: try again")})
		default:
			return false
		}
		return true
	})
	w.mu.Unlock()
	w.responder.push(answers)
}

// any reports whether a query waits.
func (w *revisionWaiters) any() bool { return w.count() > 0 }

// count returns how many queries wait.
func (w *revisionWaiters) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

// stop refuses the queries that wait, and all that come later.
func (w *revisionWaiters) stop() {
	w.mu.Lock()
	waiting := w.waiting
	w.waiting, w.stopped = nil, true
	w.mu.Unlock()
	var answers []answer
	for _, x := range waiting {
		answers = append(answers, answer{to: x.call, err: protocol.ErrUnavailable})
	}
	w.responder.push(answers)
}
