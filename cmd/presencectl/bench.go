package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/cmd/internal/layout"
	"presence/cmd/internal/span"
	"presence/cmd/presencectl/load"
	"presence/pkg/protocol"
)

const (
	mostCallers  = 4096
	mostSteps    = 16
	mostBenched  = 1_000_000 // users
	mostRequests = 100_000_000
	// usualBenched is enough for 80,000 changes a second: a user may make 20 in 5 s.
	usualBenched = 20_000
)

func (a *app) bench() *cli.Command {
	return &cli.Command{
		Name:     "bench",
		Category: operators,
		Usage:    "measure how fast the service answers, beside raw NATS",
		Description: `Makes requests from 1, 16 and 128 callers, each of which waits for its
answer. Shows the rate, the latencies and the errors of each step. RAW/S is
the rate of a responder inside presencectl, on a second connection. It
answers requests of the same size by answers of the same size, and does
nothing else. OF RAW is the ratio. presencectl takes processor time for both.

It loads the service and its journal as hard as it can, as long as --duration
for each step. On a service at work everybody else waits longer meanwhile. It
changes no user but its own: they are named bench-, a random number and -0,
-1, and so on. They are erased in the end.

Examples:
  presencectl bench set
  presencectl bench get --batch 500 --callers 1,8,64
  presencectl bench set --duration 30s --json | jq .rate`,
		Commands: []*cli.Command{
			a.benchCommand("set", "set the texts of users", setOperation, &cli.IntFlag{Name: "size", Usage: "`BYTES` of a text", Value: 32}),
			a.benchCommand("get", "ask for the statuses of users", getOperation, &cli.IntFlag{Name: "batch", Usage: "users in one request, a `NUMBER`", Value: 100}),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if !cmd.Args().Present() {
				return usageError(ctx, cmd, errors.New("name what to measure: set or get"), true)
			}
			err := choice.Of{"set", "get"}.Check(cmd.Args().First())
			return usageError(ctx, cmd, fmt.Errorf("unknown command %q: it %w", cmd.Args().First(), err), true)
		},
	}
}

// benchCommand measures one operation.
func (a *app) benchCommand(name, usage string, operation func(*cli.Command, *benchUsers) *operation, own cli.Flag) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: usage,
		Description: `presencectl bench --help says what it does to a service at work, and what
the columns are.

An interrupt ends the measurement: what was measured is shown, and the users
are erased. That takes an operator's permissions, and so does setting texts.
Who may not erase leaves users behind. They have no text after an hour, and
are forgotten when the service's --retention is over.

Examples:
  presencectl bench ` + name + `
  presencectl bench ` + name + ` --callers 1,1000 --duration 10s`,
		ArgValidator: noArguments,
		Flags: []cli.Flag{
			&cli.IntSliceFlag{Name: "callers", Usage: "a step for each `NUMBER` of callers, separated by commas", Value: []int{1, 16, 128}},
			&span.Flag{Name: "duration", Usage: "`DURATION` of a step", Value: 5 * time.Second, Config: span.Bounds{Min: 100 * time.Millisecond, Max: 10 * time.Minute}},
			&cli.IntFlag{Name: "requests", Usage: "end a step after this `NUMBER` of requests, if it comes before --duration", DefaultText: "no bound"},
			&cli.IntFlag{Name: "users", Usage: "`NUMBER` of users; each may make 20 changes in 5 s", Value: usualBenched},
			&cli.BoolFlag{Name: "no-raw", Usage: "leave out what is measured beside the service"},
			own,
		},
		Before: func(ctx context.Context, cmd *cli.Command) (context.Context, error) {
			if err := checkBench(cmd); err != nil {
				return ctx, usageError(ctx, cmd, err, true)
			}
			return ctx, nil
		},
		Action: a.connected(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			users := newBenchUsers(c.prefix, cmd.Int("users"))
			b := &bench{conn: c, users: users, operation: operation(cmd, users), size: cmd.Int("size"),
				plan: load.Plan{For: cmd.Duration("duration"), Calls: cmd.Int("requests")}}
			return b.run(ctx, cmd)
		}),
	}
}

