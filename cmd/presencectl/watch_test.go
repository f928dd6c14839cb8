package main

import (
	"encoding/json"
	"strings"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func watching(t *testing.T, args ...string) *command {
	t.Helper()
	c := start(t, append([]string{"watch"}, args...)...)
	c.says(t, "presencectl: watching (^C ends it)\n")
	return c
}

func TestWatch(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	ctl(t, "set", "alice", "before", "-s", url).want(t, exitDone, "")
	c := watching(t, "alice", "bob@example.com", "-s", url)
	c.prints(t, "  alice            UNLOGINED    before\n")
	c.prints(t, "-                bob@example.com  UNLOGINED    -\n")
	ctl(t, "set", "alice", "after", "--expires", "1h", "-s", url).want(t, exitDone, "")
	c.prints(t, "  alice            UNLOGINED    after (until ")
	c.stop()
	c.want(t, exitDone, "presencectl: watching (^C ends it)")
}

func TestWatchJSON(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	c := watching(t, "alice", "--json", "-s", url)
	c.prints(t, "\n")
	for _, text := range []string{"one", "two"} {
		ctl(t, "set", "alice", text, "-s", url).want(t, exitDone, "")
		c.prints(t, `"customStatus":"`+text+`"`)
	}
	c.stop()
	c.wait(t)
	var texts []string
	for line := range strings.Lines(c.stdout.String()) {
		var s protocol.Status
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.UserID != "alice" {
			t.Errorf("a line is %q: %v", line, err)
		}
		texts = append(texts, s.CustomStatus)
	}
	if got := strings.Join(texts, " "); got != " one two" {
		t.Errorf("texts: got %q, want the snapshot and both changes", got)
	}
}

// Who cannot be watched is told, and makes the exit code 1 in the end.
func TestWatchFailures(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	failed := `presencectl: "b\x01": the user ID contains a control character (invalid_user_id)`
	ctl(t, "watch", "b\x01", "-s", url).want(t, exitFailed, failed)
	c := watching(t, "alice", "b\x01", "-s", url)
	c.prints(t, "alice")
	c.stop()
	c.want(t, exitFailed, failed+"\npresencectl: watching (^C ends it)")
}

func TestWatchIsBlindAndLiveAgain(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	c := watching(t, "alice", "-s", kit.URL())
	kit.Restart(t)
	c.says(t, "presencectl: blind: disconnected\n")
	c.says(t, "presencectl: live again\n")
	ctl(t, "set", "alice", "after", "-s", kit.URL()).want(t, exitDone, "")
	c.prints(t, "after")
	c.stop()
	c.want(t, exitDone, "presencectl: watching…")
}
