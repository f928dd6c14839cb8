// Package usage tells errors about a command line in the words that everybody uses.
package usage

import (
	"errors"
	"strings"
)

// Error has the library of the command line write flags as everybody else does, and
// name no function of Go. More replacements, in pairs, are the command's own.
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
