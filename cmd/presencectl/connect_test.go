package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"presence/pkg/service/servicetest"
)

// closedPort is an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNoServer(t *testing.T) {
	addr := closedPort(t)
	ctl(t, "get", "alice", "-s", "nats://u:sekrit@"+addr).want(t, exitFailed,
		"presencectl: no NATS server at "+addr+": is presenced running? (start it with: presenced)")
}

// A server that accepts and says nothing.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	ctl(t, "get", "alice", "-s", addr, "--timeout", "200ms").want(t, exitFailed,
		"presencectl: no answer from a NATS server at "+addr+" within 200ms")
}

// A proxy that refuses, and one that accepts and says nothing.
func TestBadProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(t.TempDir(), "c.json")
	for _, c := range []struct{ proxy, timeout, want string }{
		{closedPort(t), "10s", `no NATS server at 127.0.0.1:4222 (nats context "c"), through its socks_proxy: connection refused`},
		{l.Addr().String(), "200ms", `no answer from a NATS server at 127.0.0.1:4222 (nats context "c"), through its socks_proxy within 200ms`},
	} {
		if err := os.WriteFile(path, []byte(`{"socks_proxy":"socks5://`+c.proxy+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		ctl(t, "get", "alice", "--context", path, "--timeout", c.timeout).want(t, exitFailed, "presencectl: "+c.want)
	}
}

// A server that speaks something else where WebSocket is expected.
func TestNotWebSocket(t *testing.T) {
	t.Parallel()
	s := servicetest.StartBroker(t)
	addr := strings.TrimPrefix(s.URL(), "nats://")
	ctl(t, "get", "alice", "-s", "ws://"+addr).want(t, exitFailed, "presencectl: connecting to "+addr+": it does not speak WebSocket")
}

func TestBadURL(t *testing.T) {
	for _, url := range []string{"nats://u:se/krit@127.0.0.1:4222", "nats://u:krit@:x", ","} {
		c := ctl(t, "get", "alice", "-s", url).want(t, exitFailed, "presencectl: the URL of the NATS server is …")
		if strings.Contains(c.stderr.String(), "krit") {
			t.Errorf("%s: the error shows a password: %s", url, c.stderr.String())
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := servicetest.StartBroker(t)
	addr := strings.TrimPrefix(s.URL(), "nats://")
	// Each waits for an instance that restarts, for three seconds: all at once.
	var all sync.WaitGroup
	for _, command := range []string{"get alice", "watch alice", "login alice", "logout alice", "clear alice", "availability alice", "availability alice busy",
		"contacts add alice bob", "await alice", "list", "stats", "explain alice", "kick alice", "erase alice --yes"} {
		all.Go(func() {
			t.Run(command, func(t *testing.T) {
				args := append([]string{"-s", s.URL(), "--timeout", "1m"}, strings.Fields(command)...)
				ctl(t, args...).want(t, exitFailed,
					"presencectl: nobody answers below presence.v1 on "+addr+": is presenced running there?")
			})
		})
	}
	all.Wait()
}

// A service that takes requests and says nothing is asked once, and waited for no
// longer than --timeout.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	nc := s.Connect(t)
	requests, err := nc.SubscribeSync("presence.v1.>")
	if err != nil {
		t.Fatal(err)
	}
	for i, command := range []string{"get alice", "list", "stats"} {
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		ctl(t, append(strings.Fields(command), "-s", s.URL(), "--timeout", "300ms")...).want(t, exitFailed, "presencectl: no answer within 300ms")
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if n, _, err := requests.Pending(); n != i+1 || err != nil {
			t.Errorf("%s: %d requests so far, want %d (%v)", command, n, i+1, err)
		}
	}
}

// What NATS refuses looks like an answer that does not come: it must be told
// at once, not after the timeout.
func TestNotPermitted(t *testing.T) {
	t.Parallel()
	s := servicetest.StartBroker(t)
	ctl(t, "get", "alice", "-s", s.URL(), "--prefix", "presence.v1.status", "--timeout", "1h").want(t, exitFailed,
		`presencectl: the NATS server does not allow it: Permissions Violation for Publish to "presence.v1.status.get"`)
}

func TestCredentials(t *testing.T) {
	s := servicetest.StartNATS(t)
	addr := strings.TrimPrefix(s.URL(), "nats://")
	refused := "presencectl: the NATS server at " + addr + " refuses these credentials: Authorization Violation"
	ctl(t, "get", "alice", "-s", addr, "--user", "client", "--password", "wrong").want(t, exitFailed, refused)
	ctl(t, "get", "alice", "-s", addr, "--user", "token").want(t, exitFailed, refused)
	nobody := "presencectl: nobody answers below presence.v1 on " + addr + "…"
	ctl(t, "get", "alice", "-s", addr, "--user", "client", "--password", servicetest.Password, "--timeout", "20s").want(t, exitFailed, nobody)
	t.Setenv("NATS_USER", "client")
	t.Setenv("NATS_PASSWORD", servicetest.Password)
	t.Setenv("NATS_URL", s.URL())
	ctl(t, "get", "alice", "--timeout", "20s").want(t, exitFailed, nobody)
	ctl(t, "get", "alice", "--timeout", "20s", "--creds", "/nonexistent").want(t, exitFailed, nobody) // a user goes first, as with the nats CLI
	t.Setenv("NATS_USER", "")
	ctl(t, "get", "alice", "--creds", "/nonexistent").want(t, exitFailed, "presencectl: reading credentials or certificates: open /nonexistent: no such file or directory")
}

func TestContexts(t *testing.T) {
	home, addr, other := t.TempDir(), closedPort(t), closedPort(t)
	t.Setenv("XDG_CONFIG_HOME", home)
	dir := filepath.Join(home, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "dev.json"), `{"url":"nats://`+addr+`","user":"u","password":"p"}`)
	write(filepath.Join(dir, "bad.json"), `{"url":`)

	inContext := "presencectl: no NATS server at " + addr + ` (nats context "dev"): is presenced running? (start it with: presenced)`
	ctl(t, "get", "alice", "--context", "dev").want(t, exitFailed, inContext)
	ctl(t, "get", "alice", "--context", filepath.Join(dir, "dev.json")).want(t, exitFailed, inContext)
	ctl(t, "get", "alice", "--context", "none").want(t, exitFailed, `presencectl: there is no nats context "none" (nats context ls shows them)`)
	ctl(t, "get", "alice", "--context", "bad").want(t, exitFailed, `presencectl: reading the nats context "bad": …`)

	write(filepath.Join(home, "nats", "context.txt"), "dev")
	ctl(t, "get", "alice").want(t, exitFailed, inContext)
	ctl(t, "get", "alice", "--context", "dev", "-s", other).want(t, exitFailed, "presencectl: no NATS server at "+other+` (nats context "dev")…`)
	// A server of one's own does not get the selected context's credentials.
	s := servicetest.StartBroker(t)
	ctl(t, "get", "alice", "-s", s.URL()).want(t, exitFailed, "presencectl: nobody answers…")
}

func TestIsLocal(t *testing.T) {
	for hosts, want := range map[string]bool{"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "10.0.0.1:1": false, "nats:4222": false} {
		if isLocal([]string{hosts}) != want {
			t.Errorf("isLocal(%s): got %v, want %v", hosts, !want, want)
		}
	}
}
