package client

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// The pauses after failed fetches of an Own: they double from the first to the max.
	ownRetry    = 250 * time.Millisecond
	ownRetryMax = 15 * time.Second
)

// Own is what a user sees of the own state, the same on all of the user's devices.
type Own struct {
	UserID string
	// Status is the owner's view (PROTOCOL 3). For an invisible user it differs from
	// what everybody sees.
	Status protocol.Status
	// Availability is what is set, whatever is shown.
	Availability protocol.AvailabilitySettings
	// Sessions are those on all devices, in the order of their logins.
	Sessions []protocol.Session
	// Contacts are sorted. FriendNotifications says whether they are watched.
	Contacts            []string
	FriendNotifications bool
}

// OnOwnChanged makes the Client call f for each user who has a session here: once after
// the login, and then whenever something in Own changes, on any device. Register before
// you log in. While f is slow, some changes may be left out, never the last. There are no
// calls for a gateway's users, who would be too many. f must not change back what it gets:
// two devices that did would overwrite each other for ever.
func (c *Client) OnOwnChanged(f func(Own)) (remove func()) {
	return add(c.watch.delivery, &c.watch.delivery.onOwn, f)
}

// clone makes a copy for a callback, which may keep or change it.
func (o Own) clone() Own {
	o.Sessions, o.Contacts = slices.Clone(o.Sessions), slices.Clone(o.Contacts)
	return o
}

// selfWatch is a user who has sessions through the Client: the subscription to self.<user>,
// where all devices of the user get events, and what is known. It lasts from the first
// login to the end of the last session. Its goroutine makes all of its requests:
//
//	self.<user> ─► events ─► merge ─► selfKnown ─► delivery ─► callbacks
//	                            │        ▲
//	                     missed │        │      ┌─► contacts are watched
//	                            └─► run: fetch, follow
type selfWatch struct {
	w        *watch
	id       string
	sub      *nats.Subscription
	wake     chan struct{}       // makes run look for something to do; holds one
	leave    context.CancelFunc  // ends run
	followed map[string]*watched // of run: contacts that are watched

	// The fields below are guarded by the watch's mu.
	sessions      map[*Session]struct{}
	missed        bool  // something may have been missed: fetch
	refused       error // the broker refuses the subscription, so it brings nothing
	refusedBefore bool  // it did so at the last attempt; only run changes this
	selfKnown
	contacts contacts
	complete bool // everything was fetched once in this epoch
	told     Own
}

// selfKnown is what is known of a user's own view. Each part has a revision in the watch's
// epoch.
type selfKnown struct {
	status       known
	availability protocol.AvailabilitySettings
	sessionList  []protocol.Session

	availabilityAsOf, sessionsAsOf uint64
}

// own subscribes to the events for the user's devices, for a session that is about to log
// in.
func (w *watch) own(s *Session) error {
	subject, err := w.c.subjects.Self(s.userID)
	if err != nil {
		return err
	}
	w.interest.Lock()
	defer w.interest.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.mu.Lock()
	o := w.owners[s.userID]
	if o != nil {
		o.sessions[s] = struct{}{}
	}
	w.mu.Unlock()
	if o != nil {
		return nil
	}
	o = &selfWatch{w: w, id: s.userID, wake: make(chan struct{}, 1), followed: map[string]*watched{}, sessions: map[*Session]struct{}{s: {}}}
	ctx, leave := context.WithCancel(context.Background())
	o.leave = leave
	w.mu.Lock()
	w.owners[o.id] = o // first, because the broker may refuse the subscription at once
	w.mu.Unlock()
	if o.sub, err = w.c.nc.ChanSubscribe(subject, w.events); err != nil {
		leave()
		w.mu.Lock()
		delete(w.owners, o.id)
		w.mu.Unlock()
		return err
	}
	w.c.done.Go(func() { o.run(ctx) })
	return nil
}

// disown removes a session that has ended. After the last one merge ignores the user's
// events.
func (w *watch) disown(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.owners[s.userID]
	if o == nil {
		return
	}
	delete(o.sessions, s)
	if len(o.sessions) == 0 {
		delete(w.owners, o.id)
		w.delivery.forgetOwn(o.id)
		if !w.isVisible(o.id) {
			w.delivery.forget([]string{o.id})
		}
		o.leave()
	}
}

// ownMissed makes everything about a user be fetched: something may have been missed.
func (w *watch) ownMissed(userID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.owners[userID]; o != nil {
		o.miss()
	}
}

// miss needs mu.
func (o *selfWatch) miss() {
	o.missed = true
	notify(o.wake)
}

// ownReply merges the owner's view in the reply to a change.
func (w *watch) ownReply(reply protocol.ChangeReply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.owners[reply.Status.UserID]; o != nil {
		w.enter(reply.Epoch, false)
		if o.status.snapshot(reply.Status, reply.Revision) {
			o.tellStatus()
		}
	}
}

// selfEvent merges an event of self.<user> (PROTOCOL 5).
func (w *watch) selfEvent(msg *nats.Msg) {
	id, ok := w.c.subjects.ParseSelf(msg.Subject)
	if !ok {
		return
	}
	var ev protocol.SelfEvent
	if err := protocol.Unmarshal(msg.Data, &ev); err != nil {
		w.c.opts.Logger.Warn("an event for a user's own devices could not be read", "user", id, "err", err)
		w.ownMissed(id)
		return
	}
	if s := w.ownEvent(id, &ev); s != nil {
		s.ended(ev.Reason) // without the lock
	}
}

