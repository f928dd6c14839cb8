package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

const (
	maxInstances = 3
	// faultCallers call every faultEvery each, half of them get and half set,
	// before, while and after something is killed.
	faultCallers = 16
	faultEvery   = 5 * time.Millisecond
	faultUsers   = 16_384
	// faultTimeout is how long an attempt of a request waits for its answer.
	faultTimeout = 2 * time.Second
	// faultBefore and faultAfter are how long they call before the fault, and
	// after each of them has had an answer to what it asked behind it.
	faultBefore = time.Second
	faultAfter  = time.Second
	// faultWithin bounds all of that.
	faultWithin = time.Minute
)

// instancesMeasure is several presenced on a NATS cluster of three servers, the
// journal with three replicas: how queries are shared out, and what callers
// notice when a presenced and the journal's NATS server are killed.
//
// Where all share the cores with the load, more instances answer no more. That
// they would shows in that they share the queries evenly and compute no more for
// each.
var instancesMeasure = measure{
	name: "instances", title: "several presenced on a NATS cluster of three; cpu: of all presenced, without the NATS servers", unit: " users/s", slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		c, err := b.startCluster(ctx)
		defer c.close()
		if err != nil {
			return nil, err
		}
		var rows []row
		for n := range maxInstances {
			if err := c.addInstance(ctx); err != nil {
				return nil, err
			}
			if n == 0 {
				if err := c.prepare(ctx); err != nil {
					return nil, err
				}
			}
			gets, err := c.measureGets(ctx)
			if err != nil {
				return nil, err
			}
			rows = append(rows, gets...)
		}
		for _, fault := range []func(context.Context) ([]row, error){c.killInstance, c.killLeader} {
			noticed, err := fault(ctx)
			if err != nil {
				return nil, err
			}
			rows = append(rows, noticed...)
		}
		return rows, nil
	},
}

// prepare connects the load and logs its users in.
func (c *cluster) prepare(ctx context.Context) error {
	if err := c.connect(); err != nil {
		return err
	}
	return loginAll(ctx, c.load, userID, faultUsers)
}

// measureGets measures queries with the instances that there are.
func (c *cluster) measureGets(ctx context.Context) ([]row, error) {
	bodies := getBodies(faultUsers, usersPerGet)
	gets := func(d time.Duration) (sample, error) {
		return callFor(ctx, c.b.opts.callers, d, func(caller, i int) error {
			return request(c.load.conn(caller), subjects.Get(), bodies[(caller+i)%len(bodies)])
		})
	}
	if _, err := gets(c.b.opts.time / 2); err != nil { // until all NATS servers know of the last instance
		return nil, err
	}
	before, err := c.answered()
	if err != nil {
		return nil, err
	}
	var samples []sample
	for range (c.b.opts.rounds + 1) / 2 {
		cpu := c.cpuTime()
		s, err := gets(c.b.opts.time)
		if err != nil {
			return nil, err
		}
		s.cpu = c.cpuTime() - cpu
		samples = append(samples, s)
	}
	after, err := c.answered()
	if err != nil {
		return nil, err
	}
	n := len(c.instances)
	rates := summary(variant{name: fmt.Sprintf("get of %d, %d callers, %d presenced", usersPerGet, c.b.opts.callers, n), each: usersPerGet}, samples)
	if n == 1 {
		return []row{rates}, nil
	}
	return []row{rates, sharesRow(before, after)}, nil
}

