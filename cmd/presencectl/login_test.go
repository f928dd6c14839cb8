package main

import (
	"strings"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func login(t *testing.T, url string, args ...string) *command {
	t.Helper()
	c := start(t, append([]string{"login", "-s", url}, args...)...)
	c.says(t, " is ONLINE (^C logs out)\n")
	return c
}

// wantStatus checks what everybody sees.
func wantStatus(t *testing.T, url, user string, want protocol.StatusType) protocol.Status {
	t.Helper()
	r := decode[protocol.GetReply](t, ctl(t, "get", user, "--json", "--fresh", "--detail", "-s", url).want(t, exitDone, ""))
	if got := r.SuccessUserList[0].StatusType; got != want {
		t.Errorf("%s is %v, want %v", user, got, want)
	}
	return r.SuccessUserList[0]
}

func TestLogin(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	c := login(t, url, "alice", "--platform", "web", "--session", "s1", "--ttl", "30s", "--grace", "20s", "--device", "phone")
	if want := `presencectl: logged in alice: session s1, platform web, device "phone", ttl 30s, grace 20s` + "\n"; !strings.HasPrefix(c.stderr.String(), want) {
		t.Errorf("login: got %q, want %q", c.stderr.String(), want)
	}
	if s := wantStatus(t, url, "alice", protocol.Online); len(s.Platforms) != 1 || s.Platforms[0] != "web" {
		t.Errorf("platforms: got %v, want [web]", s.Platforms)
	}
	c.stop()
	c.want(t, exitDone, "presencectl: logged in…")
	if !strings.HasSuffix(c.stderr.String(), "presencectl: alice is logged out\n") || c.stdout.String() != "" {
		t.Errorf("after the logout: stdout %q, stderr %q", c.stdout.String(), c.stderr.String())
	}
	wantStatus(t, url, "alice", protocol.Unlogined)
}

func TestLoginJSON(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	c := login(t, url, "alice", "--json")
	c.prints(t, "\n")
	type reply struct {
		SessionID string
		protocol.OwnStatusReply
	}
	r := decode[reply](t, c)
	if len(r.Sessions) != 1 || r.Sessions[0].SessionID != r.SessionID || r.Sessions[0].Device != defaultDevice() || !r.Sessions[0].Bound {
		t.Errorf("login --json: got %+v", r)
	}
}

// A second login on the same host has the same device: it replaces the first.
func TestLoginReplaced(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	first := login(t, url, "alice")
	second := login(t, url, "alice", "--session", "second")
	first.want(t, exitFailed, "presencectl: logged in…")
	if want := "presencectl: a later login of its device has replaced the session (session_replaced)\n"; !strings.HasSuffix(first.stderr.String(), want) {
		t.Errorf("the first login: got %q, want %q", first.stderr.String(), want)
	}
	wantStatus(t, url, "alice", protocol.Online)
	second.stop()
	second.want(t, exitDone, "presencectl: logged in…")

	ctl(t, "login", "alice", "--platform", "a b", "-s", url).want(t, exitFailed, "presencectl: platform may contain only a-z 0-9 - (invalid_request)")
}

// A logout elsewhere ends the login: it must not log in again.
func TestLogout(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	here := login(t, url, "alice")
	there := login(t, url, "alice", "--device", "phone", "--session", "s2")

	s := decode[protocol.Status](t, ctl(t, "logout", "alice", "--json", "-s", url).want(t, exitDone, ""))
	if s.StatusType != protocol.Online {
		t.Errorf("logout of one of two: got %+v", s)
	}
	here.want(t, exitFailed, "presencectl: logged in…")
	if !strings.HasSuffix(here.stderr.String(), "presencectl: the session has ended: it was logged out elsewhere\n") {
		t.Errorf("logged out elsewhere: got %q", here.stderr.String())
	}

	ctl(t, "logout", "alice", "-s", url).want(t, exitFailed, `presencectl: session s2, platform `+defaultPlatform()+`, device "phone"
presencectl: none of these sessions is of this host: name one with --session, or --all`)
	ctl(t, "logout", "alice", "--session", "s2", "-s", url).want(t, exitDone, "")
	there.want(t, exitFailed, "presencectl: logged in…")
	wantStatus(t, url, "alice", protocol.Unlogined)

	there = login(t, url, "alice", "--device", "phone")
	ctl(t, "logout", "alice", "--all", "-s", url).want(t, exitDone, "")
	there.want(t, exitFailed, "presencectl: logged in…")
	// Logging out what is not there is not an error.
	out := ctl(t, "logout", "alice", "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.Contains(out, "alice  UNLOGINED") {
		t.Errorf("logout: got %q", out)
	}
}

func TestLoginSurvivesRestart(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	c := login(t, kit.URL(), "alice")
	kit.Restart(t)
	c.says(t, "presencectl: lost the connection to "+strings.TrimPrefix(kit.URL(), "nats://")+" (trying again)\n")
	c.says(t, "presencectl: the session is live, alice is ONLINE\n")
	wantStatus(t, kit.URL(), "alice", protocol.Online)
	c.stop()
	c.want(t, exitDone, "presencectl: logged in…")
	wantStatus(t, kit.URL(), "alice", protocol.Unlogined)
}

// ^C while nobody is there to log out from ends within the timeout.
func TestLoginInterruptedDuringOutage(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	c := login(t, kit.URL(), "alice", "--timeout", "1s")
	kit.Stop(t)
	c.says(t, "lost the connection")
	c.stop()
	c.want(t, exitFailed, "presencectl: logged in…")
	if !strings.Contains(c.stderr.String(), "presencectl: alice is not logged out, the session will be lost: ") {
		t.Errorf("^C during an outage: got %q", c.stderr.String())
	}
}

// The owner is ONLINE, nobody else sees it: to say the former alone is to say what is not so.
func TestLoginInvisible(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	ctl(t, "availability", "alice", "invisible", "-s", url).want(t, exitDone, "")
	c := start(t, "login", "-s", url, "alice")
	c.says(t, "presencectl: alice is ONLINE invisible, others see UNLOGINED (^C logs out)\n")
	wantStatus(t, url, "alice", protocol.Unlogined)
}

// What is no text is refused, not stored as something else.
func TestTextsThatAreNotUTF8(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	latin := "Caf\xe9"
	ctl(t, "set", "alice", latin, "-s", url).want(t, exitFailed, "presencectl: customStatus is not valid UTF-8 (invalid_request)")
	ctl(t, "login", "alice", "--device", latin, "-s", url).want(t, exitFailed, "presencectl: device is not valid UTF-8 (invalid_request)")
	ctl(t, "contacts", "add", "alice", latin, "-s", url).want(t, exitFailed, "presencectl: the user ID is not valid UTF-8 (invalid_user_id)")
	if s := wantStatus(t, url, "alice", protocol.Unlogined); s.Revision != 0 {
		t.Errorf("what was refused has changed %+v", s)
	}
}
