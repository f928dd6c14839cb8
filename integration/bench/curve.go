package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"presence/pkg/protocol"
)

const (
	// curveRounds and curveTime bound the rounds of one point of a curve.
	curveRounds = 3
	curveTime   = time.Second
	// mostCallers is where the curve over callers ends.
	mostCallers = 1024
)

// callersMeasure is a change by more and more callers.
var callersMeasure = measure{
	name: "callers", title: "changes of a text by so many callers", unit: "/s", long: true, shared: true,
	alone: func(ctx context.Context, b *bench) (rows []row, err error) {
		for _, callers := range callerCounts(b.opts.full) {
			v := b.changes(callers, 1)
			variants := []variant{v[rawChange], v[durable], v[setInterval], v[setAlways]}
			more, err := b.point(ctx, callers, variants, []string{seriesRaw, seriesDurable, seriesInterval, seriesAlways})
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		return rows, nil
	},
}

// The lines of the plots.
const (
	seriesRaw      = "raw"
	seriesDurable  = "JetStream publish, then reply"
	seriesInterval = "set, sync interval"
	seriesAlways   = "set, sync always"

	seriesSet     = "set"
	seriesOneSet  = "set, 1 caller"
	seriesGet     = "users of gets"
	seriesRenewal = "renewals"
	seriesFanout  = "deliveries"

	rawOf = "raw: " // with the name of what it is raw of
)

// callerCounts are the points of the curve over callers: each twice as many as the one
// before, or four times in a run that is not full.
func callerCounts(full bool) (list []int) {
	step := 4
	if full {
		step = 2
	}
	for callers := 1; callers <= mostCallers; callers *= step {
		list = append(list, callers)
	}
	return list
}

// growthMeasure is each figure with more and more users. Each size has a presenced of its
// own, with no limits for a user: a thousand users are changed more often than users
// change. Who is changed, renewed or asked for is drawn from all.
var growthMeasure = measure{
	name: "growth", title: "with so many users, each with a session, sync interval", unit: "/s", long: true,
	alone: func(ctx context.Context, b *bench) (rows []row, err error) {
		raw, err := b.startRaw("interval")
		if err != nil {
			return nil, err
		}
		defer b.remove(raw)
		for _, users := range growthSizes(b.opts.users) {
			more, err := b.measureGrowth(ctx, raw, users)
			if err != nil {
				return nil, fmt.Errorf("with %d users: %w", users, err)
			}
			rows = append(rows, more...)
		}
		return rows, nil
	},
}

// leastUsers is where the curve over users begins.
const leastUsers = 1000

// growthSizes are 1,000 and each ten times the one before, as far as there are users.
func growthSizes(users int) (list []int) {
	for size := min(leastUsers, users); size <= users; size *= 10 {
		list = append(list, size)
	}
	return list
}

func (b *bench) measureGrowth(ctx context.Context, raw *target, users int) (rows []row, err error) {
	t, err := b.start(b.presenced, "interval", "--user-changes", "-1", "--user-renewals", "-1")
	if err != nil {
		return nil, err
	}
	defer b.remove(t)
	sessions, err := loginSessions(ctx, t, userID, users)
	if err != nil {
		return nil, err
	}
	if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
		return nil, err
	}
	if err := canBodies(t, raw); err != nil {
		return nil, err
	}
	for _, f := range b.growthFigures(raw, t, sessions) {
		var ends []func()
		variants, err := f.variants(ctx, func(end func()) { ends = append(ends, end) })
		var pair []row
		if err == nil {
			pair, err = b.point(ctx, users, variants, []string{rawOf + f.series, f.series})
		}
		for _, end := range ends {
			end()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.series, err)
		}
		rows = append(rows, pair...)
	}
	return rows, nil
}

// growthFigure is one figure with so many users: raw, then presenced.
type growthFigure struct {
	series   string
	variants func(ctx context.Context, done func(func())) ([]variant, error)
}

// growthFigures are measured in this order. The subscribers' users come last, because
// they are more users.
func (b *bench) growthFigures(raw, t *target, sessions []session) []growthFigure {
	shuffle(sessions)
	pair := func(rawRun, run runFunc, each int) []variant {
		return []variant{{run: rawRun, each: each, server: raw}, {run: run, each: each, server: t}}
	}
	set := func(callers int) func(context.Context, func(func())) ([]variant, error) {
		return func(context.Context, func(func())) ([]variant, error) {
			c := &changer{callers: callers, users: len(sessions), share: 1}
			return pair(
				c.requests(raw, func(u int) string { return refUser + sessions[u].user + ".set" }),
				c.requests(t, func(u int) string { return userSubject(sessions[u].user, protocol.OpSet) }), 1), nil
		}
	}
	return []growthFigure{
		{seriesGet, func(context.Context, func(func())) ([]variant, error) {
			n := min(usersPerGet, len(sessions))
			bodies := getBodiesOf(sessions, n)
			return pair(queries(raw, b.opts.callers, refGet, bodies), queries(t, b.opts.callers, subjects.Get(), bodies), n), nil
		}},
		{seriesRenewal, func(context.Context, func(func())) ([]variant, error) {
			some := sessions[:min(renewSessions, len(sessions))]
			theirs := make([]message, len(some))
			for i, s := range some {
				theirs[i] = message{renewSubject(s.user), s.renewBody()}
			}
			ours := renewals(some)
			return pair(
				func(ctx context.Context, d time.Duration) (sample, error) { return streamFor(ctx, raw, theirs, d) },
				func(ctx context.Context, d time.Duration) (sample, error) { return renewFor(ctx, t, ours, d) }, 1), nil
		}},
		{seriesSet, set(min(b.opts.callers, len(sessions)))},
		{seriesOneSet, set(1)},
		{seriesFanout, func(ctx context.Context, done func(func())) ([]variant, error) {
			theirs, err := newFanout(raw, refStatus, func(u int) string { return refUser + fanoutUser(u) + ".set" })
			if err != nil {
				return nil, err
			}
			done(theirs.close)
			ours, err := newStatusFanout(ctx, t)
			if err != nil {
				return nil, err
			}
			done(ours.close)
			return pair(theirs.run, ours.run, subscribers), nil
		}},
	}
}

// shuffle puts sessions in an order that is the same each time.
func shuffle(list []session) {
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// getBodiesOf are requests for n of the users each; no user is in two of them.
func getBodiesOf(sessions []session, n int) (bodies [][]byte) {
	for first := 0; first+n <= len(sessions) && len(bodies) < callersUsers; first += n {
		var r protocol.GetRequest
		for _, s := range sessions[first : first+n] {
			r.UserIDList = append(r.UserIDList, s.user)
		}
		bodies = append(bodies, mustMarshal(r))
	}
	return bodies
}

// point measures the variants at one point of a curve. The series name their lines.
func (b *bench) point(ctx context.Context, at int, variants []variant, series []string) ([]row, error) {
	samples, err := alternate(ctx, variants, min(b.opts.rounds, curveRounds), min(b.opts.time, curveTime))
	if err != nil {
		return nil, err
	}
	rows := summaries(variants, samples)
	for i := range rows {
		rows[i].Name, rows[i].Goal = count(at)+": "+series[i], ""
		rows[i].Series, rows[i].At = series[i], at
	}
	return rows, nil
}
