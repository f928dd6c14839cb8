package main

import (
	"strings"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func TestAvailability(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	set := func(want string, args ...string) {
		t.Helper()
		out := ctl(t, append([]string{"availability", "alice", "-s", url}, args...)...).want(t, exitDone, "").stdout.String()
		if out != want {
			t.Errorf("availability %v: got\n%swant\n%s", args, out, want)
		}
	}
	set(`USER   STATUS     LASTING  OVERRIDE  UNTIL
alice  UNLOGINED  busy     -         -
`, "busy")
	login(t, url, "alice")
	if s := wantStatus(t, url, "alice", protocol.Online); s.Availability != protocol.Busy {
		t.Errorf("after the login: got %+v, want busy", s)
	}
	set(`USER   STATUS      LASTING  OVERRIDE  UNTIL
alice  ONLINE dnd  busy     dnd       in 1h
`, "dnd", "--expires", "1h")
	set(`USER   STATUS      LASTING  OVERRIDE  UNTIL
alice  ONLINE dnd  busy     dnd       in 1h
`)
	set(`USER   STATUS  LASTING    OVERRIDE  UNTIL
alice  ONLINE  available  -         -
`, "available")

	own := decode[protocol.OwnStatusReply](t, ctl(t, "availability", "alice", "away", "--json", "-s", url).want(t, exitDone, ""))
	if own.Status.Availability != protocol.Away || own.Availability.Lasting != protocol.Away || own.Revision == 0 {
		t.Errorf("availability --json: got %+v", own)
	}
	c := ctl(t, "availability", "alice", "away", "--if-revision", "1", "-s", url).want(t, exitFailed, "presencectl: …")
	if !strings.HasSuffix(c.stderr.String(), "(revision_conflict)\n") {
		t.Errorf("availability --if-revision: got %q", c.stderr.String())
	}
}

// The owner sees what others do not.
func TestInvisible(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	login(t, url, "alice")
	out := ctl(t, "availability", "alice", "invisible", "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.Contains(out, "\nalice  ONLINE invisible  invisible  ") {
		t.Errorf("availability invisible: got\n%s", out)
	}
	wantStatus(t, url, "alice", protocol.Offline)
	out = ctl(t, "set", "alice", "hello", "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.Contains(out, "\nalice  ONLINE invisible  ") {
		t.Errorf("set while invisible: got\n%s", out)
	}
	if s := wantStatus(t, url, "alice", protocol.Offline); s.CustomStatus != "" {
		t.Errorf("everybody sees %+v", s)
	}
	out = ctl(t, "explain", "alice", "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.HasPrefix(out, "alice is OFFLINE to everybody else\nand ONLINE invisible \"hello\" to alice, because\n") {
		t.Errorf("explain: got\n%s", out)
	}
}
