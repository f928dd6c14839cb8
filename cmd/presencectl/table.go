package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"presence/pkg/protocol"
)

// none stands for an empty cell: cells are easier to tell apart, and to cut
// with other tools.
const none = "-"

// columns says which columns a table has besides the usual ones.
type columns struct{ platforms, revision bool }

// writeTable writes statuses as a table for people. The text comes last: it
// may be wide, and may contain anything.
func writeTable(w io.Writer, list []protocol.Status, with columns, now time.Time) {
	if len(list) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(user, status, platforms, changed, seen, expires, revision, text string) {
		cells := []string{user, status}
		if with.platforms {
			cells = append(cells, platforms)
		}
		cells = append(cells, changed, seen, expires)
		if with.revision {
			cells = append(cells, revision)
		}
		fmt.Fprintln(t, strings.Join(append(cells, text), "\t"))
	}
	row("USER", "STATUS", "PLATFORMS", "CHANGED", "LAST SEEN", "EXPIRES", "REVISION", "TEXT")
	for _, s := range list {
		row(
			printable(s.UserID), s.StatusType.String(), orNone(strings.Join(s.Platforms, ",")),
			relative(s.UpdatedAt, now), relative(s.LastSeenAt, now), relative(s.CustomStatusExpiresAt, now),
			strconv.FormatUint(s.Revision, 10), orNone(printable(s.CustomStatus)),
		)
	}
	t.Flush()
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
	_, err := fmt.Fprintf(w, "%-15s  %-*s  %-9s  %s\n", when, width, printable(s.UserID), s.StatusType, orNone(text))
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
