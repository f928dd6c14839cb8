package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// report is all that a run prints.
type report struct {
	Machine string        `json:"machine"`
	Rounds  int           `json:"rounds"`
	Time    time.Duration `json:"nanosecondsEach"`
	Callers int           `json:"callers"`
	Against string        `json:"against,omitempty"`
	Took    time.Duration `json:"tookNanoseconds"`
	Results []result      `json:"results"`
}

func newReport(o options, took time.Duration, results []result) report {
	return report{
		Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Rounds:  o.rounds, Time: o.time, Callers: o.callers, Against: o.against, Took: took, Results: results,
	}
}

func (r report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r report) writeTable(w io.Writer) error {
	fmt.Fprintf(w, "%s; medians of %d rounds of %v, load included; %v in all\ncpu: the server's processor time for each\n", r.Machine, r.Rounds, r.Time, r.Took.Round(time.Second))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if r.Against != "" {
		fmt.Fprintf(w, "ratios: the median of those within each round, and in brackets where it lies with %d %% confidence\n", confidence)
		if r.Rounds < againstRounds {
			fmt.Fprintf(w, "%d rounds are few: an interval of less than %d is too narrow\n", r.Rounds, againstRounds)
		}
	}
	for _, m := range r.Results {
		fmt.Fprintf(tw, "\n%s: %s\n", m.Name, m.Title)
		for _, l := range m.Rows {
			fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.figure(m.Unit), l.ratio(), l.latency(), l.cpu(), l.goal())
		}
	}
	return tw.Flush()
}

func (l row) figure(unit string) string {
	if l.Text != "" || l.Rate == 0 && l.P50 > 0 {
		return l.Text
	}
	if unit == "" {
		unit = "/s"
	}
	return count(int(l.Rate)) + unit
}

func (l row) ratio() string {
	if l.Ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f × %s", l.Ratio, cmp.Or(l.Of, "raw")) + within(l.Low, l.High)
}

func (l row) latency() string {
	if l.P50 == 0 {
		return ""
	}
	return fmt.Sprintf("p50 %s, p99 %s", micros(l.P50), micros(l.P99))
}

func (l row) cpu() string {
	if l.CPU == 0 {
		return ""
	}
	text := fmt.Sprintf("cpu %.3g µs", float64(l.CPU)/1e3)
	if l.CPURatio > 0 {
		text += fmt.Sprintf(", %.2f ×", l.CPURatio) + within(l.CPULow, l.CPUHigh)
	}
	return text
}

// within writes an interval, where there is one.
func within(low, high float64) string {
	if high == 0 {
		return ""
	}
	return fmt.Sprintf(" [%.2f to %.2f]", low, high)
}

func (l row) goal() string {
	if l.Goal == "" {
		return ""
	}
	return "goal " + l.Goal
}

func micros(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) + " ms"
	}
	return count(int(d/time.Microsecond)) + " µs"
}

// count writes a number with commas between its thousands.
func count(n int) string { return humanize.Comma(int64(n)) }
