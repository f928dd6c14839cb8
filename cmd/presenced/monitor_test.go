package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"presence/pkg/service/servicetest"
)

// fetch returns the status and the body of a page.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: waitFor, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

var readyURL = regexp.MustCompile(`ready=(http://\S+)/readyz`)

// monitorOf returns where a daemon says that it answers by HTTP.
func monitorOf(t *testing.T, d *servicetest.Daemon) string {
	t.Helper()
	m := readyURL.FindStringSubmatch(d.Stderr())
	if m == nil {
		t.Fatalf("the log does not say where to ask by HTTP:\n%s", d.Stderr())
	}
	return m[1]
}

// metricLine is one line of Prometheus' text format.
var metricLine = regexp.MustCompile(`^([a-z_]+)(\{[A-Za-z_]+="[^"]*"(, ?[A-Za-z_]+="[^"]*")*\})? (NaN|[-+0-9.e]+)$`)

func TestMonitor(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--http", "127.0.0.1:0")
	url := monitorOf(t, d)
	nc := d.Connect(t)
	login(t, nc, "alice", `{"platform":"web"}`)
	if _, err := nc.Request(subjects.Get(), []byte("not JSON"), waitFor); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/": "/readyz", "/healthz": "alive\n", "/readyz": "ready\n"} {
		if code, body := fetch(t, url+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %q, want 200 and %q", path, code, body, want)
		}
	}
	if code, _ := fetch(t, url+"/metrics/no"); code != 404 {
		t.Errorf("an unknown page: got %d, want 404", code)
	}

	_, page := fetch(t, url+"/metrics")
	for _, want := range []string{
		"presence_ready 1\n", `presence_users{status="online"} 1` + "\n", "presence_sessions 1\n", "presence_leases 1\n",
		`presence_requests_total{endpoint="login"} 1` + "\n", `presence_request_errors_total{endpoint="get",error="invalid_request"} 1` + "\n",
		"presence_instances 1\n", "presence_digest_mismatches_total 0\n", "go_goroutines ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(page) {
		m := metricLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		switch {
		case m == nil && !strings.HasPrefix(line, "# "):
			t.Errorf("/metrics: a line that is no figure: %q", line)
		case m != nil:
			seen[m[1]] = true
		}
	}
	for _, m := range metricsTable {
		if m.kind == histogram {
			m.name += "_count"
		}
		if !seen["presence_"+m.name] && m.name != "snapshot_age_seconds" { // there is no snapshot yet
			t.Errorf("/metrics lacks %s", m.name)
		}
	}
	if strings.Contains(page, "alice") {
		t.Error("/metrics names a user")
	}
	testDashboard(t, url)

	address := strings.TrimPrefix(url, "http://")
	code, _, stderr := servicetest.RunDaemon(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--http", address)
	if code != 1 {
		t.Errorf("--http on a port in use: got exit code %d, want 1", code)
	}
	wantOneLine(t, "--http on a port in use", stderr, "--http", address)
}

// testDashboard: the page is there for who names loopback, and tells of this service.
func testDashboard(t *testing.T, url string) {
	if code, body := fetch(t, url+"/dashboard/"); code != 200 || !strings.Contains(body, "dashboard.js") {
		t.Errorf("/dashboard/: got %d %.200q", code, body)
	}
	ask := func(path, host, accept string) *http.Response {
		ctx, cancel := context.WithTimeout(t.Context(), waitFor)
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Accept", accept)
		reply, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reply.Body.Close() })
		return reply
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	for host, want := range map[string]int{"localhost:" + port: 200, "LOCALHOST": 200, "[::1]": 200, "rebound.example:" + port: 403, "": 200} {
		if reply := ask("/dashboard/", host, "*/*"); reply.StatusCode != want {
			t.Errorf("/dashboard/ of host %q: got %d, want %d", host, reply.StatusCode, want)
		}
	}
	if reply := ask("/", "", "text/html,*/*"); reply.StatusCode != http.StatusFound || reply.Header.Get("Location") != "/dashboard/" {
		t.Errorf("a browser at /: got %d to %q", reply.StatusCode, reply.Header.Get("Location"))
	}
	lines := bufio.NewScanner(ask("/dashboard/events", "", "text/event-stream").Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "alice") {
			t.Error("/dashboard/events names a user")
		}
		if strings.Contains(lines.Text(), `"ready":true`) && strings.Contains(lines.Text(), `"online":1`) {
			return
		}
	}
	t.Errorf("/dashboard/events does not tell that the service is ready and a user online: %v", lines.Err())
}

// While the NATS server is away the daemon is alive, and not ready.
func TestMonitor_NotReady(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	d := servicetest.StartDaemon(t, onServer(s, "--http", "127.0.0.1:0")...)
	url := monitorOf(t, d)
	s.Stop(t)
	servicetest.Eventually(t, waitFor, "not to be ready", func() bool {
		code, body := fetch(t, url+"/readyz")
		return code == 503 && strings.HasPrefix(body, "stale: ") && strings.Count(body, "\n") == 1
	})
	if code, _ := fetch(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz meanwhile: got %d, want 200", code)
	}
	if _, page := fetch(t, url+"/metrics"); !strings.Contains(page, "presence_ready 0\n") {
		t.Error("/metrics meanwhile says that it is ready")
	}
	s.Restart(t)
	servicetest.Eventually(t, waitFor, "to be ready again", func() bool {
		code, _ := fetch(t, url+"/readyz")
		return code == 200
	})
}

// Before there is a service the monitor says what is waited for, by HTTP and to
// systemd, which is asked for patience too.
func TestMonitor_Starting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	m, err := newMonitor("127.0.0.1:0", (&config{logFormat: formatText}).logger(t.Output(), slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	m.starting("waiting for JetStream")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.run(ctx) }()
	url := "http://" + m.listener.Addr().String()
	if code, body := fetch(t, url+"/readyz"); code != 503 || body != "waiting for JetStream\n" {
		t.Errorf("/readyz: got %d %q", code, body)
	}
	if code, page := fetch(t, url+"/metrics"); code != 200 || !strings.Contains(page, "presence_ready 0\n") {
		t.Errorf("/metrics: got %d and not presence_ready 0", code)
	}
	b := make([]byte, 200)
	socket.SetReadDeadline(time.Now().Add(waitFor))
	n, err := socket.Read(b)
	if got, want := string(b[:n]), "STATUS=waiting for JetStream\nEXTEND_TIMEOUT_USEC=30000000"; err != nil || got != want {
		t.Errorf("systemd was told %q, %v, want %q", got, err, want)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}
