// Package choice reads words of which there are a few, and guesses which one was meant:
//
//	var colours = choice.Of{"red", "green", "blue"}
//
//	&choice.Flag{Name: "colour", Config: colours}   // --colour gren: must be red, green or blue
//	colours.DidYouMean("gren")                      // `, did you mean "green"?`
package choice

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// longest bounds, in bytes, the texts for which a word is guessed.
const longest = 64

// Of are the words that there are.
type Of []string

// Flag is a flag whose value is one of some words, in any case. Its Config is required; its
// Value need not be among the words, so that it can be empty.
type Flag = cli.FlagBase[string, Of, value]

// String lists the words, such as "red, green or blue".
func (o Of) String() string {
	if len(o) < 2 {
		return strings.Join(o, "")
	}
	last := len(o) - 1
	return strings.Join(o[:last], ", ") + " or " + o[last]
}

// Check returns an error for a text that is none of the words.
func (o Of) Check(s string) error {
	if slices.Contains(o, s) {
		return nil
	}
	return errors.New("must be " + o.String() + o.DidYouMean(s))
}

// DidYouMean asks whether the word that is most like s was meant. If none is like it, the
// question is empty.
func (o Of) DidYouMean(s string) string {
	if word := o.Nearest(s); word != "" {
		return fmt.Sprintf(", did you mean %q?", word)
	}
	return ""
}

// Nearest returns the word that was probably meant: one that begins with s, or that s is with
// up to a third of its letters wrong, in any case. If there is none, or if s is longer than any
// word, it returns an empty text.
func (o Of) Nearest(s string) (word string) {
	if len(s) > longest {
		return ""
	}
	s = strings.ToLower(s)
	for _, w := range o {
		if len(s) >= 3 && strings.HasPrefix(strings.ToLower(w), s) {
			return w
		}
	}
	most := (len(s) + 2) / 3
	for _, w := range o {
		if d := distance(s, strings.ToLower(w)); d <= most && d < len(w) {
			word, most = w, d-1
		}
	}
	return word
}

// distance is how many letters have to be inserted, removed, replaced, or swapped with their
// neighbours to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j] is the distance of a[:i] and b[:j]
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// value is the value of a Flag.
type value struct {
	s  *string
	of Of
}

// Create makes a value that is kept in p.
func (value) Create(initial string, p *string, of Of) cli.Value {
	*p = initial
	return &value{p, of}
}

// ToString is for the help. It shows no default that is empty.
func (value) ToString(s string) string { return s }

func (v *value) Set(s string) error {
	for _, w := range v.of {
		if strings.EqualFold(s, w) {
			*v.s = w
			return nil
		}
	}
	return v.of.Check(s)
}

func (v *value) Get() any { return *v.s }

func (v *value) String() string {
	if v.s == nil { // the flag package asks a zero value
		return ""
	}
	return *v.s
}
