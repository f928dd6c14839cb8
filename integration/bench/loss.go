package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	lossGrace = 2 * time.Second
	// lossCallers set texts before and while the users are lost.
	lossCallers = 4
	// lossUsers is how many users each of them changes, so that none is limited.
	lossUsers = 4096
)

// lossMeasure kills a gateway with many users and watches all of them, with
// somebody else setting texts meanwhile; then a gateway comes back within the
// grace, of which nobody should hear. It has a presenced of its own.
var lossMeasure = measure{
	name: "loss", title: "a gateway with many users killed",
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.startAlone(ctx, "loss", nil, "--grace", lossGrace.String())
		if err != nil {
			return nil, err
		}
		defer t.close()
		users := min(b.opts.users, 100_000)
		events, err := watchAll(t)
		if err != nil {
			return nil, err
		}
		name := func(i int) string { return fmt.Sprintf("lost-%06d", i) }
		if err := b.loginByGateway(t, "first", users, name); err != nil {
			return nil, err
		}

		// A storm: the gateway's connection closes, another run of it is back in
		// time with everybody.
		told := drained(events)
		nc, err := nats.Connect(t.url, nats.NoReconnect())
		if err != nil {
			return nil, err
		}
		t.conns[0].Close()
		t.conns[0] = nc
		begun := time.Now()
		if err := b.loginByGateway(t, "second", users, name); err != nil {
			return nil, err
		}
		back := time.Since(begun)
		if _, err := b.setMeanwhile(ctx, t, lossGrace+2*time.Second); err != nil {
			return nil, err
		}
		heard := events.offline(drained(events) - told)

		quiet, err := b.setMeanwhile(ctx, t, lossGrace)
		if err != nil {
			return nil, err
		}
		loss := make(chan lossTimes, 1)
		killed := time.Now()
		go func() { loss <- events.awaitLost(killed, users) }()
		t.conns[0].Close()
		busy, err := b.setMeanwhile(ctx, t, lossGrace+time.Second)
		if err != nil {
			return nil, err
		}
		lost := <-loss
		if lost.users < users {
			return nil, fmt.Errorf("%d of %d users were told of", lost.users, users)
		}
		return []row{
			{Name: fmt.Sprintf("back within the grace: %s users logged in by another run", count(users)),
				Text: fmt.Sprintf("%s, %d of them announced", back.Round(time.Millisecond), heard), Value: float64(heard), Goal: "0 announced"},
			{Name: "killed, to the first told", Text: fmt.Sprintf("grace %s + %s", lossGrace, (lost.first - lossGrace).Round(time.Millisecond)), Value: lost.first.Seconds(), Goal: "≤ grace + 1 s"},
			{Name: fmt.Sprintf("first to last told, %s users", count(users)), Text: (lost.last - lost.first).Round(time.Millisecond).String(), Value: (lost.last - lost.first).Seconds(), Goal: "≤ 0.6 s at 100,000"},
			{Name: fmt.Sprintf("set by %d callers, quiet", lossCallers), P50: quiet.p50, P99: quiet.p99, Rate: quiet.rate()},
			{Name: "the same around the loss", P50: busy.p50, P99: busy.p99, Rate: busy.rate(),
				Text: fmt.Sprintf("p99 %.1f × quiet", float64(busy.p99)/float64(quiet.p99)), Value: float64(busy.p99) / float64(quiet.p99)},
		}, nil
	},
}

// loginByGateway logs users in by a gateway on the target's first connection.
func (b *bench) loginByGateway(t *target, process string, users int, name func(int) string) error {
	g, err := openGateway(t.conns[0], "gateway")
	if err != nil {
		return fmt.Errorf("%s run: %w", process, err)
	}
	return g.loginAll(users, name)
}

// setMeanwhile sets texts on the target's other connections.
func (b *bench) setMeanwhile(ctx context.Context, t *target, d time.Duration) (sample, error) {
	return callFor(ctx, lossCallers, d, func(caller, i int) error {
		return request(t.conns[1+caller%(connections-1)], userSubject(fmt.Sprint("caller", caller, "-", i%lossUsers), protocol.OpSet), setBody(i))
	})
}

// watcher receives all public events of a target.
type watcher struct {
	events chan *nats.Msg
	seen   []protocol.StatusType // of the events taken, in order
}

func watchAll(t *target) (*watcher, error) {
	nc, err := nats.Connect(t.url, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	t.conns = append(t.conns, nc)
	w := &watcher{events: make(chan *nats.Msg, 1<<20)}
	if _, err := nc.ChanSubscribe(subjects.AnyEvent(), w.events); err != nil {
		return nil, err
	}
	return w, nc.Flush()
}

// drained takes what has arrived and returns how many events were taken in all.
func drained(w *watcher) int {
	for {
		select {
		case m := <-w.events:
			w.take(m)
		default:
			return len(w.seen)
		}
	}
}

func (w *watcher) take(m *nats.Msg) protocol.Event {
	var e protocol.Event
	if json.Unmarshal(m.Data, &e) == nil {
		w.seen = append(w.seen, e.StatusType)
	}
	return e
}

// offline counts the OFFLINE among the last n events.
func (w *watcher) offline(n int) int {
	lost := 0
	for _, s := range w.seen[len(w.seen)-n:] {
		if s == protocol.Offline {
			lost++
		}
	}
	return lost
}

// lossTimes are when users were told to be OFFLINE, from the kill.
type lossTimes struct {
	users       int
	first, last time.Duration
}

func (w *watcher) awaitLost(killed time.Time, users int) (l lossTimes) {
	told := make(map[string]struct{}, users)
	deadline := time.After(time.Minute)
	for len(told) < users {
		select {
		case m := <-w.events:
			at := time.Since(killed)
			e := w.take(m)
			if e.StatusType != protocol.Offline {
				continue
			}
			if len(told) == 0 {
				l.first = at
			}
			told[e.UserID] = struct{}{}
			l.users, l.last = len(told), at
		case <-deadline:
			return l
		}
	}
	return l
}