// checkBench checks the numbers on the command line.
func checkBench(cmd *cli.Command) error {
	between := func(what string, n, least, most int) error {
		if n < least || n > most {
			return fmt.Errorf("--%s %d: it must be %d to %s", what, n, least, humanize.Comma(int64(most)))
		}
		return nil
	}
	steps := cmd.IntSlice("callers")
	if len(steps) == 0 || len(steps) > mostSteps {
		return fmt.Errorf("--callers has %d numbers, 1 to %d are allowed", len(steps), mostSteps)
	}
	var errs []error
	for _, n := range steps {
		errs = append(errs, between("callers", n, 1, mostCallers))
	}
	errs = append(errs, between("users", cmd.Int("users"), 1, mostBenched))
	if cmd.IsSet("requests") {
		errs = append(errs, between("requests", cmd.Int("requests"), 1, mostRequests))
	}
	switch cmd.Name {
	case "set":
		errs = append(errs, between("size", cmd.Int("size"), leastText, protocol.MostCustomStatusBytes))
	case "get":
		errs = append(errs, between("batch", cmd.Int("batch"), 1, min(protocol.MaxUsersPerGet, cmd.Int("users"))))
	}
	return firstOf(errs)
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// bench is a measurement under way.
type bench struct {
	*conn
	users     *benchUsers
	operation *operation
	size      int // of a text, if texts are measured
	plan      load.Plan
	side      *sideConn
	echo      *echo // nil: raw NATS is not measured
	failed    int64 // calls
}

// run measures every step, and leaves no users behind.
func (b *bench) run(ctx context.Context, cmd *cli.Command) (err error) {
	if b.side, err = b.openSide(ctx, cmd); err != nil {
		return err
	}
	defer b.side.Close()
	erases := b.mayErase(ctx)
	defer func() {
		if !b.leaveUsers(ctx, erases) && err == nil {
			err = errTold
		}
	}()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	b.settled.Store(true) // the broker allows it
	if !cmd.Bool("no-raw") {
		if err := b.startEcho(ctx); err != nil {
			return err
		}
	}
	out := &benchTable{b: b}
	for _, callers := range cmd.IntSlice("callers") {
		if ctx.Err() != nil {
			break
		}
		if err := out.write(b.step(ctx, callers)); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return &failure{errors.New("interrupted before all was measured")}
	case ctx.Err() != nil:
		return ctx.Err()
	case b.failed > 0:
		b.say("%s failed", count(int(b.failed), "request"))
		return errTold
	}
	return nil
}

// step measures one number of callers: raw NATS first, then the service.
func (b *bench) step(ctx context.Context, callers int) *benchStep {
	s, plan := &benchStep{callers: callers}, b.plan
	plan.Callers = callers
	if b.echo != nil {
		s.raw = b.measure(ctx, plan, "raw NATS", b.echo.call)
	}
	s.service = b.measure(ctx, plan, b.operation.name, b.operation.call(b.nc))
	b.failed += s.service.Failures()
	return s
}

// measure runs a plan, with a bar on a terminal.
func (b *bench) measure(ctx context.Context, p load.Plan, what string, call func(context.Context, int) error) *load.Result {
	bar := b.bar(fmt.Sprintf("%s, %s", what, count(p.Callers, "caller")), p)
	defer bar.clear()
	return load.Run(ctx, p, load.Caller{Call: b.within(call), Name: errorName}, bar.show)
}

// within bounds a call by the timeout.
func (c *conn) within(call func(context.Context, int) error) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		return call(ctx, n)
	}
}

// benchStep is what was measured with one number of callers.
type benchStep struct {
	callers      int
	service, raw *load.Result // raw may be nil
}

// ratio is the service's rate by that of raw NATS; 0 if it is not known.
func (s *benchStep) ratio() float64 {
	if s.raw == nil || s.raw.Rate() == 0 {
		return 0
	}
	return s.service.Rate() / s.raw.Rate()
}

// benchTable prints steps as they end.
type benchTable struct {
	b     *bench
	table *table // nil before the first
}

var percentiles = []float64{50, 90, 99, 99.9}

