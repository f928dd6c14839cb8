package span

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/urfave/cli/v3"
)

func TestParseAndFormat(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * Day, "500ms": 500 * time.Millisecond, "0s": 0, "1m": time.Minute, "1h": time.Hour, "10h0m1s": 10*time.Hour + time.Second,
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("Parse(%q): got %v, %v, want %v", s, got, err, want)
		}
		if again, err := Parse(Format(want)); err != nil || again != want {
			t.Errorf("Parse(Format(%v)): got %v, %v", want, again, err)
		}
	}
	for _, s := range []string{"", "d", "-1d", "1w", "1.5d", "99999999d", "1", "soon"} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q): got %v, want an error", s, got)
		}
	}
	for d, want := range map[time.Duration]string{366 * Day: "366d", time.Hour: "1h", 90 * time.Minute: "1h30m", 20 * time.Minute: "20m", 30 * time.Second: "30s", 5 * time.Millisecond: "5ms"} {
		if got := Format(d); got != want {
			t.Errorf("Format(%v): got %q, want %q", d, got, want)
		}
	}
}

// TestFlag_Bounds: whatever is out of bounds is refused, and the flag is as it was.
func TestFlag_Bounds(t *testing.T) {
	bounds := Bounds{Min: time.Second, Max: 366 * Day, Unit: time.Second}
	for s, want := range map[string]time.Duration{
		"1s": time.Second, "366d": 366 * Day, "90m": 90 * time.Minute,
		"999ms": 0, "500ms": 0, "0s": 0, "-1h": 0, "1500ms": 0, "367d": 0, "8784h1s": 0, "x": 0,
	} {
		var got time.Duration
		cmd := &cli.Command{
			Writer: io.Discard, ErrWriter: io.Discard,
			Flags:          []cli.Flag{&Flag{Name: "expires", Config: bounds, Destination: &got}},
			Action:         func(context.Context, *cli.Command) error { return nil },
			ExitErrHandler: func(context.Context, *cli.Command, error) {},
		}
		if err := cmd.Run(t.Context(), []string{"test", "--expires=" + s}); (err == nil) != (want != 0) || got != want {
			t.Errorf("--expires=%s: got %v, %v, want %v", s, got, err, want)
		}
	}
}
