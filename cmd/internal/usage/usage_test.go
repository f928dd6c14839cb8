package usage

import (
	"errors"
	"testing"
)

// What the library of the command line and Go say of flags, and what people read.
func TestError(t *testing.T) {
	for said, want := range map[string]string{
		"flag provided but not defined: -frob":                                             "there is no flag --frob",
		`invalid value "x" for flag -limit: strconv.ParseInt: parsing "x": invalid syntax`: `invalid value "x" for --limit: "x" is not such a number`,
		"flag needs an argument: --limit":                                                  "there is no value for --limit",
		`could not parse "x" as int value from environment variable "LIMIT" for flag limit: strconv.ParseInt: parsing "x": value out of range`: `could not parse "x" from environment variable "LIMIT" for --limit: "x" is too large`,
		"all together": "none of it",
	} {
		if got := Error(errors.New(said), "all together", "none of it").Error(); got != want {
			t.Errorf("%s: got %q, want %q", said, got, want)
		}
	}
}
