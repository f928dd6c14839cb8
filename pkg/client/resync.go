package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// confirmAfter is the pause before newly watched users are fetched a second time:
	// longer than a subscription takes to spread in a cluster of NATS servers.
	confirmAfter = time.Second
	// resyncWait is the pause between snapshots of everything while the client stays
	// blind. It doubles up to resyncWaitMax, and begins anew after resyncCalm.
	resyncWait    = 50 * time.Millisecond
	resyncWaitMax = 5 * time.Second
	resyncCalm    = 10 * time.Second
)

// merge reads the events until ctx ends.
//
// No drop goes unnoticed. nats.go drops only while the channel is full, and only merge
// takes from it. So after the first message that is taken after a drop, at most one place
// is free. (The channel may also have been full without a drop. Then a snapshot is taken
// for nothing.)
func (w *watch) merge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-w.events:
			if len(w.events) >= cap(w.events)-1 {
				w.blind(Dropped, nil)
			}
			w.event(msg)
		}
	}
}

// event merges one event (PROTOCOL 5).
func (w *watch) event(msg *nats.Msg) {
	id, ok := w.c.subjects.ParseEvent(msg.Subject)
	if !ok {
		w.selfEvent(msg)
		return
	}
	var ev protocol.Event
	if err := protocol.Unmarshal(msg.Data, &ev); err != nil {
		// Something has happened to the user, and only a snapshot can show what.
		w.c.opts.Logger.Warn("an event could not be read", "user", id, "err", err)
		w.blind(Dropped, nil)
		return
	}
	if ev.UserID != id {
		return
	}
	doubtful := false
	defer func() {
		if doubtful { // without the lock
			w.doubt()
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.users[id]
	if !ok {
		return // unsubscribed meanwhile
	}
	if !w.sameEpoch(ev.Epoch) {
		return
	}
	doubtful = w.c.own.seen.note(ev.Epoch, ev.Revision)
	w.noteHeard(id, ev.Revision)
	if u.event(ev.Status) {
		w.tell(u)
	}
}

// sameEpoch reports whether an event is of the known epoch. Otherwise it is of a new one, or
// a late event of an old one: a snapshot decides. It needs mu.
func (w *watch) sameEpoch(epoch string) bool {
	if w.epoch == "" {
		w.epoch = epoch
	}
	if epoch != w.epoch {
		w.setBlind(EpochChanged, nil)
	}
	return epoch == w.epoch
}

// tell gives callbacks and awaits the new status of a user. It needs mu.
func (w *watch) tell(u *watched) {
	if u.visible() {
		u.told = true
		w.delivery.tell(u.id, u.status)
	}
	w.checkAwaits(u.id)
}

// apply merges a snapshot and returns the users who could not be fetched.
func (w *watch) apply(pages []protocol.GetReply) (failed []string) {
	return w.applyWhole(pages, noEpoch)
}

// noEpoch is the name of no epoch.
const noEpoch = "-"

// applyWhole is apply for a snapshot of all users that was begun in an epoch. If it brings another
// epoch, nothing else has to be fetched.
func (w *watch) applyWhole(pages []protocol.GetReply, begun string) (failed []string) {
	due := time.Now().Add(jitter(confirmAfter)) // for all, so that it is one request
	entered := false
	for _, p := range pages {
		w.mu.Lock()
		if whole := w.epoch == begun; w.enter(p.Epoch, whole) && whole {
			entered, begun = true, p.Epoch
		}
		for _, s := range p.SuccessUserList {
			u, ok := w.users[s.UserID]
			if !ok {
				continue
			}
			if !u.fetched && !u.anew {
				// In a cluster another server may not have known of the subscription
				// yet when it routed an event: so fetch again a moment later.
				w.confirm[u.id] = due
				notify(w.wake)
			}
			w.noteUnheard(u, &s)
			if u.snapshot(s, p.Revision) || u.visible() && !u.told {
				w.tell(u)
			} else {
				w.checkAwaits(u.id)
			}
		}
		for _, f := range p.FailureUserList {
			if u, ok := w.users[f.UserID]; ok {
				u.fetched, u.anew = false, false
				w.c.opts.Logger.Warn("a watched user could not be fetched", "user", f.UserID, "err", f.Err())
			}
			failed = append(failed, f.UserID)
		}
		w.mu.Unlock()
	}
	if entered {
		w.mu.Lock()
		w.settleEpoch()
		w.mu.Unlock()
	}
	return failed
}

// enter begins another epoch: what was known before does not count any more. It reports whether
// there was an epoch before. Unless a snapshot of everybody brings the epoch, everybody is fetched.
// It needs mu.
func (w *watch) enter(epoch string, whole bool) (entered bool) {
	if epoch == w.epoch {
		return false
	}
	entered = w.epoch != ""
	w.epoch = epoch
	if entered {
		w.rewind()
		if !whole {
			w.setBlind(EpochChanged, nil)
		}
	}
	return entered
}

// blind marks a loss: nothing is trusted until a snapshot has succeeded that was begun
// after it.
func (w *watch) blind(r Reason, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setBlind(r, err)
}

// setBlind needs mu.
func (w *watch) setBlind(r Reason, err error) {
	w.losses++
	if r != EpochChanged || w.state.Live { // while blind, a new epoch is no new reason
		w.setState(State{Reason: r, Err: err})
	}
	notify(w.wake)
	if r == Dropped || r == EpochChanged {
		for _, o := range w.owners {
			o.miss()
		}
	}
}

// setState needs mu.
func (w *watch) setState(s State) {
	old := w.state
	if old.Live == s.Live && old.Reason == s.Reason || old.Reason == Closed {
		return
	}
	w.state = s
	w.delivery.tellState(s)
	if s.Live {
		w.checkAllAwaits()
	}
	w.c.opts.Logger.Info("watching", "state", s.String(), "users", len(w.users))
}

// connectionLost is called by the link, as wakeUp is.
func (w *watch) connectionLost(closed bool) {
	if closed {
		w.blind(Closed, w.c.link.final)
	} else {
		w.mu.Lock()
		w.dead = newDead(w.dead.crowds) // nats.go makes all subscriptions anew
		w.mu.Unlock()
		w.blind(Disconnected, nil)
	}
}

func (w *watch) wakeUp() { notify(w.wake) }

// schedule says when keep has something to do. It belongs to keep.
type schedule struct {
	everything time.Time // when everything is to be fetched, live or not
	recover    time.Time // while blind, not before this
	attempts   int       // since it was calm
}

// keep fetches until ctx ends: everything when the client is blind and once per
// Options.Resync, and newly watched users a second time.
func (w *watch) keep(ctx context.Context) {
	t := schedule{everything: time.Now().Add(jitter(w.c.opts.Resync))}
	for {
		conn := w.c.link.current()
		connected := conn.Err() == nil
		wait := time.Until(w.next(t))
		if !connected {
			wait = time.Hour // until the link wakes us up
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-w.wake:
			timer.Stop()
			continue // something has changed, perhaps also what is next
		case <-timer.C:
		}
		if connected {
			w.work(ctx, conn, &t)
		}
	}
}

// next returns when there is something to do.
func (w *watch) next(t schedule) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.state.Live && w.doubts.due.IsZero() {
		return t.recover
	}
	next := t.everything
	if !w.state.Live {
		next = t.recover
	}
	if due := w.doubts.due; !due.IsZero() && due.Before(next) {
		next = due
	}
	for _, due := range w.confirm {
		if w.state.Live && due.Before(next) {
			next = due
		}
	}
	for _, h := range w.dead.unheard {
		if w.state.Live && h.due.Before(next) {
			next = h.due
		}
	}
	return next
}

// work does what is due. A lost connection interrupts it.
func (w *watch) work(ctx, conn context.Context, t *schedule) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(conn, cancel)()

	now := time.Now()
	if w.doubtDue(now) {
		w.checkJournal(ctx)
		return
	}
	w.checkUnheard(now)
	if w.c.State().Live && now.Before(t.everything) {
		w.fetchAgain(ctx, w.takeDue(now))
		return
	}
	if now.Sub(t.recover) > resyncCalm {
		t.attempts = 0
	}
	if w.repair(ctx) != nil && now.Before(t.everything) {
		t.recover = time.Now().Add(backoff(t.attempts, resyncWait, resyncWaitMax))
		t.attempts++
		return
	}
	again := w.c.opts.Resync
	if w.fetchAll(ctx) {
		again = confirmAfter
	}
	t.everything = time.Now().Add(jitter(again))
	t.recover = time.Now().Add(backoff(t.attempts, resyncWait, resyncWaitMax))
	t.attempts++
}

