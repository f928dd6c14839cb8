package service

import (
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/refusal"
)

// What the broker refuses. Where a reload takes the permission to publish events away, publishing
// goes on without an error, and the broker drops each event. So the announcer hears what it refuses:
//
//	refused ─► nothing counts as announced, the instance is not ready
//	        ─► that event is published again, now and then ─► taken: all that is pending is
//	                                                                 announced again
//
// What is pending is what the journal does not know yet to be announced: all that was published
// since the permission may have been taken away, and more.

// errRefusedEvents says why nothing counts as announced.
var errRefusedEvents = errors.New("the NATS server refuses events: the NATS user may not publish them")

// reported is told what the broker refuses on the connection for events. It does not wait.
func (a *announcer) reported(r refusal.Refusal) {
	if !r.Publish || a.shown(r.Subject) == "" {
		return
	}
	a.attempt.reported(r)
	a.mu.Lock()
	first := a.refused == ""
	a.refused = r.Subject
	a.ledger.Refuse()
	a.mu.Unlock()
	if first {
		a.log.Error("the NATS server refuses events: they are announced again when it takes them", "subject", r.Subject)
	}
}

// shown is the subject of an event as permissions have it, without the user; empty for another
// subject.
func (a *announcer) shown(subject string) string {
	if _, ok := a.subjects.ParseEvent(subject); ok {
		return a.subjects.AnyEvent()
	}
	if _, ok := a.subjects.ParseSelf(subject); ok {
		return a.subjects.AnySelf()
	}
	return ""
}

// trouble says why events reach nobody; nil where they do.
func (a *announcer) trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused == "" {
		return nil
	}
	return fmt.Errorf("%w (%s)", errRefusedEvents, a.shown(a.refused))
}

// retry finds out now and then whether the broker takes events again.
func (a *announcer) retry() {
	a.mu.Lock()
	subject := a.refused
	a.mu.Unlock()
	switch {
	case subject == "":
		a.pause = 0
		return
	case a.pause == 0: // it was refused just now
		a.pause, a.retryAt = publishRetry, time.Now().Add(publishRetry)
		return
	case time.Now().Before(a.retryAt):
		return
	}
	taken, err := a.attempt.accepted(subject, func() error { return a.repeat(subject) }, func() error {
		_, err := a.outbox.arrived()
		return err
	})
	if err == nil && taken {
		a.accept(subject)
	}
	a.pause = min(2*a.pause, publishRetryMost)
	a.retryAt = time.Now().Add(a.pause)
}

// accept has everything announced again that is pending, unless another event was refused meanwhile.
func (a *announcer) accept(subject string) {
	a.mu.Lock()
	accepted := a.refused == subject
	if accepted {
		a.refused = ""
		a.ledger.Accept()
	}
	a.mu.Unlock()
	if accepted {
		a.log.Info("the NATS server takes events again: announcing again")
		a.kick()
	}
}

// repeat publishes the last event on a subject once more. There may be none any more.
func (a *announcer) repeat(subject string) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	user, public := a.subjects.ParseEvent(subject)
	if !public {
		user, _ = a.subjects.ParseSelf(subject)
	}
	n, _ := a.outbox.repeated(user)
	switch {
	case public && n.Announce:
		return a.sendTo(subject, &n.Public, a.publicTrace(&n.Public))
	case !public && n.Tell:
		return a.sendTo(subject, &n.Status, a.outbox.trace(n.Status.Status.Revision))
	}
	return nil
}
