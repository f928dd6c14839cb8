package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/cmd/internal/layout"
	"presence/cmd/internal/semver"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// These tests are white-box because run is what main calls. The tests of the
// process are in process_test.go.

func TestMain(m *testing.M) { servicetest.Main(m) }

const waitFor = 30 * time.Second

// call is run and report: what the process would do, without one.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	var out, errs bytes.Buffer
	code = report(run(ctx, append([]string{"presenced"}, args...), strings.NewReader(""), &out, &errs), &errs)
	return code, out.String(), errs.String()
}

func TestWrongUsage(t *testing.T) {
	data := t.TempDir()
	t.Setenv("STORE", data) // of testdata/single.conf
	for _, c := range []struct{ args, says string }{
		{"--bogus", "--bogus"},
		{"extra", `"extra"`},
		{"--grace", "--grace"},
		{"--grace soon", "--grace"},
		{"--grace 0", `invalid value "0" for --grace: must be 1ms to 1h, in multiples of 1ms`},
		{"--grace 500us", "for --grace: must be 1ms to 1h"},
		{"--max-grace 301s", "for --max-grace: must be 1s to 5m, in multiples of 1s"},
		{"--max-grace 500ms", "for --max-grace: must be 1s to 5m"},
		{"--retention 366000d", "for --retention"},
		{"--retention 1s", "for --retention: must be 1m to 3660d"},
		{"--journal-keep 0s", "for --journal-keep: must be 1s to 3660d"},
		{"--snapshot-entries 0", "--snapshot-entries must be more than 0"},
		{"--snapshot-entries many", `invalid value "many" for --snapshot-entries: "many" is not such a number`},
		{"--max-contacts 99999999999999999999", `"99999999999999999999" is too large`},
		{"--insecure=maybe", "for --insecure: it is neither true nor false"},
		{"--nats-url nats://127.0.0.1:1 --single-account --replicas 0", "--replicas must be more than 0"},
		{"--nats-url nats://127.0.0.1:1 --single-account --replicas 9", "the journal must have 1 to 5 replicas"},
		{"--sync never", "--sync must be always or interval"},
		{"--log-level loud", "--log-level"},
		{"--log-format xml", "--log-format"},
		{"--pprof", "--pprof shows the inside of the process, so it is for this machine only: give --http a loopback address"},
		{"--pprof --http 0.0.0.0:8222", "give --http a loopback address"},
		{"--check --grace soon", "--grace"},
		{"config extra", `unexpected argument "extra"`},
		{"config --grace soon", "--grace"},
		{"config --nonsense", "--nonsense"},
		{"--env-file /does/not/exist", "--env-file: open /does/not/exist: no such file"},
		{"--name=", "--name must not be empty"},
		{"--name " + strings.Repeat("x", 64), "the name of an instance must have 1 to 63 bytes"},
		{"--prefix a..b", "prefix"},
		{"--http 8222", "--http must be host:port"},
		{"--origin http://localhost:5173", "--origin goes with --websocket"},
		{"--websocket 127.0.0.1:0 --origin localhost:5173", `--origin: "localhost:5173" is no origin of a web page`},
		{"--nats-config nats.conf --websocket 127.0.0.1:0", "--websocket does not go with --nats-config, where the file says it: websocket { listen"},
		{"--nats-config nats.conf --origin http://localhost:5173", "websocket { allowed_origins"},
		{"--nats-url nats://127.0.0.1:1 --websocket 127.0.0.1:0 --single-account", "--websocket is about the NATS server inside"},
		{"--demo --http 0.0.0.0:8222", "--demo is for this machine only, because its users prove nothing: give --http a loopback address"},
		{"--demo --http :8222", "give --http a loopback address"},
		{"--demo --insecure --websocket 0.0.0.0:9222", "give --websocket a loopback address"},
		{"--demo --nats-config nats.conf", "--demo does not go with --nats-config"},
		{"--demo --nats-url nats://127.0.0.1:1 --single-account", "--demo is about the NATS server inside"},
		{"--creds x.creds", "--creds goes with --nats-url"},
		{"--tlsca ca.pem", "--tlsca goes with --nats-url"},
		{"--nats-config nats.conf --tlscert c.pem", "--tlscert goes with --nats-url"},
		{"--nats-url nats://127.0.0.1:1 --single-account --tlskey k.pem", "--tlscert and --tlskey go together"},
		{"--single-account", "--single-account goes with --nats-url or --nats-config"},
		{"--replicas 3", "--replicas goes with --nats-url or --nats-config"},
		{"--clients-account A", "--clients-account goes with --nats-url or --nats-config"},
		{"--journal-account A", "--journal-account goes with --nats-config"},
		{"--nats-config nats.conf --listen 127.0.0.1:0", "--listen does not go with --nats-config"},
		{"--nats-config nats.conf --data " + data, "--data does not go with --nats-config, where the file says it: jetstream { store_dir"},
		{"--nats-config nats.conf --sync always", "sync_interval: always"},
		{"--nats-config nats.conf --creds x.creds", "--creds and --journal-creds go together"},
		{"--nats-config nats.conf --system-creds x.creds", "--creds and --journal-creds go together"},
		{"--nats-config nats.conf --journal-url nats://127.0.0.1:1", "--journal-url goes with --nats-url"},
		{"--nats-config testdata/single.conf --creds x.creds --journal-creds y.creds --log-level error", "testdata/single.conf: it has no operator"},
		{"--nats-config nats.conf --nats-url nats://127.0.0.1:1 --single-account", "--nats-config is about the NATS server inside"},
		{"--nats-url nats://127.0.0.1:1 --insecure --single-account", "--insecure is about the NATS server inside"},
		{"--nats-url nats://127.0.0.1:1 --journal-account A --single-account", "--journal-creds"},
		{"--nats-config nats.conf --single-account --journal-account A", "contradict"},
		{"--nats-config /does/not/exist.conf", "/does/not/exist.conf: no such file"},
		{"--nats-config testdata/single.conf --replicas 3 --log-level error", "testdata/single.conf: 3 replicas"},
		{"--nats-config testdata/single.conf --clients-account USERS --log-level error", "no account USERS"},
		{"--nats-url nats://127.0.0.1:1 --data " + data, "--data"},
		{"--nats-url nats://127.0.0.1:1 --listen 127.0.0.1:0", "--listen"},
		{"--nats-url nats://127.0.0.1:1", "--journal-creds"},
		{"--nats-url nats:// --single-account", "URL"},
		{"--data /dev/null --grace 100h", "for --grace: must be 1ms to 1h"},
		{"--data /dev/null --custom-status-policy never", "policy"},
		{"--data /dev/null --max-custom-status -1", "max-custom-status must be 1 to 4096"},
	} {
		code, stdout, stderr := call(t, strings.Fields(c.args)...)
		if code != 2 {
			t.Errorf("presenced %s: got exit code %d, want 2", c.args, code)
		}
		if stdout != "" {
			t.Errorf("presenced %s: wrote to stdout: %s", c.args, stdout)
		}
		wantOneLine(t, "presenced "+c.args, stderr, c.says)
	}
}

