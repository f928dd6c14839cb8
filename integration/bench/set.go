package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

var setMeasure = measure{
	name: "set", title: "changes of a text, acknowledged and announced", unit: "/s",
	variants: func(ctx context.Context, b *bench, done func(func())) ([]variant, error) {
		three, err := b.startRawCluster("always")
		if err != nil {
			return nil, err
		}
		if err := canBodies(b.interval, three); err != nil {
			return nil, err
		}
		ours, err := b.startOnCluster(three)
		if err != nil {
			return nil, err
		}
		done(func() { b.close(ours); b.remove(three) })
		if err := b.populate(ctx, ours); err != nil {
			return nil, err
		}
		v := b.changes(b.opts.callers, 1)
		v[setInterval].goal, v[setAlways].goal = "≥ 0.90 × raw", "≥ 0.65 × raw"
		c, users := &changer{callers: b.opts.callers, share: 1}, setSubjects()
		setThree := variant{name: "set (R3, sync always), " + callersText(c.callers), server: ours,
			run: c.requests(ours, func(u int) string { return users[u] })}
		// Ratios are to raw, so it comes first. finish knows the last six.
		return []variant{v[rawChange], v[echo], v[publishInterval], v[publishAlways], v[setInterval],
			v[durable], durably(three, "R3", c), heard(v[rawChange], refStatus+"*"),
			v[setAlways], setThree, heard(v[setInterval], subjects.AnyEvent())}, nil
	},
	finish: func(rows []row) []row {
		const theirs, ours, pairs = 5, 8, 3 // the first of as many rows: R1, R3, and with a subscriber
		for i := range pairs {
			ratio := medianRatio(rows[ours+i].Rounds, rows[theirs+i].Rounds)
			rows = append(rows, row{Name: rows[ours+i].Name + ", beside " + rows[theirs+i].Name, Text: fmt.Sprintf("%.2f ×", ratio), Value: ratio})
		}
		return rows
	},
}

// heard is a variant of changes whose events somebody gets: a subscriber to all of them. Without
// one presenced sends none, but raw does.
func heard(v variant, events string) variant {
	run := v.run
	v.name, v.goal = v.name+", with a subscriber to all events", ""
	v.run = func(ctx context.Context, d time.Duration) (sample, error) {
		nc := v.server.conns[0]
		sub, err := nc.Subscribe(events, func(*nats.Msg) {})
		if err == nil {
			err = nc.FlushTimeout(requestTimeout)
		}
		if err != nil {
			return sample{}, err
		}
		s, err := run(ctx, d)
		return s, errors.Join(err, sub.Unsubscribe(), nc.FlushTimeout(requestTimeout))
	}
	return v
}

var latencyMeasure = measure{
	name: "latency", title: "the same, one caller", unit: "/s",
	variants: func(_ context.Context, b *bench, _ func(func())) ([]variant, error) {
		return b.changes(1, 2)[rawChange:], nil // half the time each: they are only latencies
	},
	finish: func(rows []row) []row {
		raw := rows[0].P50
		for set, publish := range map[int]int{setInterval: publishInterval, setAlways: publishAlways} {
			goal := rows[publish-rawChange].P50 + raw*3/2
			rows[set-rawChange].Goal = fmt.Sprintf("p50 ≤ %s (JetStream + 1.5 × raw)", micros(goal))
		}
		return rows
	},
}

// The variants of changes, by their indexes.
const (
	echo = iota
	rawChange
	publishInterval
	publishAlways
	durable
	setInterval
	setAlways
)

// changes are the variants of a change by so many callers.
func (b *bench) changes(callers int, share time.Duration) []variant {
	c := &changer{callers: callers, share: share}
	rawSubjects, jsSubjects, setSubjects := make([]string, callersUsers), make([]string, callersUsers), setSubjects()
	for i := range callersUsers {
		rawSubjects[i] = refUser + userID(i) + ".set"
		jsSubjects[i] = refJS + userID(i)
	}
	publishes := func(t *target) runFunc {
		return c.rounds(func(caller, i int, body []byte) error {
			_, err := t.js[caller%connections].Publish(context.Background(), jsSubjects[c.user(caller, i)], body)
			return err
		})
	}
	setOn := func(t *target) runFunc { return c.requests(t, func(u int) string { return setSubjects[u] }) }
	name := func(what string) string { return what + ", " + callersText(callers) }
	return []variant{
		{name: name("request and reply alone"), run: c.requests(b.refInterval, func(int) string { return refEcho }), server: b.refInterval},
		{name: name("raw: request, event, reply"), run: c.requests(b.refInterval, func(u int) string { return rawSubjects[u] }), server: b.refInterval},
		{name: name("JetStream publish, sync interval"), run: publishes(b.refInterval), server: b.refInterval},
		{name: name("JetStream publish, sync always"), run: publishes(b.refAlways), server: b.refAlways},
		durably(b.refAlways, "R1", c),
		{name: name("set, sync interval"), run: setOn(b.interval), server: b.interval},
		{name: name("set, sync always"), run: setOn(b.always), server: b.always},
	}
}

// durably is the variant of a responder that publishes to JetStream before it answers.
// copies says how many servers store each message.
func durably(t *target, copies string, c *changer) variant {
	list := make([]string, callersUsers)
	for i := range list {
		list[i] = refDurable + userID(i) + ".set"
	}
	return variant{
		name:   "JetStream publish (" + copies + ", sync always), event, reply, " + callersText(c.callers),
		run:    c.requests(t, func(u int) string { return list[u] }),
		server: t,
	}
}

func callersText(callers int) string {
	if callers == 1 {
		return "1 caller"
	}
	return strconv.Itoa(callers) + " callers"
}

// changer makes changes by several callers. Call it from one goroutine.
type changer struct {
	callers int
	users   int           // 0: callersUsers
	share   time.Duration // a round takes the time for each variant divided by it
	base    int           // of the bodies of the last round
}

// user is the one that a caller's i-th call changes.
func (c *changer) user(caller, i int) int {
	each := cmp.Or(c.users, callersUsers) / c.callers
	return caller*each + i%each
}

// rounds makes changes whose bodies never repeat, not even in the next round. A round
// begins with other users than the round before.
func (c *changer) rounds(call func(caller, i int, body []byte) error) runFunc {
	return func(ctx context.Context, d time.Duration) (sample, error) {
		c.base += 1_000_003
		first := c.base
		return callFor(ctx, c.callers, d/c.share, func(caller, i int) error {
			return call(caller, first+i, setBody(first+i))
		})
	}
}

func (c *changer) requests(t *target, subject func(user int) string) runFunc {
	return c.rounds(func(caller, i int, body []byte) error {
		return request(t.conn(caller), subject(c.user(caller, i)), body)
	})
}

// setSubjects are where the callers' users are changed.
func setSubjects() []string {
	list := make([]string, callersUsers)
	for i := range list {
		list[i] = setSubject(i)
	}
	return list
}
