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
		if err := writePage(&b, c.with.table(list, now)); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + b.String(); got != c.want {
			t.Errorf("a table with %+v: got %s\nwant %s", c.with, got, c.want)
		}
	}
}

// A table of nobody has no heading: stdout stays empty.
func TestEmptyTable(t *testing.T) {
	var b strings.Builder
	if err := writePage(&b, columns{}.table(nil, now)); err != nil || b.String() != "" {
		t.Errorf("a table of none: got %q, %v", b.String(), err)
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

// TestTable_Cells: columns line up by what characters take on a terminal, not by their
// number.
func TestTable_Cells(t *testing.T) {
	var b strings.Builder
	out := table{w: &b}
	if err := out.write([]string{"USER", "TEXT"}, []string{"王小明", "x"}, []string{"alice", "y"}, []string{"👩\u200d💻", "z"}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "USER    TEXT\n王小明  x\nalice   y\n👩\u200d💻      z\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	b.Reset()
	for _, user := range []string{"王小明", "alice"} {
		if err := writeLine(&b, protocol.Status{UserID: user, StatusType: protocol.Online}, 8, now); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "-                王小明    ONLINE       -\n-                alice     ONLINE       -\n"; got != want {
		t.Errorf("lines: got\n%swant\n%s", got, want)
	}
}

// TestWriteLine_OtherYears: a time of another year says so.
func TestWriteLine_OtherYears(t *testing.T) {
	local := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 9, 45, 26, 0, time.Local)
	}
	today := local(2026, 12, 20)
	for _, c := range []struct {
		changed, until time.Time
		want           string
	}{
		{today, local(2026, 12, 31), "Dec 20 09:45:26  alice  ONLINE       away (until Dec 31 09:45:26)\n"},
		{today, local(2027, 12, 21), "Dec 20 09:45:26  alice  ONLINE       away (until Dec 21 2027 09:45:26)\n"},
		{local(2025, 12, 31), local(2026, 12, 25), "Dec 31  2025     alice  ONLINE       away (until Dec 25 2026 09:45:26)\n"},
	} {
		var b strings.Builder
		s := protocol.Status{UserID: "alice", StatusType: protocol.Online, CustomStatus: "away",
			UpdatedAt: protocol.TimeOf(c.changed), CustomStatusExpiresAt: protocol.TimeOf(c.until)}
		if err := writeLine(&b, s, 5, today); err != nil || b.String() != c.want {
			t.Errorf("got %q, %v, want %q", b.String(), err, c.want)
		}
	}
}