// answered counts the gets that each instance has answered.
func (c *cluster) answered() (list []float64, err error) {
	for _, p := range c.instances {
		n, err := p.figure(`presence_requests_total{endpoint="get"}`)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

func (c *cluster) cpuTime() (sum time.Duration) {
	for _, p := range c.instances {
		sum += p.cpuTime()
	}
	return sum
}

// sharesRow says how queries were shared out among instances.
func sharesRow(before, after []float64) row {
	sum, least := 0.0, 1.0
	for i := range after {
		sum += after[i] - before[i]
	}
	var texts []string
	for i := range after {
		share := (after[i] - before[i]) / sum
		least = min(least, share)
		texts = append(texts, fmt.Sprintf("%.0f", 100*share))
	}
	return row{Name: "… shared out among them", Text: strings.Join(texts, " : ") + " %", Value: least, Goal: "evenly"}
}

// killInstance kills the first presenced.
func (c *cluster) killInstance(ctx context.Context) ([]row, error) {
	gets, sets, err := c.callOver(ctx, c.instances[0].kill)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("1 of %d presenced killed, longest ", len(c.instances))
	goal := fmt.Sprintf("≤ %v, one request timeout, and an answer", faultTimeout)
	c.instances = c.instances[1:]
	return []row{longestRow(name+"get", gets, goal), longestRow(name+"set", sets, goal)}, nil
}

// killLeader kills the NATS server that leads the journal.
func (c *cluster) killLeader(ctx context.Context) ([]row, error) {
	leader, err := c.journalLeader(ctx)
	if err != nil {
		return nil, err
	}
	gets, sets, err := c.callOver(ctx, c.nats[leader].kill)
	if err != nil {
		return nil, err
	}
	const name = "the journal's NATS server killed, "
	silent := longestGap(sets)
	return []row{
		{Name: name + "no set acknowledged for", Text: seconds(silent), Value: silent.Seconds(), Goal: "≤ 10 s"},
		longestRow(name+"longest set", sets, ""),
		longestRow(name+"longest get", gets, ""),
	}, nil
}

// callOver gets and sets through clients while something is killed, and returns
// how long the calls took with all that was done to have them answered: a set of
// unknown outcome is made again.
func (c *cluster) callOver(ctx context.Context, kill func()) (gets, sets []span, err error) {
	ctx, cancel := context.WithTimeout(ctx, faultWithin)
	defer cancel()
	clients := make([]*client.Client, connections)
	for i, nc := range c.load.conns {
		if clients[i], err = client.New(nc, client.Options{Timeout: faultTimeout}); err != nil {
			return nil, nil, err
		}
		defer clients[i].Close()
	}
	killed := make(chan struct{})
	calls := make([][]span, faultCallers)
	g, ctx := errgroup.WithContext(ctx)
	for caller := range faultCallers {
		api := clients[caller%connections]
		call := func(i int) error { return getOne(ctx, api, i) }
		if caller%2 == 1 {
			call = func(i int) error { return setForSure(ctx, api, userID((i*faultCallers+caller)%faultUsers), i) }
		}
		g.Go(func() (err error) {
			calls[caller], err = callUntilOver(killed, call)
			return err
		})
	}
	g.Go(func() error {
		defer close(killed)
		select {
		case <-time.After(faultBefore):
			kill()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for caller, list := range calls {
		if caller%2 == 1 {
			sets = append(sets, list...)
		} else {
			gets = append(gets, list...)
		}
	}
	return gets, sets, nil
}

func getOne(ctx context.Context, c *client.Client, i int) error {
	_, err := c.GetUserStatus(ctx, []string{userID(i % faultUsers)})
	return err
}

// setForSure sets a text until that is acknowledged, or ctx is done.
func setForSure(ctx context.Context, c *client.Client, user string, i int) error {
	for {
		_, err := c.SetSelfStatus(ctx, user, fmt.Sprint("text ", i))
		if !errors.Is(err, protocol.ErrOutcomeUnknown) || ctx.Err() != nil {
			return err
		}
	}
}

// callUntilOver calls every faultEvery until faultAfter behind the first call that
// was begun after the fault and answered.
func callUntilOver(killed <-chan struct{}, call func(i int) error) (calls []span, err error) {
	var until time.Time
	for i := 0; until.IsZero() || time.Now().Before(until); i++ {
		time.Sleep(faultEvery)
		after := isClosed(killed)
		begun := time.Now()
		if err := call(i); err != nil {
			return nil, err
		}
		now := time.Now()
		calls = append(calls, span{begun, now})
		if after && until.IsZero() {
			until = now.Add(faultAfter)
		}
	}
	return calls, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// longestRow says how long the longest call took.
func longestRow(name string, calls []span, goal string) row {
	longest, slow := longestCall(calls)
	return row{
		Name: name, Value: longest.Seconds(), Goal: goal,
		Text: fmt.Sprintf("%s, %s of %s over %v", seconds(longest), count(slow), count(len(calls)), faultTimeout/2),
	}
}

// longestCall returns how long the longest call took, and how many took longer
// than half of faultTimeout.
func longestCall(calls []span) (longest time.Duration, slow int) {
	for _, c := range calls {
		longest = max(longest, c.took())
		if c.took() > faultTimeout/2 {
			slow++
		}
	}
	return longest, slow
}

// longestGap returns the longest time between the ends of two calls that follow
// each other.
func longestGap(calls []span) (longest time.Duration) {
	ends := make([]time.Time, len(calls))
	for i, c := range calls {
		ends[i] = c.to
	}
	slices.SortFunc(ends, time.Time.Compare)
	for i := 1; i < len(ends); i++ {
		longest = max(longest, ends[i].Sub(ends[i-1]))
	}
	return longest
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
