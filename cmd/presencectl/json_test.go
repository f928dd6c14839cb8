package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

// withoutJSON are the commands that docs/operations.md names as those without --json.
func withoutJSON(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "Every command takes `--json` but "
	_, list, ok := strings.Cut(string(text), begin)
	if !ok {
		t.Fatalf("docs/operations.md does not say %q", begin)
	}
	list, _, _ = strings.Cut(list, ", and")
	for _, part := range strings.Split(list, "`") {
		if part = strings.TrimSpace(part); part != "" && part != "," && part != "and" {
			names = append(names, part)
		}
	}
	return names
}

// TestJSON_EveryCommand: each command prints nothing but JSON with --json, one value a
// line, or is one of those that the document excepts, and says so.
func TestJSON_EveryCommand(t *testing.T) {
	d := servicetest.StartDaemon(t)
	// What follows the command, and whether it runs until it is stopped.
	arguments := map[string]struct {
		args   string
		stream bool
	}{
		"login": {"alice", true}, "watch": {"alice", true},
		"logout": {"alice", false}, "clear": {"alice", false}, "availability": {"alice busy", false}, "set": {"alice text", false},
		"contacts list": {"alice", false}, "contacts add": {"alice bob", false}, "contacts remove": {"alice bob", false}, "contacts replace": {"alice carol", false},
		"get": {"alice bob", false}, "await": {"alice --status unlogined", false}, "list": {"", false}, "stats": {"", false}, "explain": {"alice", false},
		"kick": {"alice", false}, "erase": {"alice --yes", false}, "verify": {"--data " + d.DataDir, false}, "doctor": {"--data " + d.DataDir, false},
		"backup":    {"--data " + d.DataDir + " " + filepath.Join(t.TempDir(), "presence.backup"), false},
		"bench set": {"--callers 1 --requests 5 --users 3", false}, "bench get": {"--callers 1 --requests 5 --users 3 --batch 2", false},
		"nats-config": {"", false}, "nats-user": {"user alice", false}, "completion bash": {"", false}, "completion zsh": {"", false}, "completion fish": {"", false},
	}
	ctl(t, "set", "alice", "text", "-s", d.URL).want(t, exitDone, "")
	excepted := withoutJSON(t)
	for _, name := range everyCommand("", (&app{}).root().Commands) {
		if name == "" || name == "contacts" || name == "bench" || name == "completion" {
			continue // of these there is only help
		}
		how, ok := arguments[name]
		if !ok {
			t.Errorf("%s: this test does not know it", name)
			continue
		}
		args := append(strings.Fields(name+" "+how.args), "--json", "-s", d.URL)
		if slices.Contains(excepted, strings.Fields(name)[0]) {
			c := ctl(t, args...).wait(t)
			if c.code != exitUsage || !strings.Contains(c.stderr.String(), "has no --json") || c.stdout.String() != "" {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q, want that it has no --json", name, c.code, c.stdout.String(), c.stderr.String())
			}
			continue
		}
		c := start(t, args...)
		if how.stream {
			c.prints(t, "\n")
			c.stop()
		}
		c.wait(t)
		out := c.stdout.String()
		if c.code != exitDone || out == "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, c.code, out, c.stderr.String())
		}
		for line := range strings.Lines(out) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: not JSON: %s", name, line)
			}
		}
	}
}
