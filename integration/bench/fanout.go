package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// subscribers to every event, shared out among the connections of one
	// process that does nothing else with them.
	subscribers = 1000
	// fanoutCallers change users of their own. Each waits until every subscriber has
	// seen its change.
	fanoutCallers = 8
	// fanoutUsers is so many that none is over its rate.
	fanoutUsers = 256 * fanoutCallers
	// fanoutQueue holds all that can be under way to one connection.
	fanoutQueue = 2 * fanoutCallers * subscribers
)

var fanoutMeasure = measure{
	name: "fanout", title: fmt.Sprintf("events to %d subscribers, from the change to the last delivery", subscribers), unit: " deliveries/s",
	variants: func(ctx context.Context, b *bench, done func(func())) ([]variant, error) {
		raw, err := newFanout(b.refInterval, refStatus, func(u int) string { return refUser + fanoutUser(u) + ".set" })
		if err != nil {
			return nil, err
		}
		done(raw.close)
		set, err := newStatusFanout(ctx, b.interval)
		if err != nil {
			return nil, err
		}
		done(set.close)
		return []variant{
			{name: "raw: request, event, reply", run: raw.run, each: subscribers, server: b.refInterval},
			{name: fmt.Sprintf("set, sync interval, %d callers", fanoutCallers), run: set.run, each: subscribers, server: b.interval, goal: "≥ 0.95 × raw"},
		}, nil
	},
}

// fanoutUser is a user whose ID ends with its caller's digit.
func fanoutUser(i int) string { return fmt.Sprintf("watched-%d-%d", i/fanoutCallers, i%fanoutCallers) }

// loginQuietly logs users in and waits for their events, so that none is counted later.
func loginQuietly(ctx context.Context, t *target, name func(int) string, users int) error {
	sub, err := t.conns[0].SubscribeSync(subjects.AnyEvent())
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := t.conns[0].FlushTimeout(requestTimeout); err != nil { // the logins go on other connections too
		return err
	}
	if err := loginAll(ctx, t, name, users); err != nil {
		return err
	}
	for range users {
		if _, err := sub.NextMsg(requestTimeout); err != nil {
			return fmt.Errorf("waiting for the events of logins: %w", err)
		}
	}
	return nil
}

// fanout has every subscriber subscribe to every caller's user, and counts
// deliveries by the last byte of their subjects.
type fanout struct {
	t       *target
	subject func(user int) string
	subs    []*nats.Subscription
	queues  []chan *nats.Msg
	count   [fanoutCallers]atomic.Int64
	all     [fanoutCallers]chan struct{} // one event was delivered to all
	changes int
}

// newStatusFanout logs in the users of a daemon and subscribes to their statuses.
func newStatusFanout(ctx context.Context, t *target) (*fanout, error) {
	if err := loginQuietly(ctx, t, fanoutUser, fanoutUsers); err != nil {
		return nil, err
	}
	return newFanout(t, subjects.Prefix()+".status.", func(u int) string { return userSubject(fanoutUser(u), protocol.OpSet) })
}

func newFanout(t *target, prefix string, subject func(user int) string) (*fanout, error) {
	f := &fanout{t: t, subject: subject}
	for i := range f.all {
		f.all[i] = make(chan struct{}, 1)
	}
	for range t.conns {
		q := make(chan *nats.Msg, fanoutQueue)
		f.queues = append(f.queues, q)
		go f.receive(q)
	}
	for i := range subscribers {
		sub, err := t.conn(i).ChanSubscribe(prefix+"*", f.queues[i%len(f.queues)])
		if err != nil {
			f.close()
			return nil, err
		}
		f.subs = append(f.subs, sub)
	}
	for _, nc := range t.conns {
		if err := nc.FlushTimeout(requestTimeout); err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

func (f *fanout) receive(q chan *nats.Msg) {
	for m := range q {
		user := int(m.Subject[len(m.Subject)-1] - '0')
		if f.count[user].Add(1)%subscribers == 0 {
			f.all[user] <- struct{}{}
		}
	}
}

func (f *fanout) close() {
	for _, s := range f.subs {
		_ = s.Unsubscribe()
	}
	// After a flush nothing is delivered any more, and the queue can be closed.
	for i, nc := range f.t.conns {
		if err := nc.FlushTimeout(requestTimeout); err == nil {
			close(f.queues[i])
		}
	}
}

var errNotDelivered = errors.New("an event was not delivered to every subscriber")

func (f *fanout) run(ctx context.Context, d time.Duration) (sample, error) {
	f.changes += 1_000_003
	first := f.changes
	return callFor(ctx, fanoutCallers, d, func(caller, i int) error {
		if err := request(f.t.conn(caller), f.subject((i*fanoutCallers+caller)%fanoutUsers), setBody(first+i)); err != nil {
			return err
		}
		select {
		case <-f.all[caller]:
			return nil
		case <-time.After(requestTimeout):
			return errNotDelivered
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}
