package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args   string // separated by |
		stderr string
	}{
		{"foo", `unknown command "foo" (see presencectl --help)`},
		{"logni", `unknown command "logni", did you mean "login"? (see presencectl --help)`},
		{"lgoin|--device|x", `unknown command "lgoin", did you mean "login"? (see presencectl --help)`}, // --device is not the mistake
		{"get|alice|--jsno", `there is no flag --jsno, did you mean "--json"? (see presencectl get --help)`},
		{"login|alice|--pltform=x", `there is no flag --pltform, did you mean "--platform"? (see presencectl login --help)`},
		{"logout|alice|--sesion=x", `there is no flag --sesion, did you mean "--session"? (see presencectl logout --help)`},
		{"list|--status|onlin", `invalid value "onlin" for --status: must be online, offline or unlogined, did you mean "online"? (see presencectl list --help)`},
		{"nats-user|usr|bob", `the role "usr" must be user, gateway, reader or operator, did you mean "user"? (see presencectl nats-user --help)`},
		{"completion|bsh", "name a shell: bash, zsh or fish (see presencectl completion --help)"},
		{"--foo", "there is no flag --foo (see presencectl --help)"},
		{"get", "name at least one USER (see presencectl get --help)"},
		{"watch", "name at least one USER (see presencectl watch --help)"},
		{"login", "name one USER, not 0 (see presencectl login --help)"},
		{"logout|alice|bob", "name one USER, not 2 (see presencectl logout --help)"},
		{"clear", "name one USER, not 0 (see presencectl clear --help)"},
		{"set|alice", "name a USER and a TEXT (see presencectl set --help)"},
		{"set|alice|in|a|meeting", `put the TEXT into quotes: "in a meeting" (see presencectl set --help)`},
		{"set|alice|-2 °C|--expires|1h", "put flags first and -- before a TEXT that begins with - (see presencectl set --help)"},
		{"set|alice|x|--expires|1w", `invalid value "1w" for --expires: "1w" is not a duration such as 90s, 1h30m or 7d (see presencectl set --help)`},
		{"set|alice|x|--expires|0s", `invalid value "0s" for --expires: must be 1s to 366d, in multiples of 1s (see presencectl set --help)`},
		{"set|alice|x|--expires|367d", `invalid value "367d" for --expires: must be 1s to 366d, in multiples of 1s (see presencectl set --help)`},
		{"set|alice|x|--expires|500ms", `invalid value "500ms" for --expires: must be 1s to 366d, in multiples of 1s (see presencectl set --help)`},
		{"availability|alice|busy|--expires|500ms", `invalid value "500ms" for --expires: must be 1s to 366d, in multiples of 1s (see presencectl availability --help)`},
		{"login|alice|--ttl|5500ms", `invalid value "5500ms" for --ttl: must be 5s to 1h, in multiples of 1s (see presencectl login --help)`},
		{"nats-user|--auth|jwt|--expires|500ms|user|alice", `invalid value "500ms" for --expires: must be 1s to 36500d, in multiples of 1s (see presencectl nats-user --help)`},
		{"nats-user|--expires|1h|user|alice", "--expires goes with --auth jwt"},
		{"get|alice|--timeout|500us", `invalid value "500us" for --timeout: must be 1ms to 1d (see presencectl get --help)`},
		{"set|alice|x|--if-revision|-1", `invalid value "-1" for --if-revision: "-1" is not such a number (see presencectl set --help)`},
		{"login|alice|--ttl|x", `invalid value "x" for --ttl: "x" is not a duration such as 90s, 1h30m or 7d (see presencectl login --help)`},
		{"login|alice|--ttl|2h", `invalid value "2h" for --ttl: must be 5s to 1h, in multiples of 1s (see presencectl login --help)`},
		{"get|alice|--fresh=maybe", `invalid value "maybe" for --fresh: it is neither true nor false (see presencectl get --help)`},
		{"logout|alice|--all|--session|x", "--all and --session contradict each other (see presencectl logout --help)"},
		{"completion|tcsh", "name a shell: bash, zsh or fish (see presencectl completion --help)"},
		{"availability", "name a USER and, to set it, an availability (see presencectl availability --help)"},
		{"availability|alice|away|busy", "name a USER and, to set it, an availability (see presencectl availability --help)"},
		{"availability|alice|gone", `the availability "gone" must be available, away, busy, dnd or invisible (see presencectl availability --help)`},
		{"availability|alice|--expires|1h", "there is nothing to set: name an availability after the USER (see presencectl availability --help)"},
		{"availability|alice|busy|--expires|never", `invalid value "never" for --expires: "never" is not a duration such as 90s, 1h30m or 7d (see presencectl availability --help)`},
		{"contacts", "name a command: list, add, remove or replace (see presencectl contacts --help)"},
		{"contacts|alice", `unknown command "alice" before the USER: it must be list, add, remove or replace (see presencectl contacts --help)`},
		{"contacts|list", "name one USER, not 0 (see presencectl contacts list --help)"},
		{"contacts|add|alice", "name a USER and at least one CONTACT (see presencectl contacts add --help)"},
		{"contacts|replace", "name a USER (see presencectl contacts replace --help)"},
		{"await", "name at least one USER (see presencectl await --help)"},
		{"await|alice|--status|busy", `invalid value "busy" for --status: must be online, offline or unlogined (see presencectl await --help)`},
		{"await|alice|--timeout|0s", `invalid value "0s" for --timeout: must be 1ms to 366d (see presencectl await --help)`},
		{"list|alice", `unexpected argument "alice" (see presencectl list --help)`},
		{"list|--limit|0", `invalid value "0" for --limit: must be 1 or more (see presencectl list --help)`},
		{"list|--limit|99999999999999999999", `invalid value "99999999999999999999" for --limit: "99999999999999999999" is too large (see presencectl list --help)`},
		{"stats|x", `unexpected argument "x" (see presencectl stats --help)`},
		{"explain|alice|bob", "name one USER, not 2 (see presencectl explain --help)"},
		{"kick", "name one USER, not 0 (see presencectl kick --help)"},
		{"erase|--yes", "name one USER, not 0 (see presencectl erase --help)"},
		{"get|alice|--server", "there is no value for --server (see presencectl get --help)"},
		{"get|alice|--timeout|0s", `invalid value "0s" for --timeout: must be 1ms to 1d (see presencectl get --help)`},
		{"get|alice|--tlscert|x", "--tlscert and --tlskey go together"},
		{"get|alice|--prefix|a b", `the subject prefix "a b" must be …`},
	} {
		got := ctl(t, strings.Split(c.args, "|")...).want(t, exitUsage, "presencectl: "+c.stderr)
		if out := got.stdout.String(); out != "" {
			t.Errorf("%s: stdout %q, want none", c.args, out)
		}
	}
}

