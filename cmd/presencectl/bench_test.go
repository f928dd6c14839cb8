package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"presence/cmd/presencectl/load"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// known counts the users that the service knows.
func known(t *testing.T, args ...string) int {
	t.Helper()
	u := decode[protocol.StatsReply](t, ctl(t, append(args, "stats", "--json")...).want(t, exitDone, "")).Users
	return u.Online + u.Offline + u.Unlogined
}

func TestBench_Table(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	ctl(t, "set", "alice", "hello", "--expires", "1h", "-s", url).want(t, exitDone, "")
	for _, operation := range []string{"set", "get"} {
		c := ctl(t, "bench", operation, "--users", "200", "--requests", "400", "--duration", "10s", "--callers", "1,8", "-s", url)
		c.want(t, exitDone, "presencectl: erased 200 users named bench-…")
		if got := c.stderr.String(); !strings.HasSuffix(got, "-…\n") || strings.Contains(got, "\x1b") {
			t.Errorf("%s: stderr %q", operation, got)
		}
		out := c.stdout.String()
		if !regexp.MustCompile(`^CALLERS  CALLS/S .*\n1  .*\n8  .*\n$`).MatchString(out) {
			t.Errorf("%s: got\n%s", operation, out)
		}
		wantFit(t, operation, out)
	}
	// It has changed nobody, and left nobody behind.
	s := decode[protocol.GetReply](t, ctl(t, "get", "alice", "--json", "-s", url).want(t, exitDone, "")).SuccessUserList[0]
	if s.CustomStatus != "hello" || known(t, "-s", url) != 1 {
		t.Errorf("after bench: alice is %+v, and there are %d users, want 1", s, known(t, "-s", url))
	}
}

func TestBench_JSON(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	c := ctl(t, "bench", "set", "--users", "100", "--requests", "300", "--duration", "10s", "--callers", "4,2", "--json", "-s", url)
	c.want(t, exitDone, "presencectl: erased 100 users named bench-…")
	lines := strings.Split(strings.TrimSpace(c.stdout.String()), "\n")
	for i, callers := range []int{4, 2} {
		var m benchMessage
		if err := json.Unmarshal([]byte(lines[i]), &m); err != nil {
			t.Fatalf("%v in %q", err, lines[i])
		}
		if m.Operation != "set" || m.Callers != callers || m.Users != 100 || m.Calls != 300 || len(m.Failed) != 0 || m.Raw == nil || m.Raw.Calls != 300 {
			t.Errorf("got %s", lines[i])
		}
		if m.P50 <= 0 || m.P50 > m.P90 || m.P90 > m.P99 || m.P99 > m.P999 || m.P999 > m.Max {
			t.Errorf("latencies do not rise: %s", lines[i])
		}
		if rate, ratio := float64(m.Calls)/m.Seconds, m.Rate/m.Raw.Rate; m.Rate != rate || m.OfRaw != ratio {
			t.Errorf("rate %v of raw %v, want %v and %v", m.Rate, m.OfRaw, rate, ratio)
		}
	}
}

// TestBench_Refused: requests that the service refuses are named, and are no part of the rate.
func TestBench_Refused(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Limits.UserChanges = 5 }))
	c := ctl(t, "bench", "set", "--users", "2", "--requests", "50", "--duration", "10s", "--callers", "1", "--no-raw", "-s", kit.URL()).wait(t)
	if out := c.stdout.String(); c.code != exitFailed || !regexp.MustCompile(`times rate_limited: more --users help\n$`).MatchString(out) {
		t.Errorf("exit code %d, stdout %q, stderr %q", c.code, out, c.stderr.String())
	}
}

