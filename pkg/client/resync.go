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
	// confirmAfter is when what was watched or fetched anew is fetched a second
	// time: longer than interest takes to spread in a cluster of NATS servers.
	confirmAfter = time.Second
	// Snapshots of everything, when one is not enough, come ever more rarely;
	// the first again when there was none for resyncCalm.
	resyncWait    = 50 * time.Millisecond
	resyncWaitMax = 5 * time.Second
	resyncCalm    = 10 * time.Second
)

// merge reads the events until ctx ends.
//
// A drop cannot go unnoticed: nats.go drops only while the channel is full,
// and only merge takes from it, so the first message taken after a drop leaves
// at most one free place behind. (It may also have been full without a drop;
// that costs a snapshot.)
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
		// Something happened to the user, and only a snapshot can tell what.
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

// sameEpoch reports whether an event is of the journal that is known. It may be
// of a new one, or a late one of an old: a snapshot decides. It needs mu.
func (w *watch) sameEpoch(epoch string) bool {
	if w.epoch == "" {
		w.epoch = epoch
	}
	if epoch != w.epoch {
		w.setBlind(EpochChanged, nil)
	}
	return epoch == w.epoch
}

// tell tells of something new of a user, where somebody wants to hear it. It
// needs mu.
func (w *watch) tell(u *watched) {
	if u.visible() {
		u.told = true
		w.delivery.tell(u.id, u.status)
	}
	w.checkAwaits(u.id)
}

// apply merges a snapshot and returns the users that it could not tell of.
func (w *watch) apply(pages []protocol.GetReply) (failed []string) {
	return w.applyWhole(pages, noEpoch)
}

// noEpoch is no epoch's name.
const noEpoch = "-"

// applyWhole is apply where the snapshot is one of all users that was begun in an epoch: where it
// brings another, nothing else is to be fetched.
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
				// In a cluster another server may not have known our interest yet
				// when it routed an event: hence a second fetch a moment later.
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

// enter makes what was known under another epoch count no more, and reports whether there was
// any. Unless a snapshot of everybody brings the epoch, it has everybody fetched. It needs mu.
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

// blind marks a loss: nothing is trusted until a snapshot that was begun
// afterwards has succeeded.
func (w *watch) blind(r Reason, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setBlind(r, err)
}

// setBlind needs mu.
func (w *watch) setBlind(r Reason, err error) {
	w.losses++
	if r != EpochChanged || w.state.Live { // after an outage a new epoch is nothing else to tell
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

// connectionLost and wakeUp are told by the link.
func (w *watch) connectionLost(closed bool) {
	if closed {
		w.blind(Closed, w.c.link.final)
	} else {
		w.mu.Lock()
		w.dead = dead{users: map[string]error{}, unheard: map[string]unheard{}, crowds: w.dead.crowds} // nats.go makes all of them anew
		w.mu.Unlock()
		w.blind(Disconnected, nil)
	}
}

func (w *watch) wakeUp() { notify(w.wake) }

// schedule says when keep has something to do. It belongs to keep.
type schedule struct {
	everything time.Time // when everything is to be fetched, live or not
	recover    time.Time // not before, while blind
	attempts   int       // since it was calm
}

// keep fetches until ctx ends: everything when the client is blind and now and
// then anyhow, and those newly watched a second time.
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
			continue // something changed: think again about what is next
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
	if w.losses != losses { // lost more meanwhile: this snapshot may be older
		return false
	}
	if err := w.dead.err(); err != nil { // it was fetched, but changes are not heard
		w.setState(State{Reason: Refused, Err: err})
		return false
	}
	w.setState(State{Live: true})
	return !wasLive
}

// fetchAgain takes a snapshot of users; where that fails the client is blind.
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
		return false // the link tells
	}
	w.c.opts.Logger.Warn("fetching what is watched", "users", len(ids), "err", err)
	w.blind(FetchFailed, err)
	return false
}

// takeDue returns those whose second fetch is due.
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