func (t *benchTable) write(s *benchStep) error {
	if s.service.Calls == 0 && s.service.Failures() == 0 { // interrupted before
		return nil
	}
	if t.b.json {
		return writeJSON(t.b.stdout, s.message(t.b))
	}
	if t.table == nil {
		// The columns have room for what comes later.
		t.table = &table{w: t.b.stdout, widths: []int{7, 9, 6, 6, 6, 6, 6, 9}}
		if err := t.table.write([]string{"CALLERS", "CALLS/S", "P50", "P90", "P99", "P99.9", "MAX", "RAW/S", "OF RAW"}); err != nil {
			return err
		}
	}
	row := []string{fmt.Sprint(s.callers), perSecond(s.service)}
	for _, p := range percentiles {
		row = append(row, latency(s.service.Percentile(p)))
	}
	row = append(row, latency(s.service.Max()))
	if s.raw != nil {
		row = append(row, perSecond(s.raw), fmt.Sprintf("%.2f", s.ratio()))
	} else {
		row = append(row, none, none)
	}
	rows := [][]string{row}
	for _, name := range slices.Sorted(maps.Keys(s.service.Failed)) {
		times := humanize.Comma(s.service.Failed[name])
		cure := ""
		if name == protocol.ErrRateLimited.Name {
			cure = ": more --users help"
		}
		rows = append(rows, []string{fmt.Sprintf("         %s times %s%s", times, printable(name), cure)})
	}
	return t.table.write(rows...)
}

func perSecond(r *load.Result) string { return humanize.Comma(int64(r.Rate() + 0.5)) }

// latency writes a duration in three digits or so.
func latency(d time.Duration) string {
	switch {
	case d == 0:
		return none
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0fms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
}

// benchFigures are the figures of a step in JSON. Latencies are in microseconds.
type benchFigures struct {
	Calls   int64            `json:"calls"` // that succeeded
	Seconds float64          `json:"seconds"`
	Rate    float64          `json:"rate"` // calls a second
	P50     int64            `json:"p50Micros"`
	P90     int64            `json:"p90Micros"`
	P99     int64            `json:"p99Micros"`
	P999    int64            `json:"p999Micros"`
	Max     int64            `json:"maxMicros"`
	Failed  map[string]int64 `json:"failed"` // by the names of errors
}

// benchMessage is a step in JSON.
type benchMessage struct {
	Operation string `json:"operation"`
	Users     int    `json:"users"`
	Callers   int    `json:"callers"`
	benchFigures
	Raw   *benchFigures `json:"raw,omitempty"`
	OfRaw float64       `json:"ofRaw,omitempty"` // rate / raw.rate
}

func (s *benchStep) message(b *bench) benchMessage {
	m := benchMessage{Operation: b.operation.name, Users: b.users.n, Callers: s.callers, benchFigures: figuresOf(s.service), OfRaw: s.ratio()}
	if s.raw != nil {
		raw := figuresOf(s.raw)
		m.Raw = &raw
	}
	return m
}

func figuresOf(r *load.Result) benchFigures {
	return benchFigures{
		Calls: r.Calls, Seconds: r.Elapsed.Seconds(), Rate: r.Rate(), Failed: r.Failed,
		P50: r.Percentile(50).Microseconds(), P90: r.Percentile(90).Microseconds(), P99: r.Percentile(99).Microseconds(),
		P999: r.Percentile(99.9).Microseconds(), Max: r.Max().Microseconds(),
	}
}

// bar shows on a terminal how far a measurement is. Elsewhere it shows nothing.
type bar struct {
	w    *lockedWriter // nil for none
	what string
	plan load.Plan
}

func (b *bench) bar(what string, p load.Plan) *bar {
	if l, ok := b.stderr.(*lockedWriter); ok && isTerminal(l.w) {
		return &bar{l, what, p}
	}
	return &bar{}
}

const barWidth = 20 // cells

func (b *bar) show(p load.Progress) {
	if b.w != nil {
		fmt.Fprint(b.w, "\r"+b.line(p)+"\x1b[K")
	}
}

func (b *bar) line(p load.Progress) string {
	part := p.Elapsed.Seconds() / b.plan.For.Seconds()
	if b.plan.Calls > 0 {
		part = max(part, float64(p.Calls)/float64(b.plan.Calls))
	}
	part = min(part, 1)
	full := int(part * barWidth)
	return fmt.Sprintf("%s [%s%s] %3.0f %%  %s/s", layout.Pad(b.what, 24), strings.Repeat("=", full), strings.Repeat(" ", barWidth-full),
		part*100, humanize.Comma(int64(float64(p.Calls)/p.Elapsed.Seconds())))
}

// clear empties the line, for the table.
func (b *bar) clear() {
	if b.w != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
