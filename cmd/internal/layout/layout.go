// Package layout makes texts of both commands fit a terminal:
//
//	layout.Pad("王小明", 10)                   // 6 cells wide, and 4 spaces
//	layout.Wrap("a long sentence …", "  ", "    ") // lines of at most 80 cells
//	layout.WrapHelp()                          // so is every --help
//
// A cell is what one letter takes on a terminal. Chinese, Japanese and Korean characters
// and most emoji take two, marks that are drawn above a letter take none.
package layout

import (
	"bytes"
	"io"
	"strings"

	"github.com/rivo/uniseg"
	"github.com/urfave/cli/v3"
)

// Columns is how many cells a line may have. It is the same for every terminal and
// for pipes, so that the output does not depend on where it goes.
const Columns = 80

// Width returns how many cells a text takes.
func Width(s string) int { return uniseg.StringWidth(s) }

// Pad appends spaces until the text takes that many cells. A wider one stays as it is.
func Pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-Width(s)))
}

// Wrap breaks a text into lines between words, and joins them. The first line begins
// with one indentation, all others with another. A word wider than a line has a line of
// its own, so that it can be copied.
func Wrap(text, first, others string) string {
	line, empty := first, true
	var lines []string
	for _, word := range strings.Fields(text) {
		if !empty && Width(line)+1+Width(word) > Columns {
			lines = append(lines, line)
			line, empty = others, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	return strings.Join(append(lines, line), "\n")
}

// WrapHelp makes the command line library wrap its help. Call it before a command runs.
func WrapHelp() { cli.HelpPrinter = printHelp }

func printHelp(w io.Writer, template string, data any) {
	var b bytes.Buffer
	cli.DefaultPrintHelp(&b, template, data)
	for line := range strings.Lines(b.String()) {
		_, _ = io.WriteString(w, wrapHelpLine(strings.TrimRight(line, " \n"))+"\n") // an error cannot be reported
	}
}

// wrapHelpLine breaks a line that is too wide. A text in a second column continues in
// that column, other texts continue below their beginning.
func wrapHelpLine(line string) string {
	if Width(line) <= Columns {
		return line
	}
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	column := indent
	if at := strings.LastIndex(text[:min(len(text), Columns/2)], "  "); at >= 0 {
		column = indent + at + len("  ")
	}
	return Wrap(line[column:], line[:column], strings.Repeat(" ", column))
}
