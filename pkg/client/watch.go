package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// watch is everything that is watched: a NATS subscription to the events of each user, all
// into one channel, and what is known of each user. It takes three goroutines for any
// number of users, and one for each user who has sessions here.
//
//	status.<user> ─► events ─► merge ──┐
//	                   ▲               ├─► users ─► delivery ─► callbacks
//	get ◄── keep: snapshots of users ──┘      ▲         ▲
//	                   │                      │ contacts│
//	self.<user> ───────┘─► merge ─► owners ───┴─────────┘
//
// merge, keep and delivery.run are goroutines of the Client.
type watch struct {
	c        *Client
	delivery *delivery
	// events is bounded; nats.go drops what it has no room for, and merge notices.
	events chan *nats.Msg
	wake   chan struct{} // tells keep to look again; holds one

	// interest serializes changes of what is watched. It is held during calls of
	// nats.go, which may take as long as a reconnect; mu never is.
	interest sync.Mutex
	closed   bool // guarded by interest

	mu      sync.Mutex
	users   map[string]*watched
	owners  map[string]*selfWatch // users who have sessions through the Client
	awaits  map[string][]*await
	epoch   string // of all revisions in users and owners
	state   State
	doubts  doubts
	losses  uint64               // how often something was lost: an older snapshot does not make us live
	confirm map[string]time.Time // when users newly watched are to be fetched a second time
	dead    dead                 // subscriptions that bring nothing

	unheardFor time.Duration // the constant; shorter in tests
}

// watched is one user of a watch, for as long as there is a reason to watch.
type watched struct {
	id string
	known
	sub  *nats.Subscription // guarded by interest
	told bool               // callbacks have had the user's status

	subscribed  bool  // by SubscribeUserStatus, until it is unsubscribed
	subscribing int32 // calls of it that are under way
	contactOf   int32 // users logged in here whose contact it is
	awaited     int32 // calls of Await that are under way
}

// reason is a count of reasons of one kind.
type reason func(*watched) *int32

var (
	subscribing reason = func(u *watched) *int32 { return &u.subscribing }
	contactOf   reason = func(u *watched) *int32 { return &u.contactOf }
	awaited     reason = func(u *watched) *int32 { return &u.awaited }
)

// visible reports whether callbacks get the user's statuses.
func (u *watched) visible() bool { return u.subscribed || u.subscribing > 0 || u.contactOf > 0 }

func (u *watched) wanted() bool { return u.visible() || u.awaited > 0 }

func newWatch(c *Client) *watch {
	return &watch{
		c:        c,
		delivery: newDelivery(),
		events:   make(chan *nats.Msg, max(c.opts.EventBuffer, 2)),
		wake:     make(chan struct{}, 1),
		users:    map[string]*watched{},
		owners:   map[string]*selfWatch{},
		awaits:   map[string][]*await{},
		state:    State{Reason: Disconnected},
		confirm:  map[string]time.Time{},
		dead:     newDead(0),

		unheardFor: unheardFor,
	}
}

// OnUserStatusUpdated makes the Client call f with the status of each watched user: once
// when the watching begins, and then whenever the status changes. Watched users are those
// of SubscribeUserStatus and, if the service's friend-notification switch is on, the
// contacts of users who have sessions here. f also gets the statuses of the latter users
// themselves, in the owner's view. But if such a user is watched too, f gets what everybody
// sees (OFFLINE for an invisible user).
//
// Register before you subscribe and log in. A slice has only the latest status of each user.
// A slow f delays other callbacks, and nothing else.
func (c *Client) OnUserStatusUpdated(f func([]protocol.Status)) (remove func()) {
	return add(c.watch.delivery, &c.watch.delivery.onStatus, f)
}

// OnState makes the Client call f when it becomes live or blind, or blind for another
// reason. The statuses that led to a state come before it.
func (c *Client) OnState(f func(State)) (remove func()) {
	return add(c.watch.delivery, &c.watch.delivery.onState, f)
}

// State says whether what Watched answers can be trusted.
func (c *Client) State() State {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	return c.watch.state
}

// Watched returns the local copy of a user's status, and whether the user is watched. The
// status is UNKNOWN while there is no copy to trust: the user is not watched, or not
// fetched yet, or the client is blind (PROTOCOL 8, G11).
func (c *Client) Watched(userID string) (protocol.Status, bool) {
	w := c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.users[userID]
	ok = ok && u.visible()
	if !ok || !u.fetched || !w.state.Live {
		return protocol.Status{UserID: userID, StatusType: protocol.Unknown}, ok
	}
	return u.status, true
}

// SubscribeUserStatus watches users until they are unsubscribed, and fetches their
// statuses. There is no limit to their number. It returns the users who cannot be watched;
// the others are. On an error this call watches nobody, and earlier calls stay as they are.
// To watch a user twice is the same as once.
func (c *Client) SubscribeUserStatus(ctx context.Context, userIDs []string) ([]protocol.UserFailure, error) {
	valid, refused := checkIDs(userIDs)
	w := c.watch
	joined, pages, err := w.enlist(ctx, valid, subscribing)
	if err != nil {
		return nil, err
	}
	failed := w.apply(pages)
	w.settle(joined)
	w.drop(failed)
	return failuresOf(userIDs, refused, pages), nil
}