func wantOneLine(t *testing.T, what, stderr string, says ...string) {
	t.Helper()
	if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "presenced: ") {
		t.Errorf("%s: got on stderr\n%swant one line from presenced", what, stderr)
	}
	for _, s := range says {
		if !strings.Contains(stderr, s) {
			t.Errorf("%s: got %swant it to say %q", what, stderr, s)
		}
	}
}

func TestWrongEnvironment(t *testing.T) {
	t.Setenv("PRESENCED_GRACE", "soon")
	code, _, stderr := call(t)
	if code != 2 {
		t.Errorf("PRESENCED_GRACE=soon: got exit code %d, want 2", code)
	}
	wantOneLine(t, "PRESENCED_GRACE=soon", stderr, "PRESENCED_GRACE")
}

// The help must not show what an operator keeps in the environment.
func TestHelpAndVersion(t *testing.T) {
	t.Setenv("PRESENCED_NATS_URL", "nats://user:hunter2@example.com")
	for _, flag := range []string{"--help", "-h", "--version", "-v"} {
		code, stdout, stderr := call(t, flag)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "presenced") {
			t.Errorf("presenced %s: got %d, %q, %q", flag, code, stdout, stderr)
		}
		if strings.Contains(stdout, "hunter2") {
			t.Errorf("presenced %s shows a password", flag)
		}
	}
}

