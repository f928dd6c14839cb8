package main

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangup sends SIGHUP until the log says something for the first time since before.
func hangup(t *testing.T, d *servicetest.Daemon, says string) {
	t.Helper()
	before := strings.Count(d.Stderr(), says)
	d.Signal(t, syscall.SIGHUP)
	servicetest.Eventually(t, waitFor, "the log to say "+says, func() bool { return strings.Count(d.Stderr(), says) > before })
}

// TestReload_EnvFile: log level, limits and rules of --env-file change, other options are named,
// and a file that is wrong changes nothing.
func TestReload_EnvFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "presenced.env")
	write(t, file, "# limits\nPRESENCED_MAX_CUSTOM_STATUS=4\nPRESENCED_NAME='web-1'\nPRESENCED_RETENTION=2d\n")
	d := servicetest.StartDaemonIn(t, []string{"PRESENCED_RETENTION=3d"}, "--env-file", file)
	nc := d.Connect(t)
	set := func() string {
		subject, _ := subjects.Set("alice")
		m, err := nc.Request(subject, []byte(`{"customStatus":"three"}`), waitFor)
		if err != nil {
			t.Fatal(err)
		}
		return m.Header.Get(protocol.ErrorHeader)
	}
	if set() == "" {
		t.Fatal("a text of five bytes is accepted, four are allowed")
	}

	write(t, file, "PRESENCED_MAX_CUSTOM_STATUS=many\nPRESENCED_LOG_LEVEL=debug\n")
	hangup(t, d, `SIGHUP: nothing has changed, because the configuration is wrong`)
	write(t, file, "PRESENCED_MAX_CUSTOM_STATUS=100\nPRESENCED_LIMIT=1\n")
	hangup(t, d, `line 2: presenced has no option PRESENCED_LIMIT`)

	write(t, file, "PRESENCED_MAX_CUSTOM_STATUS=100\nPRESENCED_NAME=web-2\nPRESENCED_LOG_LEVEL=error\nPRESENCED_MAX_SESSIONS=6\nPRESENCED_RETENTION=2d\n")
	hangup(t, d, `max-custom-status 4 -> 100, max-sessions 32 -> 6, log-level info -> error`)
	if e := set(); e != "" {
		t.Errorf("a text of five bytes is refused, 100 are allowed: %s", e)
	}
	servicetest.Eventually(t, waitFor, "what needs a restart, and what changes nothing", func() bool {
		return strings.Contains(d.Stderr(), `these need a restart" options=--name`) &&
			strings.Contains(d.Stderr(), "PRESENCED_RETENTION is given by the environment PRESENCED_RETENTION, which goes before")
	})
	write(t, file, "PRESENCED_MAX_CUSTOM_STATUS=100\n")
	hangup(t, d, "max-sessions 6 -> 32, log-level error -> info")
	if nc.Stats().Reconnects != 0 {
		t.Error("the client was disconnected")
	}
	d.Stop(t)
}

// TestReload_Storm: many SIGHUPs at any time, from before it is ready on, end nothing.
func TestReload_Storm(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t)
	for range 500 {
		d.Signal(t, syscall.SIGHUP)
	}
	login(t, d.Connect(t), "alice", "{}")
	servicetest.Eventually(t, waitFor, "it to say that there is nothing to read", func() bool {
		return strings.Contains(d.Stderr(), "SIGHUP: there is nothing to read again: neither --env-file nor --nats-config was given")
	})
	d.Stop(t)
	if n := strings.Count(d.Stderr(), "SIGHUP: there is nothing"); n > 5 {
		t.Errorf("500 signals at once led to %d reloads", n)
	}
}

// TestReload_BeforeReady: a SIGHUP while it starts does not end it, and waits. It connects to a server
// that says nothing.
func TestReload_BeforeReady(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := servicetest.StartProcess(t, exec.Command(filepath.Join(servicetest.Build(t), "presenced"), "--nats-url", "nats://"+silent.Addr().String(), "--single-account"))
	c, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.Signal(t, syscall.SIGHUP)
	servicetest.Eventually(t, waitFor, "the log to say that it waits", func() bool {
		return strings.Contains(p.Stderr(), "SIGHUP: the configuration is read again as soon as presenced is ready")
	})
	c.Close()
	if code := p.Wait(t); code != 1 || !strings.Contains(p.Stderr(), "presenced: ") {
		t.Errorf("got exit code %d, want 1 and why it cannot start, not the end by a signal:\n%s", code, p.Stderr())
	}
}

