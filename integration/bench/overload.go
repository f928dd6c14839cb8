package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"presence/pkg/protocol"
)

const (
	// overloadUsers are changed in turn, so many that each is within its rate.
	overloadUsers = 1 << 16
	// overloadWindow is how many changes of a connection wait for their answers
	// where a server has as many as it takes.
	overloadWindow = 256
	// overloadTimes as many are too many.
	overloadTimes = 4
	// politeUsers are the polite caller's, so many that none is limited.
	politeUsers = 1 << 13
	// politeTimeout is how long it waits for an answer, recoverWithin how long for
	// one as quick as before.
	politeTimeout = 10 * time.Second
	recoverWithin = 30 * time.Second
)

// overloadMeasure offers a server as many changes as it takes, and then several
// times as many, whatever becomes of them, with a polite caller beside them who
// waits for each answer. Raw, which refuses nothing, is there to compare with: what
// it takes only to receive so many requests is lost to either. The servers are the
// measure's own; presenced has a trace of its garbage collector, which tells how
// large the heap was.
var overloadMeasure = measure{
	name: "overload", title: fmt.Sprintf("%d times as many sets as a server takes, of many users", overloadTimes), slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		raw, ours, err := b.startOverload(ctx)
		if err != nil {
			return nil, err
		}
		defer b.close(raw.t)
		defer b.close(ours.t)
		var rounds []overloadRound
		for i := range (b.opts.rounds+1)/2 + 1 {
			d := b.opts.time
			if i == 0 { // it warms up
				d /= 4
			}
			r, err := overloadRoundOf(ctx, raw, ours, d)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				rounds = append(rounds, r)
			}
		}
		return overloadRows(rounds), nil
	},
}

func (b *bench) startOverload(ctx context.Context) (raw, ours *overloaded, err error) {
	ref, err := b.startRaw("interval")
	if err != nil {
		return nil, nil, err
	}
	if err := request(ref.conns[0], refCanned+refReply, mustMarshal(protocol.ChangeReply{Status: protocol.Status{UserID: userID(0)}})); err != nil {
		return nil, nil, err
	}
	t, err := b.startAlone("overload", []string{"GODEBUG=gctrace=1"})
	if err != nil {
		return nil, nil, err
	}
	if err := loginAll(ctx, t, userID, overloadUsers); err != nil {
		return nil, nil, err
	}
	raw, err = newOverloaded(ref, func(user string) string { return refUser + user + ".set" })
	if err != nil {
		return nil, nil, err
	}
	ours, err = newOverloaded(t, func(user string) string { return userSubject(user, protocol.OpSet) })
	return raw, ours, err
}

// overloaded is a server with who makes the requests.
type overloaded struct {
	t        *target
	alone    *nats.Conn // of the polite caller
	subject  func(user string) string
	subjects []string // by user
	made     int      // requests of storms so far
	asked    int      // of the polite caller
}

func newOverloaded(t *target, subject func(user string) string) (*overloaded, error) {
	o := &overloaded{t: t, subject: subject, subjects: make([]string, overloadUsers)}
	for i := range o.subjects {
		o.subjects[i] = subject(userID(i))
	}
	var err error
	o.alone, err = t.connectOne()
	return o, err
}

// overloadRound is what is compared.
type overloadRound struct {
	raw, ours     pair
	quiet, beside sample        // the polite caller, alone and while there was too much
	recovered     time.Duration // from the end of what was too much
}

// pair is a server with as much as it takes, and with more.
type pair struct {
	full, over     *outcome
	rate, overRate float64 // done in a second
	heap, overHeap uint64  // the largest
}

func overloadRoundOf(ctx context.Context, raw, ours *overloaded, d time.Duration) (r overloadRound, err error) {
	if err := raw.fill(ctx, &r.raw, d/2); err != nil {
		return r, err
	}
	if err := raw.flood(ctx, &r.raw, d); err != nil {
		return r, err
	}
	if r.quiet, err = callFor(ctx, 1, d/4, func(_, _ int) error { return ours.polite() }); err != nil {
		return r, err
	}
	if err := ours.fill(ctx, &r.ours, d/2); err != nil {
		return r, err
	}
	var g errgroup.Group
	ended := make(chan struct{})
	g.Go(func() error {
		defer close(ended)
		return ours.flood(ctx, &r.ours, d)
	})
	quick := 2 * r.quiet.p99
	calls, err := ours.politely(ctx, ended, quick)
	if err := errors.Join(g.Wait(), err); err != nil {
		return r, err
	}
	r.beside, r.recovered = besideStorm(calls, r.ours.over.ended, quick)
	return r, nil
}

// fill has the server do as much as it takes, and nothing is refused.
func (o *overloaded) fill(ctx context.Context, p *pair, d time.Duration) (err error) {
	p.full, p.heap, err = o.storm(ctx, storm{window: overloadWindow}, d)
	if err != nil {
		return err
	}
	if p.full.Done < p.full.Sent {
		return fmt.Errorf("of %d sets, %d at a time, %d were done, %v refused", p.full.Sent, overloadWindow*connections, p.full.Done, p.full.Refused)
	}
	p.rate = float64(p.full.late) / (d / 2).Seconds()
	return nil
}

