package main

import (
	"strings"
	"testing"

	"presence/pkg/broker"
	"presence/pkg/service/doctor"
	"presence/pkg/service/servicetest"
)

// checks are what doctor --json has found, by result.
func checks(t *testing.T, c *command) map[doctor.Result][]doctor.Check {
	t.Helper()
	all := map[doctor.Result][]doctor.Check{}
	for _, x := range decode[doctor.Report](t, c).Checks {
		all[x.Result] = append(all[x.Result], x)
	}
	return all
}

func TestDoctor(t *testing.T) {
	dir := ""
	url := servicetest.Start(t, servicetest.WithBroker(func(c *broker.Config) { dir, c.SyncAlways = c.DataDir, true })).URL()
	var out string
	servicetest.Eventually(t, waitFor, "nothing to be left out", func() bool {
		out = ctl(t, "doctor", "--data", dir, "--strict", "-s", url).want(t, exitDone, "").stdout.String()
		return strings.HasSuffix(out, "\nNothing is wrong.\n") // the instance looks at its disk, and at the journal, after some seconds
	})
	for _, text := range []string{"Connection\n", "  ok    allowed: get, list, stats, explain, instances, watch\n", "PRESENCE_JOURNAL: settings are right", "Instance "} {
		if !strings.Contains(out, text) {
			t.Errorf("doctor: got\n%s, want %q", out, text)
		}
	}
	wantFit(t, "doctor", out)
	if strings.Contains(out, "\x1b") {
		t.Errorf("there are colours where there is no terminal: %q", out)
	}

	ctl(t, "doctor", "alice", "-s", url).want(t, exitUsage, "presencectl: unexpected argument …")
	got := checks(t, ctl(t, "doctor", "--json", "--prefix", "other.v1", "-s", url).want(t, exitFailed, ""))
	if f := got[doctor.Fail]; len(f) != 1 || f[0].Name != "service.answers" || !strings.Contains(f[0].Do, "--prefix presence.v1") {
		t.Errorf("another prefix: got %+v", got)
	}
	got = checks(t, ctl(t, "doctor", "--json", "--data", t.TempDir(), "-s", url).want(t, exitFailed, ""))
	if f := got[doctor.Fail]; len(f) != 1 || f[0].Name != "journal.streams" || !strings.Contains(f[0].Found, "no key to the journal") {
		t.Errorf("no key: got %+v", got)
	}
}

// TestDoctor_NoConnection: it says whether there is no server, or one that does not let this user
// in. All else is named as not checked.
func TestDoctor_NoConnection(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	for _, c := range []struct{ name, url, says string }{
		{"no server", "nats://127.0.0.1:1", "no NATS server at 127.0.0.1:1"},
		{"wrong credentials", strings.Replace(s.URLAs("nobody"), "secret", "x", 1), "refuses these credentials"},
	} {
		got := checks(t, ctl(t, "doctor", "--json", "-s", c.url).want(t, exitFailed, ""))
		f := got[doctor.Fail]
		if len(f) != 1 || f[0].Name != "connection.server" || !strings.Contains(f[0].Found, c.says) || f[0].Do == "" || len(got[doctor.OK]) > 0 || len(got[doctor.NotChecked]) < 4 {
			t.Errorf("%s: got %+v", c.name, got)
		}
		if strings.Contains(f[0].Found+f[0].Do, "secret") {
			t.Errorf("%s: it tells a password: %+v", c.name, f[0])
		}
	}
	ctl(t, "doctor", "--context", "nowhere").want(t, exitFailed, `presencectl: there is no nats context "nowhere" …`)
}

// TestDoctor_Frozen: an instance that stands still is told apart from one that was stopped.
func TestDoctor_Frozen(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t, `ping_interval: "1m"`)
	daemon := func(name string) *servicetest.Daemon {
		return servicetest.StartDaemon(t, "--name", name, "--nats-url", s.URLAs(servicetest.ClientsUser),
			"--journal-url", s.URLAs(servicetest.JournalUser), "--system-url", s.URLAs(servicetest.SystemUser))
	}
	good, frozen := daemon("good"), daemon("frozen")
	args := []string{"doctor", "-s", s.URL(), "--journal-url", s.URLAs(servicetest.JournalUser), "--system-url", s.URLAs(servicetest.SystemUser)}
	c := ctl(t, args...).want(t, exitDone, "")
	if out := c.stdout.String(); !strings.Contains(out, "a silent one is closed after 3m0s to 4m0s") || !strings.Contains(out, "warning") {
		t.Errorf("both run: got\n%s", out)
	}
	ctl(t, append(args, "--strict")...).want(t, exitFailed, "")

	frozen.Pause(t)
	c = ctl(t, args...).want(t, exitFailed, "")
	if out := c.stdout.String(); !strings.Contains(out, "FAIL  frozen/") || !strings.Contains(out, "hangs") || strings.Contains(out, "FAIL  good/") {
		t.Errorf("one hangs: got\n%s", out)
	}
	wantFit(t, "doctor", c.stdout.String())
	frozen.Kill(t)
	servicetest.Eventually(t, waitFor, "the server to know", func() bool {
		out := ctl(t, args...).stdout.String()
		return strings.Contains(out, "frozen/") && strings.Contains(out, "is gone")
	})
	good.Kill(t)
	servicetest.Eventually(t, waitFor, "the server to know", func() bool {
		return strings.Contains(ctl(t, args...).want(t, exitFailed, "").stdout.String(), "nobody answers below presence.v1")
	})
}

// TestPaint: a terminal has colours, unless its user wants none.
func TestPaint(t *testing.T) {
	if got := paint(&lockedWriter{w: &buffer{}})(doctor.Fail, "FAIL"); got != "FAIL" {
		t.Errorf("no terminal: got %q", got)
	}
}
