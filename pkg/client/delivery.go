package client

import (
	"context"
	"slices"
	"sync"

	"presence/pkg/protocol"
)

// maxPendingStates bounds the states that wait for a callback. Of more, the oldest pair
// of "blind" and "live" is dropped.
const maxPendingStates = 4

// delivery runs the callbacks, on one goroutine. What waits for a slow callback is
// bounded: the latest of each user.
type delivery struct {
	wake chan struct{} // holds one

	mu       sync.Mutex
	onStatus []*func([]protocol.Status)
	onOwn    []*func(Own)
	onState  []*func(State)
	statuses pending[protocol.Status]
	telling  pending[protocol.Status] // what callbacks are called with now
	owns     pending[Own]
	states   []State
}

func newDelivery() *delivery {
	return &delivery{wake: make(chan struct{}, 1)}
}

// tell queues a status. It replaces one of the same user that still waits.
func (d *delivery) tell(userID string, s protocol.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.onStatus) > 0 {
		d.statuses.put(userID, s)
		notify(d.wake)
	}
}

// tellOwn queues an Own. It replaces one of the same user that still waits.
func (d *delivery) tellOwn(o Own) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.onOwn) > 0 {
		d.owns.put(o.UserID, o)
		notify(d.wake)
	}
}

// tellState queues a state. It replaces the state before it if that still waits and both
// are live, or both blind.
func (d *delivery) tellState(s State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.states); n > 0 && d.states[n-1].Live == s.Live {
		d.states[n-1] = s
	} else {
		d.states = append(d.states, s)
	}
	if len(d.states) > maxPendingStates {
		d.states = d.states[2:]
	}
	notify(d.wake)
}

// forget drops the waiting statuses of users who are no longer watched: no callback that
// begins later has them.
func (d *delivery) forget(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statuses.drop(ids)
	d.telling.drop(ids)
}

// forgetOwn drops the waiting Own of a user who is no longer logged in here.
func (d *delivery) forgetOwn(userID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owns.drop([]string{userID})
}

func (d *delivery) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
			d.deliver(ctx)
		}
	}
}

// deliver runs the callbacks with all that waits. Statuses come first, so that they come
// before the "live" that they led to.
func (d *delivery) deliver(ctx context.Context) {
	d.mu.Lock()
	d.statuses, d.telling = d.telling, d.statuses
	owns, states := d.owns.take(), d.states
	onStatus, onOwn, onState := d.onStatus, d.onOwn, d.onState
	d.states = nil
	d.mu.Unlock()

	for _, f := range onStatus {
		if list := d.stillTelling(); len(list) > 0 && ctx.Err() == nil {
			(*f)(list)
		}
	}
	d.mu.Lock()
	d.telling.clear()
	d.mu.Unlock()
	for _, o := range owns {
		for _, f := range onOwn {
			if ctx.Err() == nil {
				(*f)(o.clone())
			}
		}
	}
	for _, s := range states {
		for _, f := range onState {
			if ctx.Err() == nil {
				(*f)(s)
			}
		}
	}
}

// stillTelling returns the statuses for the next callback, which may keep or change them.
func (d *delivery) stillTelling() []protocol.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.telling.list()
}

// pending is what waits for callbacks: the latest value of each user, in the order in
// which the users' first values came.
type pending[T any] struct {
	latest map[string]T
	order  []string // of the users in latest
}

func (p *pending[T]) put(userID string, v T) {
	if _, waits := p.latest[userID]; !waits {
		p.order = append(p.order, userID)
	}
	if p.latest == nil {
		p.latest = map[string]T{}
	}
	p.latest[userID] = v
}

func (p *pending[T]) drop(userIDs []string) {
	for _, id := range userIDs {
		delete(p.latest, id)
	}
	p.order = slices.DeleteFunc(p.order, func(id string) bool {
		_, waits := p.latest[id]
		return !waits
	})
}

func (p *pending[T]) list() []T {
	list := make([]T, len(p.order))
	for i, id := range p.order {
		list[i] = p.latest[id]
	}
	return list
}

// take empties it.
func (p *pending[T]) take() []T {
	list := p.list()
	p.clear()
	return list
}

func (p *pending[T]) clear() {
	clear(p.latest)
	p.order = nil
}

// add registers a callback in *list and returns what removes it. The slice is
// never changed in place: deliver reads it without the lock.
func add[F any](d *delivery, list *[]*F, f F) (remove func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*list = append(slices.Clone(*list), &f)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		*list = slices.DeleteFunc(slices.Clone(*list), func(g *F) bool { return g == &f })
	}
}

// isClosed reports whether a channel is closed that nobody sends to.
func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// notify puts a token into a channel that holds one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
