package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

var setMeasure = measure{
	name: "set", title: "changes of a text, acknowledged and announced", unit: "/s",
	variants: func(_ context.Context, b *bench, _ func(func())) ([]variant, error) {
		v := b.changes(b.opts.callers, 1)
		v[4].goal, v[5].goal = "≥ 0.80 × raw", "≥ 0.65 × raw"
		// Ratios are to raw, so it comes first.
		return append([]variant{v[1], v[0]}, v[2:]...), nil
	},
}

var latencyMeasure = measure{
	name: "latency", title: "the same, one caller", unit: "/s",
	variants: func(_ context.Context, b *bench, _ func(func())) ([]variant, error) {
		return b.changes(1, 2)[1:], nil // half the time each: they are only latencies
	},
	finish: func(rows []row) []row {
		raw := rows[0].P50
		for i := range 2 {
			goal := rows[1+i].P50 + raw*3/2
			rows[3+i].Goal = fmt.Sprintf("p50 ≤ %s (JetStream + 1.5 × raw)", micros(goal))
		}
		return rows
	},
}

// changes are the variants of a change by so many callers: 0 request/reply,
// 1 raw, 2 and 3 a JetStream publish, 4 and 5 set, with each sync.
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
	name := func(what string) string {
		if callers == 1 {
			return what + ", 1 caller"
		}
		return what + ", " + strconv.Itoa(callers) + " callers"
	}
	return []variant{
		{name: name("request and reply alone"), run: c.requests(b.refInterval, func(int) string { return refEcho }), server: b.refInterval},
		{name: name("raw: request, event, reply"), run: c.requests(b.refInterval, func(u int) string { return rawSubjects[u] }), server: b.refInterval},
		{name: name("JetStream publish, sync interval"), run: publishes(b.refInterval), server: b.refInterval},
		{name: name("JetStream publish, sync always"), run: publishes(b.refAlways), server: b.refAlways},
		{name: name("set, sync interval"), run: setOn(b.interval), server: b.interval},
		{name: name("set, sync always"), run: setOn(b.always), server: b.always},
	}
}

// changer makes changes by several callers. Call it from one goroutine.
type changer struct {
	callers int
	share   time.Duration // a round takes the time for each variant divided by it
	base    int           // of the bodies of the last round
}

// user is the one that a caller's i-th call changes.
func (c *changer) user(caller, i int) int {
	each := callersUsers / c.callers
	return caller*each + i%each
}

// rounds makes changes whose bodies never repeat, not even in the next round.
func (c *changer) rounds(call func(caller, i int, body []byte) error) runFunc {
	return func(ctx context.Context, d time.Duration) (sample, error) {
		c.base += 1_000_003
		first := c.base
		return callFor(ctx, c.callers, d/c.share, func(caller, i int) error {
			return call(caller, i, setBody(first+i))
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