func TestUsageFromEnvironment(t *testing.T) {
	t.Setenv("NATS_TIMEOUT", "soon")
	ctl(t, "get", "alice").want(t, exitUsage, `presencectl: could not parse "soon" as …`)
}

// Without a command there is help, on stderr: nobody asked for it.
func TestNoCommand(t *testing.T) {
	c := ctl(t)
	if c.code != exitUsage || c.stdout.String() != "" || !strings.Contains(c.stderr.String(), "COMMANDS:") {
		t.Errorf("no command: exit code %d, stdout %q, stderr %q", c.code, c.stdout.String(), c.stderr.String())
	}
}

func TestHelp(t *testing.T) {
	// Help shows where values come from, never the values.
	t.Setenv("NATS_PASSWORD", "sekrit")
	t.Setenv("NATS_URL", "nats://u:sekrit@127.0.0.1:1")
	for _, name := range everyCommand("", (&app{}).root().Commands) {
		args := strings.Fields(name + " --help")
		out := ctl(t, args...).want(t, exitDone, "").stdout.String()
		for _, want := range []string{"Examples:\n     presencectl " + name, "--creds FILE", "$NATS_PASSWORD"} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in %s", args, want, out)
			}
		}
		if strings.Contains(out, "sekrit") {
			t.Errorf("%v shows a password: %s", args, out)
		}
	}
}

// everyCommand returns what follows the name of the program, nothing included.
func everyCommand(name string, below []*cli.Command) []string {
	names := []string{name}
	for _, c := range below {
		names = append(names, everyCommand(strings.TrimSpace(name+" "+c.Name), c.Commands)...)
	}
	return names
}

func TestVersion(t *testing.T) {
	old := version
	version = "1.2.3"
	defer func() { version = old }()
	if got := ctl(t, "--version").want(t, exitDone, "").stdout.String(); got != "presencectl version 1.2.3\n" {
		t.Errorf("--version: got %q", got)
	}
}
