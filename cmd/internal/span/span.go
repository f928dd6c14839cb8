// Package span reads and writes durations on command lines:
//
//	&span.Flag{Name: "ttl", Config: span.Bounds{Min: time.Second, Max: 366 * span.Day}}
//
// A duration is written as Go writes it, such as 90s or 1h30m, or as a number of days,
// such as 7d. A duration outside its bounds is refused when the command line is read. The
// error says what the bounds are.
package span

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// Day is the d of a duration: 24 hours.
const Day = 24 * time.Hour

// Flag is a flag whose value is a duration. Its Config is required; its Value need not
// be within the bounds, so that 0 can stand for no duration.
type Flag = cli.FlagBase[time.Duration, Bounds, value]

// Bounds say which durations are allowed: from Min to Max, both included, in multiples of
// Unit. A Unit of 0 allows all between.
type Bounds struct{ Min, Max, Unit time.Duration }

// String says which durations are allowed, such as "1s to 366d, in multiples of 1s".
func (b Bounds) String() string {
	text := Format(b.Min) + " to " + Format(b.Max)
	if b.Unit != 0 {
		text += ", in multiples of " + Format(b.Unit)
	}
	return text
}

// Check returns an error for a duration that is not allowed.
func (b Bounds) Check(d time.Duration) error {
	if d < b.Min || d > b.Max || b.Unit != 0 && d%b.Unit != 0 {
		return fmt.Errorf("must be %v", b)
	}
	return nil
}

// Parse reads a duration.
func Parse(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil { // 65,535 days are 179 years
			return time.Duration(n) * Day, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 1h30m or 7d", s)
	}
	return d, nil
}

// Format writes a duration as Parse reads it: in days if they are whole, and without
// units that are zero, such as 7d, 1h or 1h30m.
func Format(d time.Duration) string {
	if d != 0 && d%Day == 0 {
		return strconv.FormatInt(int64(d/Day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// value is the value of a Flag.
type value struct {
	d      *time.Duration
	bounds Bounds
}

// Create makes a value that is kept in p.
func (value) Create(initial time.Duration, p *time.Duration, b Bounds) cli.Value {
	*p = initial
	return &value{p, b}
}

// ToString is for the help. It shows no default of 0.
func (value) ToString(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return Format(d)
}

func (v *value) Set(s string) error {
	d, err := Parse(s)
	if err == nil {
		err = v.bounds.Check(d)
	}
	if err == nil {
		*v.d = d
	}
	return err
}

func (v *value) Get() any { return *v.d }

func (v *value) String() string {
	if v.d == nil { // the flag package asks a zero value
		return ""
	}
	return v.ToString(*v.d)
}
