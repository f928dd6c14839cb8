package main

import (
	"fmt"
	"strings"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func TestSetAndClear(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	s := decode[protocol.Status](t, ctl(t, "set", "alice", "in a meeting", "--expires", "1h", "--json", "-s", url).want(t, exitDone, ""))
	if s.UserID != "alice" || s.CustomStatus != "in a meeting" || s.Revision == 0 {
		t.Errorf("set: got %+v", s)
	}
	if left := s.CustomStatusExpiresAt - s.UpdatedAt; left != 3600_000 {
		t.Errorf("set: expires %d ms after the change, want 1 h", left)
	}

	c := ctl(t, "set", "--if-revision", "1", "-s", url, "alice", "-2 °C")
	c.want(t, exitFailed, "presencectl: …")
	if got := c.stderr.String(); !strings.HasSuffix(got, "(revision_conflict)\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("a wrong revision: got %q", got)
	}
	ctl(t, "set", "alice", strings.Repeat("x", 513), "-s", url).want(t, exitFailed,
		"presencectl: the custom status has 513 bytes, at most 512 are allowed (custom_status_too_long)")

	c = ctl(t, "set", "alice", "-s", url, "--if-revision", fmt.Sprint(s.Revision), "--", "-brb-").want(t, exitDone, "")
	if out := c.stdout.String(); !strings.HasPrefix(out, "USER   STATUS     CHANGED") || !strings.HasSuffix(out, "  -brb-\n") {
		t.Errorf("set: got %q", out)
	}
	s = decode[protocol.Status](t, ctl(t, "clear", "alice", "--json", "-s", url).want(t, exitDone, ""))
	if s.CustomStatus != "" {
		t.Errorf("clear: got %+v", s)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	ctl(t, "set", "alice", "hello", "-s", url).want(t, exitDone, "")

	out := ctl(t, "get", "alice", "bob", "alice", "-s", url).want(t, exitDone, "").stdout.String()
	if lines := strings.Split(out, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], "alice  UNLOGINED") || !strings.HasPrefix(lines[2], "bob    UNLOGINED") {
		t.Errorf("get: got\n%s", out)
	}
	out = ctl(t, "get", "alice", "--detail", "--fresh", "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.Contains(out, "PLATFORMS") || !strings.Contains(out, "REVISION") {
		t.Errorf("get --detail: got\n%s", out)
	}
	// A user may be called as a command is.
	ctl(t, "get", "help", "h", "-s", url).want(t, exitDone, "")

	reply := decode[protocol.GetReply](t, ctl(t, "get", "alice", "--json", "-s", url).want(t, exitDone, ""))
	if len(reply.SuccessUserList) != 1 || reply.SuccessUserList[0].CustomStatus != "hello" || reply.FailureUserList == nil || reply.Epoch == "" {
		t.Errorf("get --json: got %+v", reply)
	}
}

// Who can be shown is; the others make the exit code 1.
func TestGetFailures(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	failed := `presencectl: "b\x01": the user ID contains a control character (invalid_user_id)`
	c := ctl(t, "get", "alice", "b\x01", "-s", url).want(t, exitFailed, failed)
	if !strings.Contains(c.stdout.String(), "alice  UNLOGINED") {
		t.Errorf("get: got %q", c.stdout.String())
	}
	reply := decode[protocol.GetReply](t, ctl(t, "get", "alice", "b\x01", "--json", "-s", url).want(t, exitFailed, failed))
	if len(reply.SuccessUserList) != 1 || len(reply.FailureUserList) != 1 || reply.FailureUserList[0].Name != "invalid_user_id" {
		t.Errorf("get --json: got %+v", reply)
	}
	ctl(t, "get", "b\x01", "-s", url).want(t, exitFailed, failed)
	ctl(t, "get", strings.Repeat("ü", 100), "-s", url).want(t, exitFailed,
		`presencectl: "`+strings.Repeat("ü", 40)+`…": the user ID has 200 bytes, at most 128 are allowed (invalid_user_id)`)
	ctl(t, "login", "", "-s", url).want(t, exitFailed, "presencectl: the user ID is empty (invalid_user_id)")
}
