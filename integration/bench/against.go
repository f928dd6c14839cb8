package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"presence/pkg/service/servicetest"
)

// With -against the daemon of this tree is compared with the daemon of another commit.
// Both run at the same time, on directories of their own, and get the same load in
// turns. A round's result is the ratio of the two.

const (
	// againstRounds is the default number of rounds of -against. With fewer the interval
	// is wide, and holds the true ratio less often than it claims.
	againstRounds = 15
	// againstStarts is how often both daemons are started anew during the rounds. Of two
	// processes of the same program one may be several percent slower all its life, for
	// example by where its memory lies. With one start each, that would look like a
	// difference between the commits.
	againstStarts = 5
)

// question is what both daemons are asked.
type question struct {
	name, title, unit string
	each              int // multiplies the rate
	syncs             []string
	// prepare returns the function that loads a daemon. What it gives to done is called
	// before the daemon ends.
	prepare func(ctx context.Context, b *bench, t *target, done func(func())) (runFunc, error)
}

var questions = []question{
	{name: "set", title: "changes of a text, acknowledged and announced", unit: "/s", syncs: []string{"interval", "always"},
		prepare: func(_ context.Context, b *bench, t *target, _ func(func())) (runFunc, error) {
			c, subjects := &changer{callers: b.opts.callers, share: 1}, setSubjects()
			return c.requests(t, func(user int) string { return subjects[user] }), nil
		}},
	{name: "get", title: fmt.Sprintf("queries of %d users, reply not decoded", usersPerGet), unit: " users/s", each: usersPerGet, syncs: []string{"interval"},
		prepare: func(_ context.Context, b *bench, t *target, _ func(func())) (runFunc, error) {
			return queries(t, b.opts.callers, subjects.Get(), getBodies(callersUsers, usersPerGet)), nil
		}},
	{name: "renew", title: "renewals without a reply, applied", unit: "/s", syncs: []string{"interval"},
		prepare: func(ctx context.Context, _ *bench, t *target, _ func(func())) (runFunc, error) {
			sessions, err := loginRenewing(ctx, t)
			if err != nil {
				return nil, err
			}
			messages := renewals(sessions)
			return func(ctx context.Context, d time.Duration) (sample, error) { return renewFor(ctx, t, messages, d) }, nil
		}},
	{name: "fanout", title: fmt.Sprintf("events to %d subscribers, from the change to the last delivery", subscribers),
		unit: " deliveries/s", each: subscribers, syncs: []string{"interval"},
		prepare: func(ctx context.Context, _ *bench, t *target, done func(func())) (runFunc, error) {
			f, err := newStatusFanout(ctx, t)
			if err != nil {
				return nil, err
			}
			done(f.close)
			return f.run, nil
		}},
}

func questionNames() (names []string) {
	for _, q := range questions {
		names = append(names, q.name)
	}
	return names
}

// prepareAgainst builds the other commit's daemon.
func (b *bench) prepareAgainst(ctx context.Context) error {
	b.logf("building presenced of %s", b.opts.against)
	bin, name, err := servicetest.BuildCommit(ctx, ".", b.dir, b.opts.against)
	b.theirs, b.against = filepath.Join(bin, "presenced"), name
	return err
}

// compareAll puts the chosen questions.
func (b *bench) compareAll(ctx context.Context) ([]result, error) {
	var results []result
	for _, q := range questions {
		if len(b.opts.only) > 0 && !b.opts.only[q.name] {
			continue
		}
		r := result{Name: q.name, Title: q.title, Unit: q.unit}
		for _, sync := range q.syncs {
			b.logf("measuring %s, sync %s", q.name, sync)
			rows, err := b.compare(ctx, q, sync)
			if err != nil {
				return nil, fmt.Errorf("measuring %s: %w", q.name, err)
			}
			r.Rows = append(r.Rows, rows...)
		}
		results = append(results, r)
	}
	return results, nil
}

// compare puts one question to both daemons. It returns the row of the other commit, then
// the one of this tree.
func (b *bench) compare(ctx context.Context, q question, sync string) ([]row, error) {
	variants := []variant{
		{name: b.against + ", sync " + sync, each: q.each},
		{name: "this tree, sync " + sync, each: q.each},
	}
	samples := make([][]sample, len(variants))
	starts := min(againstStarts, b.opts.rounds)
	for start := range starts {
		rounds := (b.opts.rounds + start) / starts // all of them together, as even as can be
		some, err := b.compareOnce(ctx, q, sync, variants, start%2 == 1, rounds)
		if err != nil {
			return nil, err
		}
		for i := range samples {
			samples[i] = append(samples[i], some[i]...)
		}
	}
	theirs, ours := summary(variants[0], samples[0]), summary(variants[1], samples[1])
	ours.Of = b.against
	ours.Ratio, ours.Low, ours.High = medianWithin(ratios(ours.Rounds, theirs.Rounds))
	ours.CPURatio, ours.CPULow, ours.CPUHigh = medianWithin(ratios(cpuEach(samples[1]), cpuEach(samples[0])))
	return []row{theirs, ours}, nil
}

// compareOnce starts both daemons, this tree's first if oursFirst, puts the question for
// some rounds, and ends them.
func (b *bench) compareOnce(ctx context.Context, q question, sync string, variants []variant, oursFirst bool, rounds int) ([][]sample, error) {
	programs, order := []string{b.theirs, b.presenced}, []int{0, 1}
	if oursFirst {
		order = []int{1, 0}
	}
	for _, i := range order {
		t, err := b.start(programs[i], sync)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variants[i].name, err)
		}
		defer b.remove(t)
		variants[i].server = t
	}
	if err := b.populate(ctx, variants[order[0]].server, variants[order[1]].server); err != nil {
		return nil, err
	}
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	done := func(end func()) { ends = append(ends, end) }
	for i := range variants {
		run, err := q.prepare(ctx, b, variants[i].server, done)
		if err != nil {
			return nil, err
		}
		variants[i].run = run
	}
	return alternate(ctx, variants, rounds, b.opts.time)
}

// alternate runs the variants once to warm up, and then round by round. Each round goes
// in the opposite order, so that a slow change of the machine affects all alike. The
// samples are by variant.
func alternate(ctx context.Context, variants []variant, rounds int, d time.Duration) ([][]sample, error) {
	samples := make([][]sample, len(variants))
	for round := range rounds + 1 {
		for i := range variants {
			if round%2 == 0 {
				i = len(variants) - 1 - i
			}
			v, took := variants[i], d
			if round == 0 {
				took /= 4
			}
			s, err := v.measured(ctx, took)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				samples[i] = append(samples[i], s)
			}
		}
	}
	return samples, nil
}

// cpuEach is the server's processor time for each call, round by round; 0 if it is not
// known.
func cpuEach(samples []sample) (list []float64) {
	for _, s := range samples {
		each := 0.0
		if s.count > 0 {
			each = s.cpu.Seconds() / float64(s.count)
		}
		list = append(list, each)
	}
	return list
}
