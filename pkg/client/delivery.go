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
// callback is bounded: of each watched user the latest status.
type delivery struct {
	wake chan struct{} // holds one

	mu       sync.Mutex
	onStatus []*func([]protocol.Status)
	onState  []*func(State)
	latest   map[string]protocol.Status
	order    []string // of the users in latest, by the first change that waits
	states   []State
}

func newDelivery() *delivery {
	return &delivery{wake: make(chan struct{}, 1), latest: map[string]protocol.Status{}}
}

// tell queues a status, in place of one of the same user that still waits.
func (d *delivery) tell(s protocol.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.onStatus) == 0 {
		return
	}
	if _, waits := d.latest[s.UserID]; !waits {
		d.order = append(d.order, s.UserID)
	}
	d.latest[s.UserID] = s
	notify(d.wake)
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

// forget drops what waits about users who are no longer watched.
func (d *delivery) forget(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.latest, id)
	}
	d.order = slices.DeleteFunc(d.order, func(id string) bool {
		_, waits := d.latest[id]
		return !waits
	})
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
	list := make([]protocol.Status, len(d.order))
	for i, id := range d.order {
		list[i] = d.latest[id]
	}
	clear(d.latest)
	states, onStatus, onState := d.states, d.onStatus, d.onState
	d.order, d.states = nil, nil
	d.mu.Unlock()

	if len(list) > 0 {
		for _, f := range onStatus {
			if ctx.Err() == nil {
				(*f)(slices.Clone(list)) // a callback may keep or change its own
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
