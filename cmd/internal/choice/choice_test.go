package choice

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

func TestNearest(t *testing.T) {
	commands := Of{"login", "logout", "set", "clear", "get", "watch", "list", "stats", "nats-config", "nats-user"}
	for s, want := range map[string]string{
		"logni": "login", "lgout": "logout", "LOGIN": "login", "gte": "get", "status": "stats", "nats": "nats-config", "nats-cofnig": "nats-config",
		"wat": "watch", "nats-": "nats-config", "foo": "", "delete": "", "": "", "x": "", "help-me-please": "", strings.Repeat("x", 1000): "",
	} {
		if got := commands.Nearest(s); got != want {
			t.Errorf("Nearest(%.20q): got %q, want %q", s, got, want)
		}
	}
}

func TestFlag(t *testing.T) {
	for given, want := range map[string]string{
		"green": "green", "GREEN": "green",
		"gren": `must be red, green or blue, did you mean "green"?`,
		"":     "must be red, green or blue",
		"x":    "must be red, green or blue",
	} {
		got := ""
		cmd := &cli.Command{Flags: []cli.Flag{&Flag{Name: "colour", Config: Of{"red", "green", "blue"}}}, Writer: io.Discard, ErrWriter: io.Discard,
			Action: func(_ context.Context, cmd *cli.Command) error { got = cmd.String("colour"); return nil }}
		if err := cmd.Run(context.Background(), []string{"x", "--colour", given}); err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, want) || got == "" {
			t.Errorf("--colour %q: got %q, want %q", given, got, want)
		}
	}
}
