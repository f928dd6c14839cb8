package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"presence/pkg/protocol"
)

// none stands for an empty cell: cells are easier to tell apart, and to cut
// with other tools.
const none = "-"

// table writes rows whose columns line up, with those of earlier calls too
// where these were as wide. The last cell may be wide, and is not padded.
type table struct {
	w      io.Writer
	widths []int // in runes
}

func (t *table) write(rows ...[]string) error {
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line, last := "", len(row)-1
		for i, cell := range row[:last] {
			line += fmt.Sprintf("%-*s  ", t.widths[i], cell)
		}
		b.WriteString(strings.TrimRight(line+row[last], " ") + "\n")
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// writePage writes tables with an empty line between them, but for those without
// rows. A row of one cell is a line of its own.
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

// headed puts a heading above rows, where there are any.
func headed(rows [][]string, heading ...string) [][]string {
	if len(rows) == 0 {
		return nil
	}
	return append([][]string{heading}, rows...)
}

// columns says which columns a table of statuses has besides the usual ones.
type columns struct{ platforms, revision bool }

// writeTable writes statuses as a table for people, nothing for none of them.
func writeTable(w io.Writer, list []protocol.Status, with columns, now time.Time) error {
	return writePage(w, headed(with.rows(list, now), with.heading()...))
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

// shown is what a status says of how to reach the user, such as "ONLINE busy".
func shown(s protocol.Status) string {
	if s.Availability == "" {
		return s.StatusType.String()
	}
	return s.StatusType.String() + " " + printable(string(s.Availability))
}

// writeLine writes one status of a stream, its time first; users are padded to
// width.
func writeLine(w io.Writer, s protocol.Status, width int) error {
	when := none
	if s.UpdatedAt != 0 {
		when = s.UpdatedAt.Time().Local().Format("Jan _2 15:04:05")
	}
	text := printable(s.CustomStatus)
	if s.CustomStatusExpiresAt != 0 {
		text += s.CustomStatusExpiresAt.Time().Local().Format(" (until Jan _2 15:04:05)")
	}
	_, err := fmt.Fprintf(w, "%-15s  %-*s  %-11s  %s\n", when, width, printable(s.UserID), shown(s), orNone(text))
	return err
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
		return "in " + span(-d)
	case d < 2*time.Second: // clocks differ a little
		return "just now"
	default:
		return span(d) + " ago"
	}
}

// span rounds to what people say.
func span(d time.Duration) string {
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

// printable replaces what could move the cursor, break the table or reorder
// the line. The service refuses control characters; others it lets pass.
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