// flood offers it several times as much.
func (o *overloaded) flood(ctx context.Context, p *pair, d time.Duration) (err error) {
	p.over, p.overHeap, err = o.storm(ctx, storm{perSecond: overloadTimes * p.rate / connections}, d)
	if err != nil {
		return err
	}
	p.overRate = float64(p.over.late) / (d / 2).Seconds()
	return nil
}

// storm sends sets to all users in turn.
func (o *overloaded) storm(ctx context.Context, s storm, d time.Duration) (*outcome, uint64, error) {
	first := o.made
	s.silence = politeTimeout / 2
	s.message = func(sender, i int) (string, []byte) {
		k := first + i*connections + sender
		return o.subjects[k%overloadUsers], setBody(k)
	}
	o.t.largestHeap()
	out, err := s.run(ctx, o.t.conns[:connections], d)
	if err != nil {
		return nil, 0, err
	}
	o.made += 2 * out.Sent // one sender may send more than another
	return out, o.t.largestHeap(), ctx.Err()
}

// polite is one set.
func (o *overloaded) polite() error {
	o.asked++
	m, err := o.alone.Request(o.subject(fmt.Sprint("polite-", o.asked%politeUsers)), setBody(o.asked), politeTimeout)
	if err != nil {
		return err
	}
	return refusal(m)
}

// politely sets, one after the other, until ended and one was quick. What was
// refused is not among the calls; what was not answered is, as long as it waited.
func (o *overloaded) politely(ctx context.Context, ended <-chan struct{}, quick time.Duration) (calls []span, err error) {
	var over time.Time
	for ctx.Err() == nil {
		select {
		case <-ended:
			if over.IsZero() {
				over = time.Now()
			}
		default:
		}
		c := span{from: time.Now()}
		err := o.polite()
		c.to = time.Now()
		if err == nil || errors.Is(err, nats.ErrTimeout) {
			calls = append(calls, c)
		} else if !errors.Is(err, protocol.ErrOverloaded) {
			return calls, err
		}
		switch {
		case over.IsZero():
		case err == nil && c.took() <= quick:
			return calls, nil
		case time.Since(over) > recoverWithin:
			return calls, fmt.Errorf("%v after an overload a set still takes %v: %w", recoverWithin, c.took(), err)
		}
	}
	return calls, ctx.Err()
}

// besideStorm is how long the calls took that began before its end, and how long
// after that the first quick one of the others was done.
func besideStorm(calls []span, ended time.Time, quick time.Duration) (beside sample, recovered time.Duration) {
	var took []time.Duration
	for _, c := range calls {
		if c.from.Before(ended) {
			took = append(took, c.took())
		} else if c.took() <= quick {
			recovered = c.to.Sub(ended)
			break
		}
	}
	slices.Sort(took)
	return sample{count: len(took), p50: percentile(took, 50), p99: percentile(took, 99)}, recovered
}

func overloadRows(rounds []overloadRound) []row {
	of := func(f func(r overloadRound) float64) (values []float64) {
		for _, r := range rounds {
			values = append(values, f(r))
		}
		return values
	}
	var all outcome
	var heap, overHeap uint64
	var p50, p99, beside50, beside99 []time.Duration
	for _, r := range rounds {
		all.add(r.ours.over)
		heap, overHeap = max(heap, r.ours.heap), max(overHeap, r.ours.overHeap)
		p50, p99 = append(p50, r.quiet.p50), append(p99, r.quiet.p99)
		beside50, beside99 = append(beside50, r.beside.p50), append(beside99, r.beside.p99)
	}
	slices.Sort(all.refusals)
	recovered := of(func(r overloadRound) float64 { return r.recovered.Seconds() })
	var rows []row
	for _, s := range []struct {
		name, goal string
		pair       func(overloadRound) pair
	}{
		{"raw: request, event, reply", "", func(r overloadRound) pair { return r.raw }},
		{"set, sync interval", "≥ 0.80 × 1×", func(r overloadRound) pair { return r.ours }},
	} {
		full := of(func(r overloadRound) float64 { return s.pair(r).rate })
		over := of(func(r overloadRound) float64 { return s.pair(r).overRate })
		offered := of(func(r overloadRound) float64 { return s.pair(r).over.offered() / s.pair(r).rate })
		rows = append(rows,
			row{Name: fmt.Sprintf("%s, %s at a time: 1×", s.name, count(overloadWindow*connections)), Rate: median(full), Rounds: full},
			row{Name: fmt.Sprintf("%s, offered %.1f×", s.name, median(offered)), Rate: median(over), Rounds: over, Ratio: medianRatio(over, full), Of: "1×", Goal: s.goal})
	}
	share := float64(all.refused()) / float64(all.Sent)
	return append(rows,
		row{Name: "refused of that, and how soon", Text: fmt.Sprintf("%.0f %%, %d not answered", 100*share, all.Unanswered), Value: share,
			P50: percentile(all.refusals, 50), P99: percentile(all.refusals, 99)},
		row{Name: "largest heap", Text: fmt.Sprintf("%d MB, %d MB at 1×", overHeap>>20, heap>>20), Value: float64(overHeap)},
		row{Name: "a polite caller's set, quiet", P50: median(p50), P99: median(p99)},
		row{Name: "the same beside the overload", P50: median(beside50), P99: median(beside99)},
		row{Name: "from its end until one is as quick as 2 × quiet p99", Text: fmt.Sprintf("%.2f s", median(recovered)), Value: median(recovered), Goal: "≤ 1 s"},
	)
}