// TestFits_Help: the help fits a terminal of 80 columns.
func TestFits_Help(t *testing.T) {
	_, stdout, _ := call(t, "--help")
	for _, command := range []string{commandBackup, commandRestore} {
		code, help, stderr := call(t, command, "--help")
		if code != 0 || stderr != "" || !strings.Contains(help, "presenced [options] "+command+" FILE") {
			t.Errorf("%s --help: got %d, %s%s", command, code, help, stderr)
		}
		stdout += help
	}
	for line := range strings.Lines(stdout) {
		if width := layout.Width(strings.TrimRight(line, "\n")); width > layout.Columns {
			t.Errorf("a line of %d cells: %s", width, line)
		}
	}
}

// Every limit is a flag, whose default is the one in force.
func TestLimitsAreFlags(t *testing.T) {
	_, stdout, _ := call(t, "--help")
	for _, l := range new(service.Limits).List() {
		flag := regexp.MustCompile(`--` + l.Name + ` NUMBER [^(]*(\([^(]*)?\(default: ` + strconv.Itoa(l.Default) + `\)`)
		if !flag.MatchString(strings.Join(strings.Fields(stdout), " ")) {
			t.Errorf("the help has no --%s with the default %d", l.Name, l.Default)
		}
	}
	code, _, stderr := call(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--gateway-ops", "5")
	if code != 2 || !strings.Contains(stderr, "the limit gateway-ops must be 200 to") {
		t.Errorf("--gateway-ops 5: got exit code %d and %s", code, stderr)
	}
}

func TestPasswordIsNotInErrors(t *testing.T) {
	for _, url := range []string{"nats://user:hunter2@127.0.0.1:1", "nats://user:hunter2@:bad:", "user:hunter2@127.0.0.1:1"} {
		code, _, stderr := call(t, "--single-account", "--nats-url", url)
		if code == 0 || strings.Contains(stderr, "hunter2") {
			t.Errorf("--nats-url %s: got exit code %d and %s", url, code, stderr)
		}
	}
}

func TestDefaultData(t *testing.T) {
	none := func(string) bool { return false }
	base := config{logLevel: "info", logFormat: formatText, sync: syncAlways, settings: service.Config{Prefix: "p"}}
	for _, c := range []struct{ stateDirectory, xdg, home, want string }{
		{"/var/lib/presenced:/var/lib/other", "/xdg", "/home/u", "/var/lib/presenced"},
		{"", "/xdg", "/home/u", "/xdg/presenced"},
		{"", "relative", "/home/u", "/home/u/.local/state/presenced"},
		{"", "", "/home/u", "/home/u/.local/state/presenced"},
	} {
		t.Setenv("STATE_DIRECTORY", c.stateDirectory)
		t.Setenv("XDG_STATE_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		cfg := base
		if err := cfg.complete(none); err != nil || cfg.data != filepath.FromSlash(c.want) {
			t.Errorf("%+v: got %q, %v", c, cfg.data, err)
		}
	}
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "")
	cfg := base
	if err := cfg.complete(none); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("without a home: got %q, %v, want an error that names --data", cfg.data, err)
	}
}

