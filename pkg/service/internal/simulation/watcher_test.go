package simulation

import (
	"time"

	"presence/pkg/protocol"
)

// watcher follows PROTOCOL 5: it subscribes, gets, and merges.
type watcher struct {
	w     *world
	name  string
	fresh bool // it gets fresh, once after each reconnect; or not fresh, and once a minute

	connected bool
	run       int // of its connection
	known     []known
}

// known is what a watcher knows of a user as of a revision.
type known struct {
	status  protocol.Status
	asOf    uint64
	fetched bool
}

func (x *watcher) connect() {
	if x.w.brokerDown {
		x.w.after(time.Second, x.connect)
		return
	}
	x.connected = true
	x.run++
	x.known = make([]known, len(x.w.plan.users))
	x.fetch(x.run)
}

func (x *watcher) disconnect() { x.connected = false }

// fetch gets everything, until it has an answer.
func (x *watcher) fetch(run int) {
	w := x.w
	w.send(&request{what: "get by " + x.name, get: w.plan.users, fresh: x.fresh, done: func(r *reply) {
		if !x.connected || x.run != run {
			return
		}
		if r.err != nil {
			w.after(w.between(10*time.Millisecond, time.Second), func() { x.refetch(run) })
			return
		}
		for i, st := range r.statuses {
			if k := &x.known[i]; r.revision > k.asOf || !k.fetched {
				if r.revision > k.asOf {
					k.status, k.asOf = st, r.revision
				}
				k.fetched = true
			}
		}
		if !x.fresh {
			w.after(w.between(50*time.Second, 60*time.Second), func() { x.refetch(run) })
		}
	}})
}

func (x *watcher) refetch(run int) {
	if x.connected && x.run == run {
		x.fetch(run)
	}
}

// hear gets an event so many times, late and in any order. Who gets it not at all
// lost its connection.
func (x *watcher) hear(e protocol.Event, times int) {
	if !x.connected {
		return
	}
	w, run := x.w, x.run
	if times == 0 {
		w.say("%s loses its connection", x.name)
		x.disconnect()
		w.after(w.between(time.Millisecond, 10*time.Second), x.connect)
		return
	}
	for range times {
		w.after(w.between(10*time.Microsecond, 100*time.Millisecond), func() {
			if !x.connected || x.run != run {
				return
			}
			for i, user := range w.plan.users {
				if k := &x.known[i]; user == e.UserID && e.Revision > k.asOf {
					k.status, k.asOf = e.Status, e.Revision
				}
			}
		})
	}
}
