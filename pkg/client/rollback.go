package client

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A journal that was put back to an earlier state, by a backup for example, usually begins a new
// epoch. Then nothing here is needed. A journal on NATS servers of its own may go on in the same
// epoch: its revisions are lower than the known ones, and are used a second time. A low revision in
// an answer or event proves nothing, because that may be late. In a fresh answer it does: a fresh
// answer includes all that was committed before it was asked for (PROTOCOL 2).
//
//	late answer or event ─► doubt ─► keep: one fresh get ─► wentBack: forget, fetch anew
//	any fresh answer ───────────────────────────────────────────┘

const (
	// settledAfter is how long a revision must be known before a lower one raises a doubt: longer
	// than most answers and events are under way.
	settledAfter = 2 * time.Second
	// doubtWait is the least time between two fresh gets because of doubts. It doubles up to
	// doubtWaitMax while they find nothing, and begins anew after doubtCalm.
	doubtWait    = time.Second
	doubtWaitMax = 4 * time.Second
	doubtCalm    = time.Minute
	// overdueAfter is how long an answer may wait for a revision before it may never come. The
	// service itself gives up after 2 s.
	overdueAfter = time.Second
)

// horizon is the highest revision of an epoch in answers and events. It is safe for concurrent use.
type horizon struct {
	mu       sync.Mutex
	epoch    string
	newest   uint64
	rose     time.Time // when newest last rose
	before   uint64    // what newest was at turned
	turned   time.Time
	settled  uint64        // has been known for settledAfter at least
	replaced chan struct{} // closed once the journal turns out to have gone back
}

// note notes a revision that was seen, and reports whether it is doubtfully low.
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

// seen returns the revision that every fresh answer must include that is asked for from now on.
func (h *horizon) seen() (epoch string, revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch, h.newest
}

// forget drops what was seen up to a revision. It reports false if somebody else did so before.
func (h *horizon) forget(epoch string, revision uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch || h.newest < revision {
		return false
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

// back returns a channel that is closed once the journal turns out to have gone back. To wait for a
// revision, call back before the revision is read: the revision is forgotten first, then the
// channel is closed.
func (h *horizon) back() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.replaced == nil {
		h.replaced = make(chan struct{})
	}
	return h.replaced
}

// checkFresh notes the revision of a fresh answer. It returns an error if the answer lacks what was
// known when it was asked for: then the journal went back, and everything has to be asked anew.
func (c *Client) checkFresh(epoch string, revision uint64, wantEpoch string, want uint64) error {
	if epoch == wantEpoch && revision < want {
		c.wentBack(epoch, want)
		return fmt.Errorf("it ends at revision %d and had %d: %w", revision, want, errEpochChanged)
	}
	c.own.seen.note(epoch, revision)
	return nil
}

// wentBack forgets everything that was known up to a revision, as in a new epoch. The client is
// blind until everything is fetched.
func (c *Client) wentBack(epoch string, revision uint64) {
	if !c.own.seen.forget(epoch, revision) {
		return
	}
	c.own.forget(epoch)
	c.own.seen.tellBack()
	c.link.nudge() // sessions that the service has forgotten log in again
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

// doubt makes keep ask whether the journal went back.
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

// doubtDue reports whether it is time to ask, and notes the question.
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

// askedAbout is a user ID to ask about if only the answer's revision matters.
const askedAbout = "nobody"

// checkJournal makes a fresh get, which shows whether the journal went back. If it fails, the next
// doubt makes another.
func (w *watch) checkJournal(ctx context.Context) {
	q := query{fresh: true, current: true, patience: w.c.opts.Timeout}
	if _, err := w.c.fetch(ctx, []string{askedAbout}, q); err != nil && ctx.Err() == nil {
		w.c.opts.Logger.Debug("asking whether the journal went back", "err", err)
	}
}

// overdue raises a doubt if an answer that waits for a revision does not come. The context that it
// returns ends if the journal went back. Call done in the end.
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

// rewind makes everything that is known of users count as of an earlier epoch. It is compared with
// what is fetched next, so that callbacks get what has changed and nothing else. It needs mu.
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

// settleEpoch makes everything be fetched once more if a snapshot that brought a new epoch lacks a
// user who was subscribed to meanwhile. It needs mu.
func (w *watch) settleEpoch() {
	for _, u := range w.users {
		if u.anew {
			w.setBlind(EpochChanged, nil)
			return
		}
	}
}

// forget keeps the status, to compare the next snapshot with it, but no revision.
func (k *known) forget() {
	k.anew = k.anew || k.fetched
	k.asOf, k.fetched = 0, false
}

func (o *selfWatch) forget() {
	o.status.forget()
	o.availabilityAsOf, o.sessionsAsOf, o.complete = 0, 0, false
}
