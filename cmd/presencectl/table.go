package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"presence/cmd/internal/layout"
	"presence/pkg/protocol"
)

// none stands for an empty cell, so that people and other tools can tell cells apart.
const none = "-"

// table writes rows whose columns line up. A column keeps its width from one call to the
// next, unless a wider cell comes. The last cell may be wide, and is not padded.
type table struct {
	w      io.Writer
	widths []int // in cells
}

func (t *table) write(rows ...[]string) error {
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[i] = max(t.widths[i], layout.Width(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line, last := "", len(row)-1
		for i, cell := range row[:last] {
			line += layout.Pad(cell, t.widths[i]) + "  "
		}
		b.WriteString(strings.TrimRight(line+row[last], " ") + "\n")
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// writePage writes the tables that have rows, with an empty line between them. A row of
// one cell is a line of its own.
func writePage(w io.Writer, tables ...[][]string) error {
	begun := false
	for _, rows := range tables {
		if len(rows) == 0 {
			continue
		}
		if begun {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		begun = true
		if err := (&table{w: w}).write(rows...); err != nil {
			return err
		}
	}
	return nil
}

// facts are lines of a name and a text. The text is wrapped below its beginning.
func facts(rows [][]string) (lines [][]string) {
	width := 0
	for _, row := range rows {
		width = max(width, layout.Width(row[0])+2)
	}
	for _, row := range rows {
		lines = append(lines, wrapped(row[1], layout.Pad(row[0], width), strings.Repeat(" ", width)))
	}
	return lines
}

// wrapped is a row of one cell, in several lines if it is wide.
func wrapped(text, first, others string) []string { return []string{layout.Wrap(text, first, others)} }

// headed puts a heading above rows, if there are any.
func headed(rows [][]string, heading ...string) [][]string {
	if len(rows) == 0 {
		return nil
	}
	return append([][]string{heading}, rows...)
}

// columns says which columns a table of statuses has beside the usual ones.
type columns struct{ platforms, revision bool }

// table is the table of statuses; without statuses it is empty.
func (c columns) table(list []protocol.Status, now time.Time) [][]string {
	return headed(c.rows(list, now), c.heading()...)
}

func (c columns) heading() []string {
	return c.row("USER", "STATUS", "PLATFORMS", "CHANGED", "LAST SEEN", "EXPIRES", "REVISION", "TEXT")
}

func (c columns) rows(list []protocol.Status, now time.Time) (rows [][]string) {
	for _, s := range list {
		rows = append(rows, c.row(
			printable(s.UserID), shown(s), orNone(strings.Join(s.Platforms, ",")),
			relative(s.UpdatedAt, now), relative(s.LastSeenAt, now), relative(s.CustomStatusExpiresAt, now),
			strconv.FormatUint(s.Revision, 10), orNone(printable(s.CustomStatus)),
		))
	}
	return rows
}

// row puts the text last: it may be wide, and may contain anything.
func (c columns) row(user, status, platforms, changed, seen, expires, revision, text string) []string {
	cells := []string{user, status}
	if c.platforms {
		cells = append(cells, platforms)
	}
	cells = append(cells, changed, seen, expires)
	if c.revision {
		cells = append(cells, revision)
	}
	return append(cells, text)
}

// shown is a status with its availability, such as "ONLINE busy".
func shown(s protocol.Status) string {
	if s.Availability == "" {
		return s.StatusType.String()
	}
	return s.StatusType.String() + " " + printable(string(s.Availability))
}

// writeLine writes one status of a stream, its time first; users are padded to width. A
// time of another year has the year instead of the time of day, as with ls.
func writeLine(w io.Writer, s protocol.Status, width int, now time.Time) error {
	when, changed := none, now
	if s.UpdatedAt != 0 {
		changed = s.UpdatedAt.Time().Local()
		when = changed.Format("Jan _2 15:04:05")
		if changed.Year() != now.Local().Year() {
			when = changed.Format("Jan _2  2006")
		}
	}
	text := printable(s.CustomStatus)
	if s.CustomStatusExpiresAt != 0 {
		text += " (until " + clock(s.CustomStatusExpiresAt.Time(), changed) + ")"
	}
	_, err := fmt.Fprintf(w, "%-15s  %s  %-11s  %s\n", when, layout.Pad(printable(s.UserID), width), shown(s), orNone(text))
	return err
}

// clock writes a time in the local zone, with the year unless beside is of the same year.
func clock(t, beside time.Time) string {
	t, beside = t.Local(), beside.Local()
	if t.Year() != beside.Year() {
		return t.Format("Jan _2 2006 15:04:05")
	}
	return t.Format("Jan _2 15:04:05")
}

// nowOf is the time of an answer, by the service's clock. Other times in the answer are
// told relative to it, because the clock of this machine may be wrong.
func nowOf(asOf protocol.Time) time.Time {
	if asOf == 0 {
		return time.Now()
	}
	return asOf.Time()
}

// writeJSON writes v as one line of JSON, as it is on the wire.
func writeJSON(w io.Writer, v any) error {
	b, err := protocol.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// relative says how far a time is from now.
func relative(t protocol.Time, now time.Time) string {
	if t == 0 {
		return none
	}
	switch d := now.Sub(t.Time()); {
	case d < -time.Second:
		return "in " + rounded(-d)
	case d < 2*time.Second: // clocks differ a little
		return "just now"
	default:
		return rounded(d) + " ago"
	}
}

// rounded writes a duration as people say it.
func rounded(d time.Duration) string {
	switch s, m := d.Round(time.Second), d.Round(time.Minute); {
	case s < time.Minute:
		return fmt.Sprintf("%ds", s/time.Second)
	case m < time.Hour:
		return fmt.Sprintf("%dm", m/time.Minute)
	case m < 24*time.Hour && m%time.Hour != 0:
		return fmt.Sprintf("%dh%dm", m/time.Hour, m%time.Hour/time.Minute)
	case m < 24*time.Hour:
		return fmt.Sprintf("%dh", m/time.Hour)
	default:
		return fmt.Sprintf("%dd", d.Round(24*time.Hour)/(24*time.Hour))
	}
}

// printable replaces characters that could move the cursor, break the table or reorder
// the line. The service refuses only control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\u200d' { // the joiner in emoji
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func orNone(s string) string {
	if strings.TrimSpace(s) == "" {
		return none
	}
	return s
}
