// Command bench measures presenced beside what it is built on: a responder that answers
// the same requests and stores nothing ("raw"), and JetStream publishes of the same body.
// Compare the ratios, because machines differ. Goals are ratios where possible.
//
//	go run ./integration/bench              all but the curves, about 4 min
//	go run ./integration/bench -short       a look at most of it, about 1 min
//	go run ./integration/bench -full        longer rounds, 1,000,000 users, and curves
//	go run ./integration/bench -full -only callers,growth -plot docs
//	go run ./integration/bench -only set,get -time 3s -rounds 9
//	go run ./integration/bench -against v1.2  this tree's daemon beside that commit's
//
// Servers run as processes of their own, on loopback and in a temporary
// directory: presenced and a plain NATS server with the raw responder, each with
// -sync interval and -sync always. This process makes the load. Variants take turns, round
// by round, because a machine has better and worse seconds. A figure is the median of the
// rounds, and a ratio the median of the ratios within each round.
//
// For set there are six processes more: a cluster of three such plain servers, and a
// presenced beside each, with three copies of the journal.
//
// callers and growth are curves: each figure by so many callers, and with so many users.
// -full makes them, or -only; -plot draws them.
//
// Measures that compare nothing have servers of their own, and come one after the other:
// memory, restarts, snapshots and idling. One more, large, comes only by its name: with
// -users 10000000 it needs 8 GB of memory and about 15 min. So does profile: it says what share of
// presenced's processor time each part takes, and needs Linux and perf. What faults and overload
// cost, the tests of integration and integration/processes log.
//
// presenced has its default limits, but none for the ops of a gateway. There are so many
// users that none is over its rate.
//
// With -against, the daemon of this tree and the one of another commit get the same load
// in turns: set, get, renew and fanout. It prints how many times as fast this one is, with
// a 90 % interval, over 15 rounds and 5 starts of both. That takes about 4 min. Against
// HEAD itself it shows what the machine can tell apart.
//
// All processes share the machine's cores with the load. To miss a goal is no error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == referenceCommand {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", referenceCommand, runReference(os.Args[2:], os.Stdout))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errUsage says that the command line was wrong; how, was printed already.
var errUsage = errors.New("wrong usage")

// options are the command line.
type options struct {
	only      map[string]bool // names of measures; empty: all
	short     bool            // without the slow ones
	full      bool            // with the long ones
	plot      string          // a directory for the plots; empty: none
	rounds    int             // counted, after one to warm up
	time      time.Duration   // of one variant in one round
	callers   int
	users     int // of the memory and snapshot measures
	presenced string
	dir       string
	json      bool
	against   string // commit; empty: raw NATS
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.short, "short", false, "a short run: less time, fewer rounds and users; what takes longer is left out")
	fs.BoolVar(&o.full, "full", false, "a long run: more time, rounds and users, and "+strings.Join(longNames(), " and "))
	fs.StringVar(&o.plot, "plot", "", "write plots of callers and growth to this `directory`, as SVG, light and dark")
	only := fs.String("only", "", "comma-separated measures: "+strings.Join(measureNames(), ",")+"; with -against "+strings.Join(questionNames(), ","))
	fs.StringVar(&o.against, "against", "", "compare set, get, renew and fanout of this tree's presenced with the presenced of this `commit`, which is built in a temporary work tree")
	fs.IntVar(&o.rounds, "rounds", 5, fmt.Sprintf("rounds that count, with -against %d; one more warms up", againstRounds))
	fs.DurationVar(&o.time, "time", time.Second, "time for each variant in each round")
	fs.IntVar(&o.callers, "callers", 128, "concurrent callers")
	fs.IntVar(&o.users, "users", 100_000, "users of the memory, snapshot and large measures")
	fs.StringVar(&o.presenced, "presenced", "", "measure this program instead of building ./cmd/presenced")
	fs.StringVar(&o.dir, "dir", "", "where the temporary directory is made; decides which disk is measured")
	fs.BoolVar(&o.json, "json", false, "print the results as JSON")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case o.short && o.full:
		fmt.Fprintln(stderr, "bench: -short and -full exclude each other")
		return o, errUsage
	case o.short:
		o.scale(given, 3, 150*time.Millisecond, 20_000)
	case o.full:
		o.scale(given, 9, 3*time.Second, 1_000_000)
	}
	if o.against != "" && !given["rounds"] {
		o.rounds = againstRounds
	}
	if err := o.check(*only, fs.NArg()); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return o, errUsage
	}
	return o, nil
}

// scale sets the size of a run as far as it was not given explicitly.
func (o *options) scale(given map[string]bool, rounds int, d time.Duration, users int) {
	if !given["rounds"] {
		o.rounds = rounds
	}
	if !given["time"] {
		o.time = d
	}
	if !given["users"] {
		o.users = users
	}
}

func (o *options) check(only string, arguments int) error {
	o.only = map[string]bool{}
	known := measureNames()
	if o.against != "" {
		known = questionNames()
	}
	for name := range strings.SplitSeq(only, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no measure %q; there are %s", name, strings.Join(known, ", "))
		}
		o.only[name] = true
	}
	switch {
	case arguments > 0:
		return errors.New("it takes no arguments but flags")
	case o.rounds < 1 || o.rounds > 1000 || o.time < time.Millisecond || o.time > time.Minute:
		return errors.New("-rounds must be 1 to 1000 and -time 1ms to 1m")
	case o.callers < 1 || o.callers > maxCallers || o.users < 1 || o.users > 10_000_000:
		return fmt.Errorf("-callers must be 1 to %d and -users 1 to 10000000", maxCallers)
	}
	return nil
}

// run measures and prints.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	opts, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if opts.plot != "" {
		if err := os.MkdirAll(opts.plot, 0o755); err != nil { // now, and not after the whole run
			return err
		}
	}
	b, err := newBench(ctx, opts, stderr)
	if err != nil {
		return err
	}
	defer b.end()
	defer recovered(&err)
	begun := time.Now()
	measure := b.measureAll
	if opts.against != "" {
		measure = b.compareAll
	}
	results, err := measure(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	r := newReport(opts, time.Since(begun), results)
	write := r.writeTable
	if opts.json {
		write = r.writeJSON
	}
	if err := write(stdout); err != nil || opts.plot == "" {
		return err
	}
	return r.writePlots(opts.plot)
}