// fetchAll takes a snapshot of everything. It reports whether that made a
// blind client live.
func (w *watch) fetchAll(ctx context.Context) (recovered bool) {
	w.mu.Lock()
	losses, wasLive, epoch := w.losses, w.state.Live, w.epoch
	if w.state.Reason == Disconnected && w.c.link.current().Err() == nil {
		w.setState(State{Reason: Resyncing})
	}
	ids := slices.Collect(maps.Keys(w.users))
	w.mu.Unlock()

	if !w.fetchInto(ctx, ids, func(pages []protocol.GetReply) { w.applyWhole(pages, epoch) }) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.losses != losses { // there was another loss, and this snapshot may be older
		return false
	}
	if err := w.dead.err(); err != nil { // everything is fetched, but no changes are heard
		w.setState(State{Reason: Refused, Err: err})
		return false
	}
	w.setState(State{Live: true})
	return !wasLive
}

// fetchAgain takes a snapshot of users. If that fails the client is blind.
func (w *watch) fetchAgain(ctx context.Context, ids []string) bool {
	return w.fetchInto(ctx, ids, func(pages []protocol.GetReply) { w.apply(pages) })
}

func (w *watch) fetchInto(ctx context.Context, ids []string, apply func([]protocol.GetReply)) bool {
	pages, err := w.c.fetch(ctx, ids, query{fresh: true, current: true, patience: w.c.opts.Timeout})
	switch {
	case err == nil:
		w.toldErrors()
		apply(pages)
		return true
	case ctx.Err() != nil || errors.Is(err, nats.ErrConnectionClosed):
		return false // the link reports it
	}
	w.c.opts.Logger.Warn("fetching what is watched", "users", len(ids), "err", err)
	w.blind(FetchFailed, err)
	return false
}

// takeDue returns the users whose second fetch is due.
func (w *watch) takeDue(now time.Time) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, due := range w.confirm {
		if !due.After(now) {
			ids = append(ids, id)
			delete(w.confirm, id)
		}
	}
	return ids
}