// ownEvent merges an event of self.<user>, and returns the session that it ends.
func (w *watch) ownEvent(id string, ev *protocol.SelfEvent) (ended *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.owners[id]
	if o == nil {
		return nil
	}
	switch ev.Type {
	case protocol.SelfKicked:
		for s := range o.sessions {
			if s.ID() == ev.SessionID {
				return s
			}
		}
	case protocol.SelfContacts:
		o.contactsEvent(ev)
	case protocol.SelfStatus:
		if ev.Status != nil && ev.Status.UserID == id && w.sameEpoch(ev.Epoch) {
			o.statusEvent(ev.Status)
		}
	case protocol.SelfAvailability:
		if ev.Availability != nil && w.sameEpoch(ev.Epoch) && ev.Revision > o.availabilityAsOf {
			o.availability, o.availabilityAsOf = *ev.Availability, ev.Revision
			o.tell()
		}
	case protocol.SelfSessions:
		if w.sameEpoch(ev.Epoch) && ev.Revision > o.sessionsAsOf {
			o.sessionList, o.sessionsAsOf = ev.Sessions, ev.Revision
			o.look()
			o.tell()
		}
	}
	return nil
}

// statusEvent merges a status. When a user becomes ONLINE or stops being ONLINE, there is
// no event about sessions: these are fetched. It needs mu.
func (o *selfWatch) statusEvent(s *protocol.Status) {
	before := o.status.status.StatusType
	if !o.status.event(*s) {
		return
	}
	o.tellStatus()
	if s.StatusType != before {
		o.miss()
	}
}

// tellStatus gives callbacks a new status, unless they get the public one because the user
// is watched. It needs mu.
func (o *selfWatch) tellStatus() {
	if !o.w.isVisible(o.id) {
		o.w.delivery.tell(o.id, o.status.status)
	}
	o.tell()
}

// tell gives callbacks the Own if it has changed, once all of it is known and while the
// user has a session: a fetch may end later. It needs mu.
func (o *selfWatch) tell() {
	if !o.complete || o.w.owners[o.id] != o {
		return
	}
	own := Own{UserID: o.id, Status: o.status.status, Availability: o.availability, Sessions: o.sessionList,
		Contacts: o.contacts.list, FriendNotifications: o.contacts.watched}
	if !reflect.DeepEqual(own, o.told) {
		o.told = own
		o.w.delivery.tellOwn(own)
	}
}

func (w *watch) isVisible(userID string) bool {
	u := w.users[userID]
	return u != nil && u.visible()
}

// run fetches, and follows contacts, until the last session has ended.
func (o *selfWatch) run(ctx context.Context) {
	defer o.end()
	defer o.leave()
	for failures := 0; ; {
		again := o.w.c.opts.Resync
		if err := o.work(ctx); err == nil {
			failures = 0
			if o.refusedBefore {
				again = min(again, refusedRetry)
			}
		} else if ctx.Err() == nil {
			// Jitter takes up to half of it off.
			again = max(backoff(failures, ownRetry, ownRetryMax), 2*retryAfter(err))
			failures++
			o.w.c.opts.Logger.Warn("fetching what a user sees on the own devices", "user", o.id, "retryIn", again, "err", err)
		}
		timer := time.NewTimer(jitter(again))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-o.wake:
			timer.Stop()
		case <-timer.C:
			o.setMissed(true)
		}
	}
}

// work fetches if something was missed, and follows contacts.
func (o *selfWatch) work(ctx context.Context) error {
	var err error
	if o.setMissed(false) {
		if err = o.fetch(ctx); err != nil {
			o.setMissed(true)
		}
	}
	return errors.Join(err, o.follow())
}

func (o *selfWatch) setMissed(missed bool) (before bool) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	before, o.missed = o.missed, missed
	return before
}

// end unsubscribes and stops watching contacts.
func (o *selfWatch) end() {
	_ = o.sub.Unsubscribe() // it fails if the connection is closed: then there is no subscription
	o.unfollow(func(string) bool { return true })
}

// fetch asks for everything.
func (o *selfWatch) fetch(ctx context.Context) error {
	if err := o.hear(); err != nil {
		return err
	}
	epoch, revision := o.newest()
	own, err := o.w.c.OwnStatus(ctx, o.id)
	switch {
	case err != nil:
		return err
	case own.Stale || own.Epoch == epoch && own.Revision < revision:
		if !own.Stale {
			o.w.doubt()
		}
		return protocol.ErrUnavailable.Withf("the instance that answered is at revision %d, asked for was %d", own.Revision, revision)
	}
	o.checkRefused()
	o.apply(&own)
	err = o.fetchContacts(ctx)
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	o.complete = true // even without contacts, if they cannot be had
	o.tell()
	return err
}

// newest returns the revision that an answer must have reached: of the changes made through
// the Client, and of the events. There may be no event about sessions but the one that makes
// them be fetched.
func (o *selfWatch) newest() (epoch string, revision uint64) {
	epoch, revision = o.w.c.own.newest()
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if epoch == o.w.epoch {
		revision = max(revision, o.status.asOf, o.availabilityAsOf, o.sessionsAsOf)
	}
	return epoch, revision
}

// apply merges a snapshot.
func (o *selfWatch) apply(own *protocol.OwnStatusReply) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.w.owners[o.id] != o {
		return
	}
	o.w.enter(own.Epoch, false)
	if o.status.snapshot(own.Status, own.Revision) {
		o.tellStatus()
	}
	if own.Revision > o.availabilityAsOf {
		o.availability, o.availabilityAsOf = own.Availability, own.Revision
	}
	if own.Revision > o.sessionsAsOf {
		o.sessionList, o.sessionsAsOf = own.Sessions, own.Revision
		o.look()
	}
}
