package main

import (
	"context"
	"fmt"
	"time"
)

// measure is one thing to be measured. Its variants take turns, and are compared with the
// first of them.
type measure struct {
	name, title string
	unit        string // of the rates
	// variants prepares them. What it gives to done is called in the end.
	variants func(ctx context.Context, b *bench, done func(func())) ([]variant, error)
	// alone, instead of variants, measures what does not take turns, on servers of its
	// own.
	alone func(ctx context.Context, b *bench) ([]row, error)
	// shared says that one with alone uses the servers that the variants share.
	shared bool
	// slow ones are left out by -short, long ones by all runs but -full, and named ones by all
	// runs, unless -only names them.
	slow, long, named bool
	// finish, where there is one, adds what follows from the rows.
	finish func(rows []row) []row
}

// runFunc makes calls for that long.
type runFunc func(ctx context.Context, d time.Duration) (sample, error)

// variant is one way to do what is measured.
type variant struct {
	name string
	goal string // in words; empty: none
	run  runFunc
	// each multiplies the rate, for what one call does many of.
	each int
	// server is the process whose processor time is counted.
	server *target
}

// row is a line of the report.
type row struct {
	Name string `json:"name"`
	// Rate, per second, is the median of the rounds; 0: not measured.
	Rate float64 `json:"rate,omitempty"`
	// Ratio is the median of the ratios to the measure's first variant.
	Ratio float64 `json:"ratio,omitempty"`
	// Low and High are where the median ratio lies with 90 % confidence, with -against.
	Low  float64 `json:"ratioLow,omitempty"`
	High float64 `json:"ratioHigh,omitempty"`
	// Of is what Ratio is to; empty: raw.
	Of string `json:"of,omitempty"`
	// P50 and P99 of a call: medians of the rounds'.
	P50 time.Duration `json:"p50Nanoseconds,omitempty"`
	P99 time.Duration `json:"p99Nanoseconds,omitempty"`
	// CPU is the server's processor time for each that Rate counts, over all rounds.
	// Other processes on the machine do not change it much.
	CPU time.Duration `json:"cpuNanoseconds,omitempty"`
	// CPURatio, CPULow and CPUHigh are for CPU what Ratio, Low and High are for Rate.
	CPURatio float64 `json:"cpuRatio,omitempty"`
	CPULow   float64 `json:"cpuRatioLow,omitempty"`
	CPUHigh  float64 `json:"cpuRatioHigh,omitempty"`
	// Text is a figure that is neither a rate nor a latency.
	Text string `json:"text,omitempty"`
	// Value is Text's number, in its base unit: bytes or seconds.
	Value float64 `json:"value,omitempty"`
	Goal  string  `json:"goal,omitempty"`
	// Series and At are where the row stands in a plot: its line, and so many callers or
	// users.
	Series string `json:"series,omitempty"`
	At     int    `json:"at,omitempty"`
	// Rates of the rounds, in order.
	Rounds []float64 `json:"rounds,omitempty"`
}

// result is a measure with its rows.
type result struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Unit  string `json:"unit,omitempty"`
	Rows  []row  `json:"rows"`
}

// measures in the order in which they are made.
var measures = []measure{setMeasure, latencyMeasure, getMeasure, fanoutMeasure, renewMeasure, gatewayMeasure,
	callersMeasure, growthMeasure, memoryMeasure, snapshotMeasure, idleMeasure, largeMeasure, profileMeasure}

func measureNames() []string {
	var names []string
	for _, m := range measures {
		names = append(names, m.name)
	}
	return names
}

// longNames are the measures that only a full run makes.
func longNames() (names []string) {
	for _, m := range measures {
		if m.long {
			names = append(names, m.name)
		}
	}
	return names
}

// chosen are the measures to make.
func (o *options) chosen() []measure {
	var list []measure
	for _, m := range measures {
		if o.only[m.name] || len(o.only) == 0 && !(m.slow && o.short) && (o.full || !m.long) && !m.named {
			list = append(list, m)
		}
	}
	return list
}

func (b *bench) measureAll(ctx context.Context) ([]result, error) {
	var results []result
	for _, m := range b.opts.chosen() {
		b.logf("measuring %s", m.name)
		rows, err := b.measureOne(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("measuring %s: %w", m.name, err)
		}
		results = append(results, result{Name: m.name, Title: m.title, Unit: m.unit, Rows: rows})
	}
	return results, nil
}

func (b *bench) measureOne(ctx context.Context, m measure) ([]row, error) {
	if m.alone != nil {
		return m.alone(ctx, b)
	}
	var undo []func()
	defer func() {
		for _, f := range undo {
			f()
		}
	}()
	variants, err := m.variants(ctx, b, func(f func()) { undo = append(undo, f) })
	if err != nil {
		return nil, err
	}
	samples, err := alternate(ctx, variants, b.opts.rounds, b.opts.time)
	if err != nil {
		return nil, err
	}
	rows := summaries(variants, samples)
	if m.finish != nil {
		rows = m.finish(rows)
	}
	return rows, nil
}

// summaries are the rows of variants that took turns.
func summaries(variants []variant, samples [][]sample) []row {
	rows := make([]row, len(variants))
	for i, v := range variants {
		rows[i] = summary(v, samples[i])
		rows[i].Ratio = medianRatio(rows[i].Rounds, rows[0].Rounds)
	}
	return rows
}

// measured makes calls for that long, and counts the server's processor time meanwhile.
func (v variant) measured(ctx context.Context, d time.Duration) (sample, error) {
	cpu := v.server.cpuTime()
	s, err := v.run(ctx, d)
	if err != nil {
		return s, fmt.Errorf("%s: %w", v.name, err)
	}
	s.cpu = v.server.cpuTime() - cpu
	return s, nil
}

func summary(v variant, samples []sample) row {
	r := row{Name: v.name, Goal: v.goal}
	var p50, p99 []time.Duration
	var cpu time.Duration
	done, each := 0, max(v.each, 1)
	for _, s := range samples {
		r.Rounds = append(r.Rounds, s.rate()*float64(each))
		p50, p99 = append(p50, s.p50), append(p99, s.p99)
		cpu += s.cpu
		done += s.count * each
	}
	if done > 0 {
		r.CPU = cpu / time.Duration(done)
	}
	r.Rate, r.P50, r.P99 = median(r.Rounds), median(p50), median(p99)
	return r
}
