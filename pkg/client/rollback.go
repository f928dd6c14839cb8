package client

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A journal that was put back to an earlier state, by a backup say, mostly begins a new epoch, and
// then nothing here is needed. One that lives on servers of its own may go on in the same epoch:
// its revisions are lower than those that the client knows, and are given a second time. An answer
// or an event below what is known proves nothing, because it may be late. A fresh answer does: it
// includes all that was committed before it was asked for (PROTOCOL 2).
//
//	late answer or event ─► doubt ─► keep: one fresh get ─► wentBack: forget, fetch anew
//	any fresh answer ───────────────────────────────────────────┘

const (
	// settledAfter is how long a revision must have been known for what is below it to be worth a
	// question: longer than most answers and events are under way.
	settledAfter = 2 * time.Second
	// doubtWait is the least time between two such questions. It doubles up to doubtWaitMax while
	// they find nothing, and is forgotten after doubtCalm.
	doubtWait    = time.Second
	doubtWaitMax = 4 * time.Second
	doubtCalm    = time.Minute
	// overdueAfter is when an answer that waits for a revision is taken for one that may never
	// come. The service itself gives up after 2 s.
	overdueAfter = time.Second
)

// horizon is the highest revision that was seen in an epoch, in answers and events. It is safe for
// concurrent use.
type horizon struct {
	mu       sync.Mutex
	epoch    string
	newest   uint64
	rose     time.Time // when newest became what it is
	before   uint64    // newest when turned
	turned   time.Time
	settled  uint64        // known for settledAfter at least
	replaced chan struct{} // closed when the journal turned out to have gone back
}

// note takes a revision that was seen, and reports whether it is lower than it should be.
func (h *horizon) note(epoch string, revision uint64) (doubtful bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch != h.epoch {
		h.epoch, h.newest, h.before, h.settled, h.turned, h.rose = epoch, revision, 0, 0, now, now
		return false
	}
	if now.Sub(h.rose) > settledAfter {
		h.before, h.settled, h.turned = h.newest, h.newest, now
	} else if now.Sub(h.turned) > settledAfter {
		h.settled, h.before, h.turned = h.before, h.newest, now
	}
	if revision > h.newest {
		h.newest, h.rose = revision, now
	}
	return revision < h.settled
}

// seen returns what a fresh answer must include that is asked for from now on.
func (h *horizon) seen() (epoch string, revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch, h.newest
}

// forget drops what was seen up to a revision. It reports whether there was anything to drop.
func (h *horizon) forget(epoch string, revision uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch || h.newest < revision {
		return false // somebody else has noticed it
	}
	h.newest, h.before, h.settled = 0, 0, 0
	return true
}

// tellBack closes the channel of back.
func (h *horizon) tellBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.replaced != nil {
		close(h.replaced)
		h.replaced = nil
	}
}

// back is closed when the journal turns out to have gone back. Whoever waits for a revision has to
// call it before it reads which one: the revision is forgotten first, then the channel is closed.
func (h *horizon) back() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.replaced == nil {
		h.replaced = make(chan struct{})
	}
	return h.replaced
}

// checkFresh notes what a fresh answer is as of, and returns an error where it lacks what was
// known when it was asked for: then the journal went back, and everything is to be asked anew.
func (c *Client) checkFresh(epoch string, revision uint64, wantEpoch string, want uint64) error {
	if epoch == wantEpoch && revision < want {
		c.wentBack(epoch, want)
		return fmt.Errorf("it ends at revision %d and had %d: %w", revision, want, errEpochChanged)
	}
	c.own.seen.note(epoch, revision)
	return nil
}

// wentBack has everything forgotten that was known up to a revision, as in a new epoch, and
// whoever watches told that the client is blind until it was fetched.
func (c *Client) wentBack(epoch string, revision uint64) {
	if !c.own.seen.forget(epoch, revision) {
		return
	}
	c.own.forget(epoch)
	c.own.seen.tellBack()
	c.link.nudge() // sessions that the service does not know any more log in again
	w := c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoch == epoch {
		w.rewind()
	}
	w.setBlind(EpochChanged, nil)
	c.opts.Logger.Warn("the journal went back to an earlier state: everything is fetched anew", "epoch", epoch, "revision", revision)
}

// doubts are about whether the journal went back. The watch's mu guards them.
type doubts struct {
	due   time.Time // when to ask; zero: nothing to ask
	asked time.Time
	wait  time.Duration
}

// doubt has keep ask whether the journal went back.
func (w *watch) doubt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := &w.doubts
	if !d.due.IsZero() {
		return
	}
	now := time.Now()
	if now.Sub(d.asked) > doubtCalm {
		d.wait = 0
	}
	d.due = now
	if next := d.asked.Add(d.wait); next.After(now) {
		d.due = next
	}
	notify(w.wake)
}

// doubtDue says that it is time to ask, and takes note of the question.
func (w *watch) doubtDue(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := &w.doubts
	if d.due.IsZero() || d.due.After(now) {
		return false
	}
	d.due, d.asked, d.wait = time.Time{}, now, min(max(2*d.wait, doubtWait), doubtWaitMax)
	return true
}

// askedAbout is a user ID to ask about where only the answer's revision matters.
const askedAbout = "nobody"

// checkJournal asks whether the journal went back: one fresh get tells. Where it cannot be asked
// the next doubt asks again.
func (w *watch) checkJournal(ctx context.Context) {
	q := query{fresh: true, current: true, patience: w.c.opts.Timeout}
	if _, err := w.c.fetch(ctx, []string{askedAbout}, q); err != nil && ctx.Err() == nil {
		w.c.opts.Logger.Debug("asking whether the journal went back", "err", err)
	}
}

// overdue has it asked whether the journal went back where an answer that waits for a revision
// stays away, and ends ctx where it did. done is to be called at last.
func (c *Client) overdue(ctx context.Context, back <-chan struct{}) (bounded context.Context, done func()) {
	bounded, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(overdueAfter, func() {
		c.watch.doubt()
		select {
		case <-back:
			cancel()
		case <-bounded.Done():
		}
	})
	return bounded, func() { timer.Stop(); cancel() }
}

// rewind makes everything that is known of users count as of an earlier epoch: it is compared with
// what is fetched, so that who watches is told what changed and nothing else. It needs mu.
func (w *watch) rewind() {
	for _, u := range w.users {
		u.forget()
		for _, a := range w.awaits[u.id] {
			w.noteAwait(a, u.id)
		}
	}
	for _, o := range w.owners {
		o.forget()
		o.miss()
	}
}

// settleEpoch has everything fetched once more where a snapshot that brought a new epoch lacks a
// user who was subscribed to meanwhile. It needs mu.
func (w *watch) settleEpoch() {
	for _, u := range w.users {
		if u.anew {
			w.setBlind(EpochChanged, nil)
			return
		}
	}
}

// forget keeps the status to compare the next snapshot with, and no revision.
func (k *known) forget() {
	k.anew = k.anew || k.fetched
	k.asOf, k.fetched = 0, false
}

func (o *selfWatch) forget() {
	o.status.forget()
	o.availabilityAsOf, o.sessionsAsOf, o.complete = 0, 0, false
}