// TestBench_Interrupted: what was measured is shown, and the users are erased.
func TestBench_Interrupted(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	steps := strings.Repeat("1,", mostSteps-1) + "1" // far more than pass before the interrupt
	c := start(t, "bench", "set", "--users", "300", "--requests", "3000", "--duration", "1s", "--callers", steps, "--no-raw", "--json", "-s", url)
	c.prints(t, "\n")
	c.stop()
	c.want(t, exitFailed, "presencectl: erasing 300 users named …")
	if got := c.stderr.String(); !strings.HasSuffix(got, "-…\npresencectl: interrupted before all was measured\n") {
		t.Errorf("stderr %q", got)
	}
	if n := known(t, "-s", url); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

func TestBench_NobodyAnswers(t *testing.T) {
	t.Parallel()
	url := servicetest.StartNATS(t).URL()
	c := ctl(t, "bench", "set", "-s", url)
	if got := c.stderr.String(); c.code != exitFailed || !strings.HasPrefix(got, "presencectl: nobody answers below presence.v1 on ") || strings.Count(got, "\n") != 1 {
		t.Errorf("exit code %d, stderr %q", c.code, got)
	}
}

// TestBench_Permissions: each role measures what it may, and is told what it may not.
func TestBench_Permissions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	ctl(t, "nats-config", dir, "--listen", "127.0.0.1:-1").want(t, exitDone, "presencectl: wrote …")
	config := filepath.Join(dir, "nats.conf")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`store_dir: .*`).ReplaceAll(text, []byte(`store_dir: "`+t.TempDir()+`"`))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d := servicetest.StartDaemon(t, "--nats-config", config)
	bench := func(who, operation string) *command {
		return ctl(t, "--context", filepath.Join(dir, "context", who+".json"), "-s", d.URL, "bench", operation, "--users", "100", "--requests", "100", "--callers", "2")
	}
	const noRaw = "presencectl: raw NATS is not measured: this NATS user may not publish to an inbox of its own\n"
	c := bench("operator", "set").want(t, exitDone, noRaw+"presencectl: erased 100 users named bench-…")
	if out := c.stdout.String(); !strings.HasSuffix(out, "  -          -\n") {
		t.Errorf("an operator: got\n%s", out)
	}
	c = bench("reader", "get").want(t, exitDone, "presencectl: this NATS user may not set texts: the users asked for are unknown to the service, and its answers are short\n"+strings.TrimSuffix(noRaw, "\n"))
	if out := c.stdout.String(); strings.Count(out, "\n") != 2 {
		t.Errorf("a reader: got\n%s", out)
	}
	c = bench("reader", "set").want(t, exitFailed, `presencectl: the NATS server does not allow it: Permissions Violation for Publish to "presence.v1.user.bench-…`)
	if out := c.stdout.String(); out != "" {
		t.Errorf("a reader that may not set: got %q", out)
	}
	if n := known(t, "--context", filepath.Join(dir, "context", "operator.json"), "-s", d.URL); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

func TestBench_WrongUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                   "name what to measure: set or get (see presencectl bench --help)",
		"put":                `unknown command "put": it must be set or get (see presencectl bench --help)`,
		"set alice":          `unexpected argument "alice" (see presencectl bench set --help)`,
		"set --callers 0":    "--callers 0: it must be 1 to 4,096 (see presencectl bench set --help)",
		"set --callers 1,-2": "--callers -2: it must be 1 to 4,096 (see presencectl bench set --help)",
		"set --users 0":      "--users 0: it must be 1 to 1,000,000 (see presencectl bench set --help)",
		"set --requests 0":   "--requests 0: it must be 1 to 100,000,000 (see presencectl bench set --help)",
		"set --size 7":       "--size 7: it must be 8 to 4,096 (see presencectl bench set --help)",
		"get --batch 501":    "--batch 501: it must be 1 to 500 (see presencectl bench get --help)",
		"get --users 10":     "--batch 100: it must be 1 to 10 (see presencectl bench get --help)",
		"set --callers " + strings.Repeat("1,", 16) + "1": "--callers has 17 numbers, 1 to 16 are allowed (see presencectl bench set --help)",
	} {
		ctl(t, strings.Fields("bench "+args)...).want(t, exitUsage, "presencectl: "+want)
	}
}

// TestBar: the bar fits a terminal, and is never longer than full.
func TestBar(t *testing.T) {
	b := &bar{what: "erasing users, 64 callers", plan: load.Plan{For: 5 * time.Second, Calls: 1000}}
	for calls, want := range map[int64]string{0: "[                    ]   0 %", 500: "[==========          ]  50 %", 5000: "[====================] 100 %"} {
		got := b.line(load.Progress{Calls: calls, Elapsed: time.Millisecond})
		if !strings.Contains(got, want) {
			t.Errorf("%d calls: got %q, want %q", calls, got, want)
		}
		wantFit(t, "the bar", got)
	}
}
