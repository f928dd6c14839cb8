package client

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// The broker may refuse a subscription, or take away one that exists: when a reload narrows what the
// connection may subscribe to, or where it has more subscriptions than it may have. It says so by an
// error of its own. To nats.go the subscription stays valid, and where the limit or the permission
// is widened again, nobody brings it back. So the watch remembers which subscriptions are dead,
// is blind while there are any, and makes them anew until the broker takes them.
//
//	permission violation ─► that subscription is dead   ┐
//	too many of them     ─► any of them may be dead     ├─► blind ─► keep: repair, fetch, live
//	a change that a snapshot showed, but no event told ─┘

const (
	// repairSample is how many of the subscriptions that were denied are made anew to find out
	// whether the broker takes them by now. Only then the others follow.
	repairSample = 10
	// errorsWithin bounds the wait for errors that nats.go has read before an answer and is about
	// to tell. One that comes later still makes the watch blind.
	errorsWithin = 50 * time.Millisecond
	// unheardFor is how long the event may take of a change that a snapshot has shown already. What
	// a killed instance owed another announces after about 10 s.
	unheardFor = 15 * time.Second
	// refusedRetry is how often a refused subscription to a user's own events is tried again.
	refusedRetry = 5 * time.Second
)

// errUnheard is why a subscription is made anew that the broker has not complained of.
var errUnheard = errors.New("an event did not come")

// dead is what is known of subscriptions that do not bring anything. The watch's mu guards it.
type dead struct {
	users   map[string]error // of the status events of watched users
	crowded error            // the connection has too many: it is not known which were refused
	crowds  uint64           // how often that was told
	unheard map[string]unheard
}

// unheard is a change that a snapshot has shown to a watch that was live.
type unheard struct {
	revision uint64
	due      time.Time // when its event should have come
}

func newDead() dead { return dead{users: map[string]error{}, unheard: map[string]unheard{}} }

// err is why some subscription is dead; nil where all are well. It needs mu.
func (d *dead) err() error {
	if d.crowded != nil {
		return d.crowded
	}
	for _, err := range d.users {
		return err
	}
	return nil
}

var deniedSubject = regexp.MustCompile(`Subscription to "([^"]+)"`)

// connectionError is told of every error that nats.go reports on its own.
func (w *watch) connectionError(err error) {
	switch {
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		w.crowd(err)
	case errors.Is(err, nats.ErrPermissionViolation):
		if m := deniedSubject.FindStringSubmatch(err.Error()); m != nil {
			w.deny(m[1], err)
		}
	}
}

// deny marks the subscription to a subject as dead.
func (w *watch) deny(subject string, err error) {
	if isForAnswers(w.c.nc, subject) {
		notify(w.c.dog.answersLost)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id, ok := w.c.subjects.ParseEvent(subject); ok && w.users[id] != nil {
		w.dead.users[id] = err
		if u := w.users[id]; u.fetched || u.contactOf > 0 { // else enlist sees it
			w.setBlind(Refused, err)
		}
	}
	if id, ok := w.c.subjects.ParseSelf(subject); ok && w.owners[id] != nil {
		w.owners[id].refuse(err)
	}
}

// isForAnswers reports whether a subject is that of the one subscription by which nats.go hears the
// answers to all requests of a connection. An application may have subscriptions of its own below
// the same inbox prefix. They are refused on another connection too, so they do not count.
func isForAnswers(nc *nats.Conn, subject string) bool {
	prefix, ok := strings.CutSuffix(subject, "*")
	// The inbox of a request is that prefix and one more token. To make one sends nothing.
	inbox := nc.NewRespInbox()
	return ok && inbox[:strings.LastIndexByte(inbox, '.')+1] == prefix
}

// crowd marks every subscription as one that may be dead.
func (w *watch) crowd(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.users)+len(w.owners) == 0 {
		return
	}
	w.dead.crowded = err
	w.dead.crowds++
	w.setBlind(Refused, err)
	for _, o := range w.owners {
		o.refuse(err)
	}
}

// refuse has an owner's subscription made anew, after a while where it was refused already. It needs
// the watch's mu.
func (o *selfWatch) refuse(err error) {
	o.refused = err
	if !o.refusedBefore {
		o.miss()
	}
}

// toldErrors waits until what nats.go has read before an answer was told to connectionError.
func (w *watch) toldErrors() {
	last := w.c.nc.LastError()
	limit := errors.Is(last, nats.ErrMaxSubscriptionsExceeded) // one is like the other
	if !limit && !errors.Is(last, nats.ErrPermissionViolation) {
		return
	}
	for begun := time.Now(); time.Since(begun) < errorsWithin; time.Sleep(time.Millisecond) {
		if !limit && w.c.hub.told() == last {
			return
		}
	}
}

