package client

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
	"presence/pkg/protocol"
)

// The broker may refuse a subscription, or end one that exists: because a reload narrows what the
// connection may subscribe to, or because the connection has too many subscriptions. It sends an
// error. To nats.go the subscription stays valid, and if the broker allows it later, nobody brings
// it back. So the watch remembers which subscriptions are dead, is blind while there are any, and
// makes them anew until the broker accepts them.
//
//	permission violation ─► that subscription is dead   ┐
//	too many of them     ─► any of them may be dead     ├─► blind ─► keep: repair, fetch, live
//	a change that a snapshot showed, but no event told ─┘

const (
	// repairSample is how many of the denied subscriptions are first made anew, to find out whether
	// the broker accepts them by now. If it does, the others follow.
	repairSample = 10
	// errorsWithin bounds the wait for errors that nats.go has read before an answer and is about
	// to report. One that comes later still makes the watch blind.
	errorsWithin = 50 * time.Millisecond
	// unheardFor is how long an event may take if a snapshot has shown its change already. When an
	// instance was killed, another announces its last changes after about 10 s.
	unheardFor = 15 * time.Second
	// refusedRetry is how often a refused subscription to a user's own events is tried again.
	refusedRetry = 5 * time.Second
)

// errUnheard is why a subscription is made anew for which the broker has sent no error.
var errUnheard = errors.New("an event did not come")

// dead are the subscriptions that bring nothing. The watch's mu guards it.
type dead struct {
	users   map[string]error // to the events of watched users
	crowded error            // the connection has too many: it is not known which were refused
	crowds  uint64           // how often the broker said that
	unheard map[string]unheard
}

// unheard is a change that a snapshot has shown while the watch was live.
type unheard struct {
	revision uint64
	due      time.Time // when its event should have come
}

func newDead(crowds uint64) dead {
	return dead{users: map[string]error{}, unheard: map[string]unheard{}, crowds: crowds}
}

// of is why the subscription of one of these users is dead; nil if none is. It needs mu.
func (d *dead) of(ids []string) error {
	for _, id := range ids {
		if err := d.users[id]; err != nil {
			return err
		}
	}
	return nil
}

// err is why some subscription is dead; nil if none is. It needs mu.
func (d *dead) err() error {
	if d.crowded != nil {
		return d.crowded
	}
	for _, err := range d.users {
		return err
	}
	return nil
}

// connectionError is told of every error that nats.go reports on its own.
func (w *watch) connectionError(err error) {
	if errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		w.crowd(err)
	}
	if r, ok := refusal.Read(err); ok && !r.Publish {
		w.deny(r.Subject, err)
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
func isForAnswers(nc *nats.Conn, subject string) bool { return subject == refusal.Answers(nc) }

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

// refuse notes that the broker refuses the subscription to a user's own events. It is made anew, at
// once if it was not refused before. It needs the watch's mu.
func (o *selfWatch) refuse(err error) {
	o.refused = err
	if !o.refusedBefore {
		o.miss()
	}
}

// toldErrors waits until connectionError has got the errors that nats.go has read before an answer.
func (w *watch) toldErrors() {
	last := w.c.nc.LastError()
	limit := errors.Is(last, nats.ErrMaxSubscriptionsExceeded) // two of these are the same value
	if !limit && !errors.Is(last, nats.ErrPermissionViolation) {
		return
	}
	for begun := time.Now(); time.Since(begun) < errorsWithin; time.Sleep(time.Millisecond) {
		if !limit && w.c.hub.told() == last {
			return
		}
	}
}

// refusal is why enlisted users cannot be watched. crowds is how often there were too many
// subscriptions before.
func (w *watch) refusal(ids []string, crowds uint64) error {
	w.toldErrors()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead.crowds != crowds {
		return nats.ErrMaxSubscriptionsExceeded
	}
	return w.dead.of(ids)
}

func (w *watch) crowds() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead.crowds
}

// noteUnheard remembers a change that a snapshot shows and of which no event came, if the watch was
// live. It needs mu.
func (w *watch) noteUnheard(u *watched, s *protocol.Status) {
	if w.state.Live && u.fetched && s.Revision > u.asOf && s.Revision > u.status.Revision {
		w.dead.unheard[u.id] = unheard{s.Revision, time.Now().Add(w.unheardFor)}
	}
}

// noteHeard notes that an event came. It needs mu.
func (w *watch) noteHeard(id string, revision uint64) {
	if h, ok := w.dead.unheard[id]; ok && revision >= h.revision {
		delete(w.dead.unheard, id)
	}
}

// checkUnheard marks subscriptions as dead whose event is overdue.
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

// repair makes dead subscriptions anew. It returns an error if the broker still refuses some.
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
		err := w.c.nc.FlushWithContext(within) // by then the broker has said what it refuses
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

// takeDead returns users whose subscriptions are to be made anew: a few of the denied ones, or all.
// From here on they count as alive.
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

// stillDead is why one of the subscriptions that were made anew is dead again.
func (w *watch) stillDead(ids []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead.crowded != nil {
		return w.dead.crowded
	}
	return w.dead.of(ids)
}

// subscribeAnew replaces subscriptions. The old one goes first: there may be no room for both. The
// next snapshot includes what is announced in between.
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

// hear makes the subscription to a user's own events anew, if the broker has refused it.
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

// checkRefused notes, once the broker has answered, whether it refuses the subscription to the
// user's own events.
func (o *selfWatch) checkRefused() {
	o.w.toldErrors()
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if err := o.refused; err != nil && !o.refusedBefore {
		o.w.c.opts.Logger.Warn("changes on a user's other devices are not heard, but fetched now and then", "user", o.id, "every", refusedRetry, "err", err)
	}
	o.refusedBefore = o.refused != nil
}
