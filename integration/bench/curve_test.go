package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCurvePoints(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want []int
	}{
		{"callers, full", callerCounts(true), []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}},
		{"callers, short", callerCounts(false), []int{1, 4, 16, 64, 256, 1024}},
		{"users, full", growthSizes(1_000_000), []int{1000, 10_000, 100_000, 1_000_000}},
		{"users, short", growthSizes(20_000), []int{1000, 10_000}},
		{"few users", growthSizes(500), []int{500}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestGetBodiesOf: every request is for the same number of users, and no user is in two.
func TestGetBodiesOf(t *testing.T) {
	sessions := []session{{user: "a"}, {user: "b"}, {user: "c"}, {user: "d"}, {user: "e"}}
	bodies := getBodiesOf(sessions, 2)
	if got := string(bytes.Join(bodies, nil)); len(bodies) != 2 || !strings.Contains(got, `["a","b"]`) || !strings.Contains(got, `["c","d"]`) {
		t.Errorf("got %s, want a and b, then c and d", got)
	}
}

// TestPanel_Chart: values of a logarithmic axis are powers of ten, between whole ones, and
// a line without a value at a point has a gap there.
func TestPanel_Chart(t *testing.T) {
	rows := []row{{Series: "a", At: 100, Rate: 1000}, {Series: "a", At: 10, Rate: 50}, {Series: "b", At: 100, Rate: 10}}
	p := panel{title: "x", value: perSecond, log: true, lines: []line{{"a", "A"}, {"b", "B"}}}
	o := p.chart(rows, "users", "light")
	if got, want := o.XAxis.Labels, []string{"10", "100"}; !slices.Equal(got, want) {
		t.Errorf("got the labels %q, want %q", got, want)
	}
	y := o.YAxis[0]
	if *y.Min != 1 || *y.Max != 3 || y.LabelCount != 3 || y.ValueFormatter(*y.Max) != "1,000" {
		t.Errorf("the axis goes from %v to %v with %d labels, the last %s; want 1 to 3 with 3, the last 1,000", *y.Min, *y.Max, y.LabelCount, y.ValueFormatter(*y.Max))
	}
	if a := o.SeriesList[0].Values; a[1] != 3 || a[0] < 1.69 || a[0] > 1.70 {
		t.Errorf("the line a: got %v, want log10 of 50 and 1000", a)
	}
	if b := o.SeriesList[1].Values; b[0] == 0 || b[1] != 1 {
		t.Errorf("the line b: got %v, want a gap and log10 of 10", b)
	}
	for v, want := range map[float64]string{-2: "0.01", 0: "1", 6: "1,000,000"} {
		if got := powerOfTen(v); got != want {
			t.Errorf("powerOfTen(%v): got %s, want %s", v, got, want)
		}
	}
}

// TestReport_WritePlots: each measure that was made has a light and a dark SVG, and each
// line is named.
func TestReport_WritePlots(t *testing.T) {
	var rows []row
	for _, at := range callerCounts(true) {
		for i, l := range callersLines {
			rows = append(rows, row{Series: l.series, At: at, Rate: float64(at*1000 + i), P50: time.Millisecond, P99: 20 * time.Millisecond})
		}
	}
	dir := t.TempDir()
	if err := (report{Results: []result{{Name: "callers", Rows: rows}}}).writePlots(dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(files) != 2 {
		t.Fatalf("got the files %q, %v, want two", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for dec := xml.NewDecoder(bytes.NewReader(data)); err == nil; {
			_, err = dec.Token()
		}
		if err != io.EOF {
			t.Errorf("%s is no XML: %v", filepath.Base(file), err)
		}
		for _, text := range []string{seriesRaw, seriesInterval, seriesAlways, seriesDurable, "changes/s", "ms", "callers at the same time", "1,024"} {
			if !bytes.Contains(data, []byte(text)) {
				t.Errorf("%s does not say %q", filepath.Base(file), text)
			}
		}
	}
}
