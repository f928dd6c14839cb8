// Package usage puts errors about a command line into plain words.
package usage

import (
	"errors"
	"strings"
)

// Error rewrites an error of the command line library: flags have two dashes, and nothing
// of Go is named. more are further replacements, in pairs.
func Error(err error, more ...string) error {
	return errors.New(strings.NewReplacer(append(more,
		"flag provided but not defined: -", "there is no flag --",
		" for flag -", " for --",
		" for flag ", " for --", // where it comes from the environment
		"flag needs an argument: ", "there is no value for ",
		"strconv.ParseInt: parsing ", "",
		"strconv.ParseUint: parsing ", "",
		": invalid syntax", " is not such a number",
		": value out of range", " is too large",
		": parse error", ": it is neither true nor false",
		" as time.Duration value", "", " as int value", "", " as uint64 value", "", " as bool value", "",
	)...).Replace(err.Error()))
}
