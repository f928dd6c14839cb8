package main

import (
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

func TestAwait(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	any := start(t, "await", "alice", "bob", "--any", "-s", url)
	all := start(t, "await", "alice", "bob", "--json", "-s", url)
	alice := login(t, url, "alice")
	out := any.want(t, exitDone, "").stdout.String()
	if lines := strings.Split(out, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], "alice  ONLINE  ") || !strings.HasPrefix(lines[2], "bob    UNLOGINED  ") {
		t.Errorf("await --any: got\n%s", out)
	}
	login(t, url, "bob")
	out = all.want(t, exitDone, "").stdout.String()
	if strings.Count(out, `"statusType":1`) != 2 || strings.Count(out, "\n") != 2 {
		t.Errorf("await --json: got\n%s", out)
	}

	// What is so already is done at once, and a status has no case.
	ctl(t, "await", "alice", "-s", url).want(t, exitDone, "")
	gone := start(t, "await", "alice", "--status", "Unlogined", "--timeout", "1h", "-s", url)
	alice.stop()
	gone.want(t, exitDone, "")
}

func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	c := ctl(t, "await", "alice", "bob", "--timeout", "200ms", "-s", url).want(t, exitFailed, "presencectl: not within 200ms: alice is UNLOGINED, bob is UNLOGINED")
	if out := c.stdout.String(); out != "" {
		t.Errorf("await that was not met: stdout %q, want none", out)
	}
	c = ctl(t, "await", "1", "2", "3", "4", "5", "6", "7", "--timeout", "200ms", "-s", url).want(t, exitFailed, "presencectl: not within 200ms: …")
	if got := c.stderr.String(); !strings.HasSuffix(got, "5 is UNLOGINED and 2 more\n") {
		t.Errorf("await of many: got %q", got)
	}
	ctl(t, "await", "", "-s", url).want(t, exitFailed, "presencectl: the user ID is empty (invalid_user_id)")
	c = start(t, "await", "alice", "-s", url)
	c.stop()
	c.want(t, exitFailed, "presencectl: interrupted")
}