// enlist watches users for a reason, and returns a first snapshot of them, which has to be
// applied. On an error they are not watched for that reason.
func (w *watch) enlist(ctx context.Context, ids []string, why reason) ([]*watched, []protocol.GetReply, error) {
	crowds := w.crowds()
	joined, err := w.join(ids, why)
	if err != nil {
		return nil, nil, fmt.Errorf("subscribing to %d users: %w", len(ids), err)
	}
	pages, err := w.c.fetch(ctx, ids, query{fresh: true, current: true})
	if err == nil {
		err = w.refusal(ids, crowds)
	}
	if err != nil {
		w.leave(joined, why)
		return nil, nil, fmt.Errorf("fetching %d users to watch: %w", len(ids), err)
	}
	return joined, pages, nil
}

// UnsubscribeUserStatus ends subscriptions to users; without IDs it ends all. No callback
// that begins after it has returned has their statuses, except for contacts of a user who
// has a session here: those stay watched as contacts. IDs that are not valid are failures;
// users who are not watched are not.
func (c *Client) UnsubscribeUserStatus(ctx context.Context, userIDs ...string) ([]protocol.UserFailure, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(userIDs) == 0 {
		c.watch.drop(c.watch.all())
		return nil, nil
	}
	valid, refused := checkIDs(userIDs)
	c.watch.drop(valid)
	return failuresOf(userIDs, refused, nil), nil
}

// join adds a reason to watch users, and subscribes to the events of those who were not
// watched. That comes before anything is fetched: changes from here on come as events, and
// earlier ones are in the snapshot.
func (w *watch) join(ids []string, why reason) ([]*watched, error) {
	w.interest.Lock()
	defer w.interest.Unlock()
	if w.closed {
		return nil, ErrClosed
	}
	joined := make([]*watched, 0, len(ids))
	for _, id := range ids {
		u := w.admit(id, why)
		joined = append(joined, u)
		if u.sub != nil {
			continue
		}
		subject, err := w.c.subjects.Event(id)
		if err == nil {
			u.sub, err = w.c.nc.ChanSubscribe(subject, w.events)
		}
		if err != nil {
			w.remove(w.countOut(joined, why))
			return nil, err
		}
	}
	return joined, nil
}

// admit returns the user, watched for one more reason. It comes before the subscription,
// because merge ignores the events of unknown users.
func (w *watch) admit(id string, why reason) *watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.users[id]
	if !ok {
		u = &watched{id: id}
		w.users[id] = u
	}
	*why(u)++
	return u
}

// leave takes a reason away, and stops watching users for whom there is no other.
func (w *watch) leave(joined []*watched, why reason) {
	w.interest.Lock()
	defer w.interest.Unlock()
	w.remove(w.countOut(joined, why))
}

// countOut takes a reason away, and returns the users for whom there is no other.
func (w *watch) countOut(joined []*watched, why reason) (unwanted []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range joined {
		if n := why(u); *n > 0 { // otherwise unsubscribed meanwhile
			*n--
		}
		w.hide(u)
		if w.users[u.id] == u && !u.wanted() {
			unwanted = append(unwanted, u.id)
		}
	}
	return unwanted
}

// hide makes sure that callbacks get no more statuses of a user who is still watched, but
// for another reason. It needs mu.
func (w *watch) hide(u *watched) {
	if u.told && !u.visible() {
		u.told = false
		w.delivery.forget([]string{u.id})
	}
}

// settle turns a call of SubscribeUserStatus that succeeded into a lasting subscription,
// unless the users were unsubscribed meanwhile.
func (w *watch) settle(joined []*watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range joined {
		if u.subscribing > 0 {
			u.subscribing--
			u.subscribed = true
		}
	}
}

// drop ends subscriptions to users, also by calls under way.
func (w *watch) drop(ids []string) {
	w.interest.Lock()
	defer w.interest.Unlock()
	var unwanted []string
	w.mu.Lock()
	for _, id := range ids {
		if u := w.users[id]; u != nil {
			u.subscribed, u.subscribing = false, 0
			w.hide(u)
			if !u.wanted() {
				unwanted = append(unwanted, id)
			}
		}
	}
	w.mu.Unlock()
	w.remove(unwanted)
}

// remove stops watching. It needs interest.
func (w *watch) remove(ids []string) {
	if len(ids) == 0 {
		return
	}
	var subs []*nats.Subscription
	w.mu.Lock()
	for _, id := range ids {
		if u := w.users[id]; u != nil && u.sub != nil {
			subs = append(subs, u.sub)
		}
		delete(w.users, id)
		delete(w.confirm, id)
		delete(w.dead.users, id)
		delete(w.dead.unheard, id)
	}
	w.delivery.forget(ids)
	w.mu.Unlock()
	for _, sub := range subs {
		// It fails if the connection is closed: then there is no subscription.
		_ = sub.Unsubscribe()
	}
}

func (w *watch) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.users))
}

// close stops watching for good.
func (w *watch) close() {
	w.interest.Lock()
	defer w.interest.Unlock()
	w.closed = true
	w.remove(w.all())
	w.blind(Closed, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.owners { // of logins under way
		o.leave()
	}
}
