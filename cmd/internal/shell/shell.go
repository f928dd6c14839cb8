// Package shell writes what a reader copies into a shell, or what a shell reads.
package shell

import (
	"regexp"
	"strings"
)

// plain needs no quotes.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`)

// Word makes one word of a text for sh, bash and zsh, in which nothing is expanded. It
// has quotes only where it needs them.
func Word(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
