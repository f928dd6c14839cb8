package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/go-analyze/charts"
)

const (
	plotWidth  = 820
	panelEach  = 300 // the height of one panel
	plotStroke = 2
	// legendBelow is how far the legend is from the top of its panel, below the title.
	legendBelow = "24"
)

// panel is one chart of a plot: a figure of each line, by what the measure varies.
type panel struct {
	title, unit string
	// value is the figure of a row; 0: none.
	value func(row) float64
	// log says that the axis is logarithmic.
	log   bool
	lines []line
}

// line is one curve: rows of a series, perhaps under another name.
type line struct{ series, name string }

// plot is a picture of one measure's rows.
type plot struct {
	measure, axis string
	panels        []panel
}

func perSecond(r row) float64 { return r.Rate }
func p50(r row) float64       { return float64(r.P50) / float64(time.Millisecond) }
func p99(r row) float64       { return float64(r.P99) / float64(time.Millisecond) }

var plots = []plot{
	{"callers", "callers at the same time", []panel{
		{"Throughput", "changes/s", perSecond, true, callersLines},
		{"Latency, median", "ms", p50, true, callersLines},
		{"Latency, 99th percentile", "ms", p99, true, callersLines},
	}},
	{"growth", "users, each with a session", []panel{
		{"Throughput", "/s", perSecond, true, growthLines},
		{"Throughput, beside raw in the same rounds", "× raw", func(r row) float64 { return r.Ratio }, false, growthLines},
		{"Latency, median", "ms", p50, true, latencyLines},
		{"Latency, 99th percentile", "ms", p99, true, latencyLines},
	}},
}

var (
	callersLines = []line{{seriesRaw, seriesRaw}, {seriesInterval, seriesInterval}, {seriesAlways, seriesAlways}, {seriesDurable, seriesDurable}}
	growthLines  = []line{{seriesSet, seriesSet}, {seriesOneSet, seriesOneSet}, {seriesGet, seriesGet}, {seriesRenewal, seriesRenewal}, {seriesFanout, seriesFanout}}
	latencyLines = []line{{seriesSet, seriesSet}, {seriesOneSet, seriesOneSet}, {seriesGet, "get of " + strconv.Itoa(usersPerGet)}, {rawOf + seriesSet, rawOf + seriesSet}}
)

// writePlots writes a light and a dark file for each plot whose measure was made.
func (r report) writePlots(dir string) error {
	for _, p := range plots {
		i := slices.IndexFunc(r.Results, func(m result) bool { return m.Name == p.measure })
		if i < 0 {
			continue
		}
		for _, theme := range []string{charts.ThemeLight, charts.ThemeDark} {
			data, err := p.draw(r.Results[i].Rows, theme)
			if err != nil {
				return fmt.Errorf("drawing %s: %w", p.measure, err)
			}
			if err := os.WriteFile(filepath.Join(dir, p.measure+"-"+theme+".svg"), data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// draw returns an SVG of the panels, one below the other.
func (p plot) draw(rows []row, theme string) ([]byte, error) {
	height := panelEach * len(p.panels)
	painter := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: plotWidth, Height: height, Theme: charts.GetTheme(theme)})
	painter.FilledRect(0, 0, plotWidth, height, charts.GetTheme(theme).GetBackgroundColor(), charts.ColorTransparent, 0)
	for i, panel := range p.panels {
		child := painter.Child(charts.PainterBoxOption(charts.NewBox(0, i*panelEach, plotWidth, (i+1)*panelEach)))
		if err := child.LineChart(panel.chart(rows, p.axis, theme)); err != nil {
			return nil, err
		}
	}
	return painter.Bytes()
}

// chart describes the panel. The points of the axis below are equally far from each other,
// so it is logarithmic where each is so many times the one before. The other axis is made
// logarithmic here: the values are powers of ten, and so are its labels.
func (p panel) chart(rows []row, axis, theme string) charts.LineChartOption {
	at := points(rows)
	values := make([][]float64, len(p.lines))
	names := make([]string, len(p.lines))
	low, high := math.Inf(1), math.Inf(-1)
	for i, l := range p.lines {
		names[i], values[i] = l.name, make([]float64, len(at))
		for j, x := range at {
			v := p.at(rows, l.series, x)
			if v == 0 {
				values[i][j] = charts.GetNullValue()
				continue
			}
			if p.log {
				v = math.Log10(v)
			}
			values[i][j], low, high = v, min(low, v), max(high, v)
		}
	}
	o := charts.NewLineChartOptionWithData(values)
	o.Theme = charts.GetTheme(theme)
	o.Title = charts.TitleOption{Text: p.title, FontStyle: charts.NewFontStyleWithSize(13)}
	o.Legend = charts.LegendOption{SeriesNames: names, FontStyle: charts.NewFontStyleWithSize(10),
		Offset: charts.OffsetStr{Left: charts.PositionCenter, Top: legendBelow}}
	o.LineStrokeWidth = plotStroke
	o.XAxis.Title, o.XAxis.Labels, o.XAxis.BoundaryGap = axis, labels(at), charts.Ptr(false)
	y := charts.YAxisOption{Title: p.unit, PreferNiceIntervals: charts.Ptr(true)}
	if p.log && low <= high {
		bottom, top := math.Floor(low), max(math.Ceil(high), math.Floor(low)+1)
		y = charts.YAxisOption{Title: p.unit, Min: &bottom, Max: &top, LabelCount: int(top-bottom) + 1, RangeValuePaddingScale: charts.Ptr(0.0),
			ValueFormatter: func(v float64) string { return powerOfTen(v) }}
	} else if !p.log {
		y.Min = charts.Ptr(0.0)
		y.ValueFormatter = func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	}
	o.YAxis = []charts.YAxisOption{y}
	return o
}

// at is the value of a line at one point; 0: there is none.
func (p panel) at(rows []row, series string, x int) float64 {
	for _, r := range rows {
		if r.Series == series && r.At == x {
			return p.value(r)
		}
	}
	return 0
}

// points are all At of the rows, in order.
func points(rows []row) (list []int) {
	for _, r := range rows {
		if !slices.Contains(list, r.At) {
			list = append(list, r.At)
		}
	}
	slices.Sort(list)
	return list
}

func labels(at []int) (list []string) {
	for _, x := range at {
		list = append(list, count(x))
	}
	return list
}

// powerOfTen writes 10^v: with commas, or as a decimal fraction.
func powerOfTen(v float64) string {
	if v >= 0 {
		return count(int(math.Round(math.Pow(10, v))))
	}
	return strconv.FormatFloat(math.Pow(10, v), 'f', int(math.Ceil(-v)), 64)
}
