package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// wantLines checks the lines of --check: each says in its order a result, what it is about, and a text.
func wantLines(t *testing.T, code int, stdout string, wantCode int, want ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("got exit code %d, want %d:\n%s", code, wantCode, stdout)
	}
	for _, w := range want {
		if !regexp.MustCompile(`(?m)^` + w).MatchString(stdout) {
			t.Errorf("there is no line like %q in\n%s", w, stdout)
		}
	}
}

// TestCheck: what a start needs is checked, and nothing is left behind.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "a", "data")
	code, stdout, stderr := call(t, "--check", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	wantLines(t, code, stdout, 0, `ok    config +NATS on 127\.0\.0\.1:0, sync always$`, `ok    data .*will be made`, `(ok|warn)  +disk `, `ok    listen `, `ok    http `)
	if left, _ := os.ReadDir(dir); len(left) != 0 || stderr != "" {
		t.Errorf("%d entries are left, and on stderr %q", len(left), stderr)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	code, stdout, _ = call(t, "--check", "--data", data, "--listen", at, "--http", at)
	wantLines(t, code, stdout, 1, `FAIL  listen .*in use`, `FAIL  http +--http: .*in use`)
	code, stdout, _ = call(t, "--check", "--data", "/dev/null", "--listen", "127.0.0.1:0")
	wantLines(t, code, stdout, 1, `FAIL  data +data directory /dev/null cannot be used: not a directory`, `ok    listen `)
	if os.Getuid() != 0 { // to whom no permission is denied
		if err := os.Mkdir(filepath.Join(dir, "foreign"), 0o500); err != nil {
			t.Fatal(err)
		}
		code, stdout, _ = call(t, "--check", "--data", filepath.Join(dir, "foreign"), "--listen", "127.0.0.1:0")
		wantLines(t, code, stdout, 1, `FAIL  data .*permission denied for user \d+, who runs presenced: make it that user's`)
		if err := os.Remove(filepath.Join(dir, "foreign")); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Mkdir(filepath.Join(dir, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	head := filepath.Join(dir, "open", headName)
	write(t, head, "")
	if err := os.Chtimes(head, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = call(t, "--check", "--data", filepath.Join(dir, "open"), "--listen", "127.0.0.1:0")
	wantLines(t, code, stdout, 0, `warn  data .*mode 0755.*chmod 700`, `warn  clock .*behind the last change of the journal`)

	t.Setenv("STORE", filepath.Join(dir, "store"))
	code, stdout, _ = call(t, "--check", "--nats-config", "testdata/single.conf")
	wantLines(t, code, stdout, 0, `ok    config `, `ok    data .*store will be made`)
	code, stdout, _ = call(t, "--check", "--nats-config", "testdata/single.conf", "--clients-account", "USERS")
	wantLines(t, code, stdout, 1, `FAIL  config .*no account USERS`)
}

// TestCheck_Runs: beside a presenced on the same data it says that this one runs, and disturbs nothing.
func TestCheck_Runs(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t)
	login(t, d.Connect(t), "alice", "{}")
	code, stdout, _ := servicetest.RunDaemon(t, "--check", "--data", d.DataDir, "--listen", strings.TrimPrefix(d.URL, "nats://"))
	wantLines(t, code, stdout, 0, `warn  data .*in use by another presenced \(pid \d+\): it runs`, `warn  listen .*in use`)
	login(t, d.Connect(t), "bob", "{}")
	d.Stop(t)
	d.Restart(t)
	login(t, d.Connect(t), "carol", "{}")
	d.Stop(t)
}

// TestCheck_External: on a server of somebody else it enters all accounts and looks at the stream.
func TestCheck_External(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	args := onServer(s, "--system-url", s.URLAs(servicetest.SystemUser))
	code, stdout, _ := call(t, append(args, "--check")...)
	wantLines(t, code, stdout, 0, `ok    connect `, `ok    journal +it will be made`)
	d := servicetest.StartDaemon(t, args...)
	code, stdout, _ = call(t, append(args, "--check")...)
	wantLines(t, code, stdout, 0, `ok    journal +the stream PRESENCE_JOURNAL has the right settings`, `ok    clock `)
	d.Stop(t)

	nc, err := nats.Connect(s.URLAs(servicetest.JournalUser))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	stream, err := js.Stream(ctx, journalStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxAge = time.Hour
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = call(t, append(args, "--check")...)
	wantLines(t, code, stdout, 1, `FAIL  journal .*max_age`)
	code, stdout, _ = call(t, "--check", "--nats-url", "nats://127.0.0.1:1", "--single-account")
	wantLines(t, code, stdout, 1, `FAIL  connect +there is no NATS server at nats://127\.0\.0\.1:1: start it`)
}

// TestConfig: every option is shown with its source, and no password.
func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	write(t, file, "\nPRESENCED_MAX_BODY=1000\nPRESENCED_GRACE=9s\nPRESENCED_NAME=x\n")
	t.Setenv("PRESENCED_NAME", "web-1")
	t.Setenv("PRESENCED_NATS_URL", "nats://u:hunter2@127.0.0.1:1,nats://tok%20en@127.0.0.1:2")
	t.Setenv("PRESENCED_ENV_FILE", file)
	var list []struct{ Name, Value, Source string }
	code, stdout, stderr := call(t, "--grace", "90s", "config", "--single-account", "--json")
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 {
		t.Fatalf("got exit code %d and %v: %s%s", code, err, stdout, stderr)
	}
	got := map[string][2]string{}
	for _, o := range list {
		got[o.Name] = [2]string{o.Value, o.Source}
	}
	for name, want := range map[string][2]string{
		"grace": {"1m30s", "command line"}, "max-body": {"1000", file + ":2"}, "name": {"web-1", "environment PRESENCED_NAME"}, "retention": {"7d", "default"},
		"single-account": {"true", "command line"}, "nats-url": {"nats://xxxxx@127.0.0.1:1,nats://xxxxx@127.0.0.1:2", "environment PRESENCED_NATS_URL"}, "env-file": {file, "environment PRESENCED_ENV_FILE"},
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	code, stdout, _ = call(t, "config", "--single-account")
	if code != 0 || strings.Contains(stdout, "hunter2") || !strings.Contains(stdout, "without effect: "+file+":4: PRESENCED_NAME is given by the environment") {
		t.Errorf("got exit code %d and\n%s", code, stdout)
	}
}

// TestPprof: profiles are for those who name loopback, and there without --pprof not at all.
func TestPprof(t *testing.T) {
	t.Parallel()
	with := servicetest.StartDaemon(t, "--http", "127.0.0.1:0", "--pprof")
	url := monitorOf(t, with)
	if code, body := fetch(t, url+"/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("got %d %s", code, body)
	}
	nc, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = nc.Write([]byte("GET /debug/pprof/ HTTP/1.1\r\nHost: page.example.com\r\nConnection: close\r\n\r\n"))
	answer := make([]byte, 100)
	if n, _ := nc.Read(answer); !strings.Contains(string(answer[:n]), "403") {
		t.Errorf("by the name of a page: got %s", answer[:n])
	}
	without := servicetest.StartDaemon(t, "--http", "127.0.0.1:0")
	if code, _ := fetch(t, monitorOf(t, without)+"/debug/pprof/"); code != 404 {
		t.Errorf("without --pprof: got %d", code)
	}
	with.Stop(t)
	without.Stop(t)
}

// TestWatchdog: systemd's watchdog hears that presenced is alive as long as its state can be asked.
func TestWatchdog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "100000")
	m := &monitor{log: (&config{logFormat: formatText}).logger(t.Output(), nil), phase: "starting"}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { m.tellSystemd(ctx); close(ended) }()
	alive := func(within time.Duration) bool {
		b := make([]byte, 4096)
		for {
			l.SetReadDeadline(time.Now().Add(within))
			n, err := l.Read(b)
			if err != nil {
				return false
			}
			if string(b[:n]) == "WATCHDOG=1" {
				return true
			}
		}
	}
	for range 3 {
		if !alive(waitFor) {
			t.Fatal("the watchdog hears nothing")
		}
	}
	m.mu.Lock() // which is what a state that cannot be asked does
	for alive(time.Second) {
	}
	m.mu.Unlock()
	if !alive(waitFor) {
		t.Error("the watchdog hears nothing, though the lock is free again")
	}
	stop()
	<-ended
}
