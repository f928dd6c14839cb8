package client

import (
	"context"
	"slices"
	"sync"

	"presence/pkg/protocol"
)

// maxPendingStates bounds the states that wait to be told. Beyond it a pair of
// "blind" and "live" that nobody has heard of is forgotten.
const maxPendingStates = 4

// delivery runs the callbacks, on one goroutine. What waits for a slow
// callback is bounded: of each user the latest.
type delivery struct {
	wake chan struct{} // holds one

	mu       sync.Mutex
	onStatus []*func([]protocol.Status)
	onOwn    []*func(Own)
	onState  []*func(State)
	statuses pending[protocol.Status]
	telling  pending[protocol.Status] // what the callbacks are being told
	owns     pending[Own]
	states   []State
}

func newDelivery() *delivery {
	return &delivery{wake: make(chan struct{}, 1)}
}

// tell queues a status, in place of one of the same user that still waits.
func (d *delivery) tell(userID string, s protocol.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.onStatus) > 0 {
		d.statuses.put(userID, s)
		notify(d.wake)
	}
}

// tellOwn queues what a user sees of oneself likewise.
func (d *delivery) tellOwn(o Own) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.onOwn) > 0 {
		d.owns.put(o.UserID, o)
		notify(d.wake)
	}
}

// tellState queues a state, in place of one as live or blind that still waits.
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

// forget drops the statuses that wait of users who are no longer watched: no
// callback that begins later tells of them.
func (d *delivery) forget(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statuses.drop(ids)
	d.telling.drop(ids)
}

// forgetOwn drops what waits about a user who is no longer logged in here.
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

// deliver runs the callbacks with all that waits: statuses first, so that who
// hears "live" has heard everything that led to it.
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

// stillTelling returns what the next callback is told. It may keep or change that.
func (d *delivery) stillTelling() []protocol.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.telling.list()
}

// pending is what waits to be told: of each user the latest, in the order of the
// first change that waits.
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

// notify puts a token into a channel that holds one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
