// Package shell quotes words for a shell.
package shell

import (
	"regexp"
	"strings"
)

// plain needs no quotes.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`)

// Word quotes a text for sh, bash and zsh: it becomes one word in which nothing is
// expanded. A text that needs no quotes gets none.
func Word(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