// TestReload_Certificate: after a reload new connections get the new certificate, and a new user is
// let in. A file that is wrong changes neither.
func TestReload_Certificate(t *testing.T) {
	t.Parallel()
	dir, certificates, others := t.TempDir(), servicetest.Certificates(t), servicetest.Certificates(t)
	install := func(from func(string) string) {
		for _, name := range []string{"server.pem", "server.key"} {
			text, err := os.ReadFile(from(name))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), string(text))
		}
	}
	user := func(name string) string {
		return "{ user: " + name + ", password: secret, permissions: { publish: \"presence.v1.>\", subscribe: \"_INBOX.>\" } }"
	}
	config := func(users string) string {
		return "listen: \"127.0.0.1:-1\"\njetstream { store_dir: \"" + filepath.Join(dir, "store") + "\", sync_interval: always }\n" +
			"tls { cert_file: \"" + filepath.Join(dir, "server.pem") + "\", key_file: \"" + filepath.Join(dir, "server.key") + "\" }\n" +
			"accounts { PRESENCE { jetstream: enabled }, APP { users: [ " + users + " ] } }\n"
	}
	file := filepath.Join(dir, "nats.conf")
	install(certificates)
	write(t, file, config(user("alice")))
	d := servicetest.StartDaemon(t, "--nats-config", file)
	connect := func(name string, ca string) error {
		nc, err := nats.Connect(d.URL, nats.UserInfo(name, "secret"), nats.RootCAs(ca))
		if err == nil {
			_, err = nc.Request(subjects.Get(), []byte(`{"userIDList":["alice"]}`), waitFor)
			nc.Close()
		}
		return err
	}
	if err := connect("alice", certificates("ca.pem")); err != nil {
		t.Fatal(err)
	}
	install(others)
	write(t, file, config(user("alice")+", "+user("bob"))+"lisen: 1\n")
	hangup(t, d, "unknown field")
	if err := connect("alice", certificates("ca.pem")); err != nil {
		t.Errorf("after a wrong file the old certificate is gone: %v", err)
	}
	write(t, file, config(user("alice")+", "+user("bob")))
	hangup(t, d, "the configuration is read again")
	if a, b := connect("alice", certificates("ca.pem")), connect("bob", others("ca.pem")); a == nil || b != nil {
		t.Errorf("afterwards: by the old authority got %v, want an error; bob by the new one got %v", a, b)
	}
	d.Stop(t)
}

// TestReload_Systemd: systemd is told that a reload begins, when by its clock, and that it ends.
func TestReload_Systemd(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	told := make(chan string, 100)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := l.Read(b)
			if err != nil {
				close(told)
				return
			}
			told <- string(b[:n])
		}
	}()
	file := filepath.Join(dir, "env")
	write(t, file, "")
	d := servicetest.StartDaemonIn(t, []string{"NOTIFY_SOCKET=" + socket}, "--env-file", file)
	next := func() string {
		for s := range told {
			if !strings.HasPrefix(s, "STATUS=") {
				return s
			}
		}
		return "nothing"
	}
	if got := next(); got != "READY=1" {
		t.Fatalf("got %q, want READY=1", got)
	}
	hangup(t, d, "the configuration is read again")
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("got %q, want that it reloads", got)
	}
	if got := next(); got != "READY=1" {
		t.Errorf("got %q, want READY=1 after the reload", got)
	}
	d.Stop(t)
}

// TestEnvFile: what the file may hold, and one line about what it may not.
func TestEnvFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	for _, c := range []struct{ text, says string }{
		{"PRESENCED_GRACE\n", "line 1: it must be like PRESENCED_GRACE=10s"},
		{"\n; x\nGRACE=1s\n", "line 3: presenced has no option GRACE"},
		{"PRESENCED_SKIP=1\n", "no option PRESENCED_SKIP"},
		{"PRESENCED_GRACE=1s\nPRESENCED_GRACE=2s\n", "line 2: PRESENCED_GRACE is set in line 1 already"},
		{"PRESENCED_NAME=\"a\n", "PRESENCED_NAME must have no backslash, and no quotes but around all of it"},
		{"PRESENCED_NAME=a\\\n", "no backslash"},
		{"PRESENCED_GRACE=soon\n", file + ":1"},
		{"PRESENCED_REPLICAS=3\n", "--replicas goes with --nats-url or --nats-config"},
		{"PRESENCED_NATS_URL=nats://a:hunter2@b extra words \\\n", "PRESENCED_NATS_URL"},
		{"hunter2\n", "line 1"},
	} {
		write(t, file, c.text)
		code, _, stderr := call(t, "--env-file", file)
		if code != 2 || strings.Contains(stderr, "hunter2") {
			t.Errorf("%q: got exit code %d, want 2: %s", c.text, code, stderr)
		}
		wantOneLine(t, c.text, stderr, c.says)
	}
	code, _, stderr := call(t, "--env-file", filepath.Join(file, "none"))
	if code != 2 {
		t.Errorf("a file that is missing: got exit code %d, want 2", code)
	}
	wantOneLine(t, "a file that is missing", stderr, "--env-file", "none")
	lines, err := parseEnvFile("export PRESENCED_GRACE=7s\r\n\tPRESENCED_NAME= 'a b' \n#x\nPRESENCED_HTTP=\n", newKnown("grace", "name", "http"))
	if want := map[string]line{"PRESENCED_GRACE": {1, "7s"}, "PRESENCED_NAME": {2, "a b"}, "PRESENCED_HTTP": {4, ""}}; err != nil || !maps.Equal(lines, want) {
		t.Errorf("got %v and %v, want %v", lines, err, want)
	}
}

func newKnown(flags ...string) map[string]string {
	known := map[string]string{}
	for _, f := range flags {
		known[variableOf(f)] = f
	}
	return known
}
