package main

import (
	"context"
	"fmt"
	"time"
)

// usersPerGet is how many users one get asks for.
const usersPerGet = 100

var getMeasure = measure{
	name: "get", title: "queries of many users, reply not decoded", unit: " users/s",
	variants: func(_ context.Context, b *bench, _ func(func())) ([]variant, error) {
		const n = usersPerGet
		bodies := getBodies(callersUsers, n)
		queries := func(t *target, subject string) runFunc { return queries(t, b.opts.callers, subject, bodies) }
		return []variant{
			{name: "raw: canned reply of the same size", run: queries(b.refInterval, refGet), each: n, server: b.refInterval},
			{name: fmt.Sprintf("get of %d, %d callers", n, b.opts.callers), run: queries(b.interval, subjects.Get()), each: n, server: b.interval,
				goal: "≥ 0.90 × raw, ≥ 1,000,000/s"},
		}, nil
	},
}

// queries has callers send the bodies to a subject, one after the other.
func queries(t *target, callers int, subject string, bodies [][]byte) runFunc {
	return func(ctx context.Context, d time.Duration) (sample, error) {
		return callFor(ctx, callers, d, func(caller, i int) error {
			return request(t.conn(caller), subject, bodies[(caller+i)%len(bodies)])
		})
	}
}

// getBodies are requests for n users each; no user is in two of them.
func getBodies(users, n int) [][]byte {
	bodies := [][]byte{}
	for first := 0; first+n <= users; first += n {
		bodies = append(bodies, getBody(first, n))
	}
	return bodies
}
