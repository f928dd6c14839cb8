package processes

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

var (
	// 9153e71 is the earliest version whose data and instances this one gets on with.
	upgradeFrom = flag.String("from", "9153e71", "the `commit` that the tests of upgrades begin with")
	upgradeTime = flag.Duration("upgrade", 0, "how long TestG07_RollingUpgrade goes on after each instance that was replaced")
)

// earlierPresenced is the program of -from. Where its history is missing, the test is skipped.
func earlierPresenced(t *testing.T) string {
	t.Helper()
	return filepath.Join(servicetest.BuildEarlier(t, *upgradeFrom), "presenced")
}

// presencectl runs the command of this tree, which must succeed, and returns its output.
func presencectl(t *testing.T, url string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(servicetest.Build(t), "presencectl"), append([]string{"--server", url, "--timeout", "20s"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("presencectl %q: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

var monitorLine = regexp.MustCompile(`ready=(http://[^/]+)/readyz`)

// monitorURL is where a daemon with --http answers.
func monitorURL(t testing.TB, d *servicetest.Daemon) string {
	t.Helper()
	address := monitorLine.FindStringSubmatch(d.Stderr())
	if address == nil {
		t.Fatalf("the daemon does not say where its metrics are:\n%s", d.Stderr())
	}
	return address[1]
}

// monitor reads a page of a daemon with --http.
func monitor(t testing.TB, d *servicetest.Daemon, page string) (code int, text string) {
	t.Helper()
	r, err := http.Get(monitorURL(t, d) + page)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// figure reads a metric without labels.
func figure(t testing.TB, d *servicetest.Daemon, name string) int {
	t.Helper()
	_, text := monitor(t, d, "/metrics")
	return number(t, `(?m)^`+name+` (\d+)$`, text)
}

// newestFormat is that of journal and snapshots which an instance of this tree knows.
func newestFormat(t *testing.T, nc *nats.Conn) (newest int) {
	t.Helper()
	for _, i := range wire.Must[protocol.StatsReply](t, nc, wire.Subjects.Stats(), "{}").Instances {
		newest = max(newest, i.Format)
	}
	return newest
}

// awaitFormat waits until the newest format is in use on all of the daemons.
func awaitFormat(t *testing.T, nc *nats.Conn, daemons ...*servicetest.Daemon) {
	t.Helper()
	// A minute after the last earlier instance has gone.
	newest, begun := newestFormat(t, nc), time.Now()
	for _, d := range daemons {
		servicetest.Eventually(t, time.Minute+3*wire.Soon, "the newest format", func() bool { return figure(t, d, "presence_journal_format") == newest })
	}
	t.Logf("format %d is in use after %v", newest, time.Since(begun).Round(time.Second))
}

// eraseForSnapshots erases a user, and has what is known of the user leave the snapshots. So the
// instance that answers stores two new ones, whatever its place among the others. An earlier
// version may know nothing of that.
func eraseForSnapshots(t *testing.T, nc *nats.Conn, user string) {
	t.Helper()
	wire.SetText(t, nc, user, "to be erased")
	wire.Must[protocol.KickReply](t, nc, wire.Subjects.Erase(), protocol.EraseRequest{UserID: user, Trim: true})
}

// refusesToStart checks that an earlier presenced does not start where a newer format is in
// use, and says why.
func refusesToStart(t *testing.T, program string, args ...string) {
	t.Helper()
	code, stdout, stderr := servicetest.RunProgram(t, program, nil, args...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "start a newer version") {
		t.Errorf("the earlier version: got exit code %d, %q and\n%swant 1, nothing, and to start a newer version", code, stdout, stderr)
	}
}

// decode reads JSON that a command wrote.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}