// refusal is why users who were enlisted cannot be watched; crowds is that of the time before.
func (w *watch) refusal(ids []string, crowds uint64) error {
	w.toldErrors()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead.crowds != crowds {
		return nats.ErrMaxSubscriptionsExceeded
	}
	for _, id := range ids {
		if err := w.dead.users[id]; err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) crowds() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead.crowds
}

// noteUnheard remembers a change that a snapshot shows and no event has told, where the watch was
// live. It needs mu.
func (w *watch) noteUnheard(u *watched, s *protocol.Status) {
	if w.state.Live && u.fetched && s.Revision > u.asOf && s.Revision > u.status.Revision {
		w.dead.unheard[u.id] = unheard{s.Revision, time.Now().Add(w.unheardFor)}
	}
}

// noteHeard is told of each event. It needs mu.
func (w *watch) noteHeard(id string, revision uint64) {
	if h, ok := w.dead.unheard[id]; ok && revision >= h.revision {
		delete(w.dead.unheard, id)
	}
}

// checkUnheard takes subscriptions for dead whose event is overdue.
func (w *watch) checkUnheard(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, h := range w.dead.unheard {
		if h.due.Before(now) {
			delete(w.dead.unheard, id)
			w.dead.users[id] = errUnheard
			w.setBlind(Dropped, errUnheard)
		}
	}
}

// repair makes dead subscriptions anew. The error is that the broker still refuses some.
func (w *watch) repair(ctx context.Context) error {
	for all := false; ; all = true {
		ids := w.takeDead(all)
		if len(ids) == 0 {
			return nil
		}
		if err := w.subscribeAnew(ids); err != nil {
			w.blind(Refused, err)
			return err
		}
		within, cancel := context.WithTimeout(ctx, w.c.opts.Timeout)
		err := w.c.nc.FlushWithContext(within) // what the broker refuses it has said by then
		cancel()
		if err != nil {
			notify(w.c.dog.doubt)
			return err
		}
		w.toldErrors()
		if err := w.stillDead(ids); err != nil {
			return err
		}
	}
}

// takeDead returns users whose subscriptions are to be made anew: a few of those that were denied,
// or all. From here on they count as alive.
func (w *watch) takeDead(all bool) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead.crowded != nil {
		w.dead.crowded = nil
		clear(w.dead.users)
		for id := range w.users {
			ids = append(ids, id)
		}
		return ids
	}
	for id := range w.dead.users {
		if !all && len(ids) == repairSample {
			break
		}
		ids = append(ids, id)
		delete(w.dead.users, id)
	}
	return ids
}

// stillDead is why one of those made anew is dead again.
func (w *watch) stillDead(ids []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead.crowded != nil {
		return w.dead.crowded
	}
	for _, id := range ids {
		if err := w.dead.users[id]; err != nil {
			return err
		}
	}
	return nil
}

// subscribeAnew replaces subscriptions. The old one goes first: there may be no room for both. What
// is announced in between is in the snapshot that comes next.
func (w *watch) subscribeAnew(ids []string) error {
	w.interest.Lock()
	defer w.interest.Unlock()
	for i, id := range ids {
		w.mu.Lock()
		u := w.users[id]
		w.mu.Unlock()
		if u == nil || u.sub == nil {
			continue
		}
		subject := u.sub.Subject
		_ = u.sub.Unsubscribe() // it fails where the connection is closed
		sub, err := w.c.nc.ChanSubscribe(subject, w.events)
		if err != nil {
			w.markDead(ids[i:], err)
			return err
		}
		u.sub = sub
	}
	return nil
}

func (w *watch) markDead(ids []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if w.users[id] != nil {
			w.dead.users[id] = err
		}
	}
}

// hear makes the subscription to a user's own events anew, where the broker has refused it.
func (o *selfWatch) hear() error {
	o.w.mu.Lock()
	refused := o.refused
	o.refused = nil
	o.w.mu.Unlock()
	if refused == nil {
		return nil
	}
	_ = o.sub.Unsubscribe()
	sub, err := o.w.c.nc.ChanSubscribe(o.sub.Subject, o.w.events)
	if err != nil {
		return err
	}
	o.sub = sub
	return nil
}

// checkRefused takes note of whether the user's own events are heard, once the broker has answered.
func (o *selfWatch) checkRefused() {
	o.w.toldErrors()
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if err := o.refused; err != nil && !o.refusedBefore {
		o.w.c.opts.Logger.Warn("changes of a user's own are not heard, but fetched now and then", "user", o.id, "every", refusedRetry, "err", err)
	}
	o.refusedBefore = o.refused != nil
}
