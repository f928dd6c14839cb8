package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func TestList(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	ctl(t, "list", "-s", url).want(t, exitDone, "")
	for _, user := range []string{"alice", "bob", "carol@example.com"} {
		ctl(t, "set", user, "hello", "-s", url).want(t, exitDone, "")
	}
	login(t, url, "bob")

	out := ctl(t, "list", "-s", url).want(t, exitDone, "").stdout.String()
	lines := strings.Split(out, "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "USER               STATUS     CHANGED") ||
		!strings.HasPrefix(lines[1], "alice              UNLOGINED  ") || !strings.HasPrefix(lines[2], "bob                ONLINE     ") {
		t.Errorf("list: got\n%s", out)
	}
	out = ctl(t, "list", "--status", "ONLINE", "--json", "-s", url).want(t, exitDone, "").stdout.String()
	if strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, `{"userID":"bob","statusType":1,`) {
		t.Errorf("list --status: got %q", out)
	}
	out = ctl(t, "list", "--limit", "2", "--json", "-s", url).want(t, exitDone, "").stdout.String()
	if strings.Count(out, "\n") != 2 || !strings.Contains(out, "bob") {
		t.Errorf("list --limit: got %q", out)
	}
}

// Users on several pages are one table.
func TestListPages(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	url := kit.URL()
	const users = protocol.MaxUsersPerList + 3
	setMany(t, kit, users)
	out := ctl(t, "list", "-s", url).want(t, exitDone, "").stdout.String()
	if n := strings.Count(out, "\n"); n != users+1 || strings.Count(out, "USER") != 1 {
		t.Errorf("list of %d users: got %d lines", users, n)
	}
	out = ctl(t, "list", "--limit", fmt.Sprint(users-1), "--json", "-s", url).want(t, exitDone, "").stdout.String()
	if n := strings.Count(out, "\n"); n != users-1 {
		t.Errorf("list --limit %d: got %d lines", users-1, n)
	}
}

// setMany gives so many users a text.
func setMany(t *testing.T, kit *servicetest.Kit, users int) {
	t.Helper()
	c, err := client.New(kit.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, err := c.OpenGateway(t.Context(), "gw", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all errgroup.Group // one request for many of them
	for i := range users {
		all.Go(func() error { return g.SetStatus(t.Context(), fmt.Sprint("user", i), "hello") })
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	login(t, url, "alice", "--platform", "web")
	ctl(t, "set", "bob", "hello", "-s", url).want(t, exitDone, "")
	ctl(t, "set", "bob", "again", "--if-revision", "1", "-s", url).want(t, exitFailed, "presencectl: …")

	out := ctl(t, "stats", "-s", url).want(t, exitDone, "").stdout.String()
	for _, want := range []string{"users     1 online, 0 offline, 1 unlogined\n", "sessions  1 live: web 1\n", "\nanswered  by ", "max-custom-status", "\nrevision_conflict  1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("stats: no %q in\n%s", want, out)
		}
	}
	r := decode[protocol.StatsReply](t, ctl(t, "stats", "--json", "-s", url).want(t, exitDone, ""))
	if r.Users.Online != 1 || r.Epoch == "" {
		t.Errorf("stats --json: got %+v", r)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	login(t, url, "alice", "--session", "s1", "--device", "laptop")
	out := ctl(t, "explain", "alice", "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.HasPrefix(out, "alice is ONLINE, because\n  ONLINE: session s1 ") || !strings.Contains(out, "\nsession s1\n  live; logged in ") || !strings.Contains(out, "connection ") {
		t.Errorf("explain: got\n%s", out)
	}
	r := decode[protocol.ExplainReply](t, ctl(t, "explain", "alice", "--json", "-s", url).want(t, exitDone, ""))
	if r.Public.StatusType != protocol.Online || len(r.Sessions) != 1 || len(r.Why) == 0 {
		t.Errorf("explain --json: got %+v", r)
	}
	ctl(t, "explain", "", "-s", url).want(t, exitFailed, "presencectl: the user ID is empty (invalid_user_id)")
}

// Who is kicked is told so and does not come back by itself.
func TestKick(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	first := login(t, url, "alice", "--session", "s1", "--device", "laptop")
	second := login(t, url, "alice", "--session", "s2", "--device", "phone")

	c := ctl(t, "kick", "alice", "--session", "s2", "-s", url).want(t, exitDone, "presencectl: 1 session ended")
	if out := c.stdout.String(); out != "s2\n" {
		t.Errorf("kick --session: got %q", out)
	}
	second.want(t, exitFailed, "presencectl: logged in…")
	if want := "presencectl: an operator has ended the session (session_replaced)\n"; !strings.HasSuffix(second.stderr.String(), want) {
		t.Errorf("who was kicked: got %q, want %q", second.stderr.String(), want)
	}
	wantStatus(t, url, "alice", protocol.Online)

	r := decode[protocol.KickReply](t, ctl(t, "kick", "alice", "--json", "-s", url).want(t, exitDone, ""))
	if len(r.Ended) != 1 || r.Ended[0] != "s1" {
		t.Errorf("kick --json: got %+v", r)
	}
	first.want(t, exitFailed, "presencectl: logged in…")
	wantStatus(t, url, "alice", protocol.Unlogined)
	ctl(t, "login", "alice", "--session", "s1", "-s", url).want(t, exitFailed, "presencectl: …")

	ctl(t, "kick", "nobody", "-s", url).want(t, exitDone, "presencectl: 0 sessions ended")
	ctl(t, "kick", "alice", "--session", "", "-s", url).want(t, exitFailed, "presencectl: sessionID must have 1 to 64 bytes (invalid_request)")
}

func TestErase(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	there := login(t, url, "alice", "--session", "s1")
	ctl(t, "erase", "alice", "-s", url).want(t, exitUsage, "presencectl: there is no terminal to ask on: --yes says that you are sure (see presencectl erase --help)")
	wantStatus(t, url, "alice", protocol.Online)

	c := ctl(t, "erase", "alice", "--yes", "-s", url).want(t, exitDone, "presencectl: alice is erased, 1 session ended")
	if out := c.stdout.String(); out != "s1\n" {
		t.Errorf("erase: got %q", out)
	}
	there.want(t, exitFailed, "presencectl: logged in…")
	if want := "presencectl: the user was erased (session_replaced)\n"; !strings.HasSuffix(there.stderr.String(), want) {
		t.Errorf("who was erased: got %q, want %q", there.stderr.String(), want)
	}
	wantStatus(t, url, "alice", protocol.Unlogined)
	ctl(t, "erase", "alice", "--yes", "--now", "-s", url).want(t, exitDone, "presencectl: alice is erased, 0 sessions ended")
	ctl(t, "erase", "", "--yes", "-s", url).want(t, exitFailed, "presencectl: the user ID is empty (invalid_user_id)")
}

// Nothing but yes is an answer.
func TestConfirm(t *testing.T) {
	for answer, sure := range map[string]bool{"y\n": true, " YES \n": true, "yes": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		var stderr buffer
		c := &conn{app: &app{stdin: strings.NewReader(answer), stderr: &stderr}}
		asked := "Sure? [y/N] "
		if !strings.HasSuffix(answer, "\n") { // the terminal is still in the line of the question
			asked += "\n"
		}
		if err := c.confirm(t.Context(), "Sure?"); (err == nil) != sure || stderr.String() != asked {
			t.Errorf("confirm with %q: got %v, asked %q", answer, err, stderr.String())
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) || isTerminal(strings.NewReader("")) {
		t.Errorf("%s or no file at all is taken for a terminal", os.DevNull)
	}
}