func TestSemanticVersion(t *testing.T) {
	for v, want := range map[string]string{
		"1.2.3":                           "1.2.3",
		"v1.2.3":                          "1.2.3",
		"v0.1.0-3-gabc1234-dirty":         "0.1.0-3-gabc1234-dirty",
		"v0.0.0-20261123085052-abc+dirty": "0.0.0-20261123085052-abc+dirty",
		"2365be5-dirty":                   "0.0.0+2365be5-dirty",
		"(devel)":                         "0.0.0+devel",
		"dev":                             "0.0.0+dev",
		"1.2.3-01":                        "0.0.0+1-2-3-01",
		"":                                "0.0.0",
		"()":                              "0.0.0",
	} {
		if got := semver.Of(v); got != want {
			t.Errorf("semver.Of(%q): got %q, want %q", v, got, want)
		}
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	code, stdout, stderr := call(t, "--data", t.TempDir(), "--listen", l.Addr().String())
	if code != 1 || stdout != "" {
		t.Errorf("got exit code %d and %q on stdout, want 1 and nothing", code, stdout)
	}
	wantOneLine(t, "port in use", stderr, l.Addr().String(), "in use")
}

func TestNotLoopback(t *testing.T) {
	code, _, stderr := call(t, "--data", t.TempDir(), "--listen", "0.0.0.0:0")
	if code != 1 {
		t.Errorf("got exit code %d, want 1", code)
	}
	wantOneLine(t, "--listen 0.0.0.0:0", stderr, "not authenticated")
}

// run serves until its context is done, and leaves nothing behind.
func TestRunUntilCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout := &buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"presenced", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--prefix", "test.v9"}, nil, stdout, io.Discard)
	}()
	servicetest.Eventually(t, waitFor, "the welcome", func() bool { return strings.Contains(stdout.String(), "login alice") })
	for _, want := range []string{"is ready on nats://127.0.0.1:", " --server nats://127.0.0.1:", " --prefix test.v9 watch alice"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("got the welcome\n%swant it to say %q", stdout, want)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(waitFor):
		t.Fatal("run did not return")
	}
}

// A server of its own from a file: the welcome says where and how clients come in.
func TestRunFromFile(t *testing.T) {
	for _, c := range []struct {
		file string
		says []string
		not  string
	}{
		{"single.conf", []string{"ready on nats://127.0.0.1:", " --server nats://127.0.0.1:"}, "--user"},
		{"users.conf", []string{"ready on nats://presence.example.com:4333\n", "Try, with credentials of yours: ", " --server nats://presence.example.com:4333 --inbox-prefix _INBOX.ROLE.NAME --nkey FILE watch alice"}, "127.0.0.1"},
	} {
		t.Setenv("STORE", t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stdout, stderr := &buffer{}, &buffer{}
		done := make(chan error, 1)
		go func() {
			done <- run(ctx, []string{"presenced", "--nats-config", filepath.Join("testdata", c.file)}, nil, stdout, stderr)
		}()
		servicetest.Eventually(t, waitFor, "the welcome", func() bool { return strings.Contains(stdout.String(), " watch alice") || len(done) > 0 })
		for _, want := range c.says {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: got the welcome\n%swant it to say %q", c.file, stdout, want)
			}
		}
		if strings.Contains(stdout.String(), c.not) {
			t.Errorf("%s: got the welcome\n%swant it not to say %q", c.file, stdout, c.not)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: run: %v", c.file, err)
		}
		if strings.Contains(stderr.String(), "level=WARN") {
			t.Errorf("%s: an ordinary life warns:\n%s", c.file, stderr)
		}
	}
}

// The first server of a cluster waits for the others, says so, and ends on a
// signal meanwhile.
func TestWaitsForCluster(t *testing.T) {
	t.Setenv("STORE", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := &buffer{}, &buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"presenced", "--nats-config", "testdata/cluster.conf", "--replicas", "3"}, nil, stdout, stderr)
	}()
	servicetest.Eventually(t, waitFor, "it to say what it waits for", func() bool {
		return len(done) > 0 || strings.Contains(stderr.String(), "waiting for a majority of the cluster's servers")
	})
	if !strings.Contains(stderr.String(), "connected=1 of=3") || stdout.String() != "" || strings.Contains(stderr.String(), "Waiting for routing") {
		t.Errorf("got\n%s%s\nwant once what is waited for, and nothing on stdout", stdout, stderr)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(waitFor):
		t.Fatal("run did not return")
	}
}

// A signal during the start is no failure.
func TestCancelledAtTheStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"presenced", "--data", t.TempDir(), "--listen", "127.0.0.1:0"}, nil, io.Discard, io.Discard); err != nil {
		t.Errorf("run: %v", err)
	}
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
