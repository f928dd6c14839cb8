package main

import (
	"strings"
	"testing"
	"time"

	"presence/pkg/protocol"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func at(d time.Duration) protocol.Time { return protocol.TimeOf(now.Add(d)) }

func TestTable(t *testing.T) {
	list := []protocol.Status{
		{UserID: "alice", StatusType: protocol.Online, CustomStatus: "in a meeting", CustomStatusExpiresAt: at(time.Hour), Availability: protocol.Busy, Platforms: []string{"linux", "web"}, Revision: 339521537, UpdatedAt: at(-2 * time.Minute)},
		{UserID: "bob@example.com", StatusType: protocol.Offline, LastSeenAt: at(-50 * time.Hour), Revision: 8193, UpdatedAt: at(-50 * time.Hour)},
		{UserID: "carol", StatusType: protocol.Unlogined, CustomStatus: "evil\u202etxt\x1b[2J\t."},
	}
	for _, c := range []struct {
		with columns
		want string
	}{
		{columns{}, `
USER             STATUS       CHANGED  LAST SEEN  EXPIRES  TEXT
alice            ONLINE busy  2m ago   -          in 1h    in a meeting
bob@example.com  OFFLINE      2d ago   2d ago     -        -
carol            UNLOGINED    -        -          -        evil�txt�[2J�.
`},
		{columns{platforms: true, revision: true}, `
USER             STATUS       PLATFORMS  CHANGED  LAST SEEN  EXPIRES  REVISION   TEXT
alice            ONLINE busy  linux,web  2m ago   -          in 1h    339521537  in a meeting
bob@example.com  OFFLINE      -          2d ago   2d ago     -        8193       -
carol            UNLOGINED    -          -        -          -        0          evil�txt�[2J�.
`},
	} {
		var b strings.Builder
		if err := writeTable(&b, list, c.with, now); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + b.String(); got != c.want {
			t.Errorf("writeTable with %+v: got %s\nwant %s", c.with, got, c.want)
		}
	}
}

// A table of nobody has no heading: stdout stays empty.
func TestEmptyTable(t *testing.T) {
	var b strings.Builder
	if err := writeTable(&b, nil, columns{}, now); err != nil || b.String() != "" {
		t.Errorf("writeTable of none: got %q, %v", b.String(), err)
	}
}

// Later rows line up with earlier ones, which are gone already.
func TestTableInParts(t *testing.T) {
	var b strings.Builder
	out := table{w: &b}
	for _, row := range [][]string{{"A", "B", "C"}, {"äöü", "1", "2"}, {"x", "y", "z"}} {
		if err := out.write(row); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "A  B  C\näöü  1  2\nx    y  z\n"; got != want {
		t.Errorf("rows in parts: got %q, want %q", got, want)
	}
}

func TestRelative(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "just now"},
		{time.Second, "just now"}, // clocks differ
		{-42 * time.Second, "42s ago"},
		{59*time.Minute + 59*time.Second, "in 1h"},
		{-59*time.Second - 700*time.Millisecond, "1m ago"},
		{-90 * time.Minute, "1h30m ago"},
		{-24 * time.Hour, "1d ago"},
		{7 * 24 * time.Hour, "in 7d"},
	} {
		if got := relative(at(c.d), now); got != c.want {
			t.Errorf("relative(%v): got %q, want %q", c.d, got, c.want)
		}
	}
	if got := relative(0, now); got != none {
		t.Errorf("relative of no time: got %q, want %q", got, none)
	}
}

func TestParseSpan(t *testing.T) {
	for s, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour} {
		if got, err := parseSpan(s); err != nil || got != want {
			t.Errorf("parseSpan(%q): got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "-1d", "1w", "1.5d", "99999999d"} {
		if got, err := parseSpan(s); err == nil {
			t.Errorf("parseSpan(%q): got %v, want an error", s, got)
		}
	}
}
