package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/pkg/service/servicetest"
)

// wantJSON fails where a line is not JSON, and returns the lines.
func wantJSON(t *testing.T, stderr string) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(stderr) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("not a line of JSON: %s", line)
		}
		list = append(list, l)
	}
	return list
}

// TestJSONLog_WholeLife: from the first line to the last all is JSON, and durations
// have a unit.
func TestJSONLog_WholeLife(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--log-format", "json", "--log-level", "debug", "--http", "127.0.0.1:0")
	d.Signal(t, syscall.SIGHUP)
	d.Stop(t)
	durations := 0
	for _, l := range wantJSON(t, d.Stderr()) {
		if took, ok := l["took"]; ok {
			durations++
			if text, ok := took.(string); !ok || text == "" {
				t.Errorf("took is %v, want a text such as 1.5s: %v", took, l)
			} else if _, err := time.ParseDuration(text); err != nil {
				t.Errorf("took: %v", err)
			}
		}
	}
	if durations < 2 {
		t.Errorf("%d durations were logged, want those of start and stop", durations)
	}
}

// TestJSONLog_Errors: so is what ends it, once the command line is understood.
func TestJSONLog_Errors(t *testing.T) {
	for _, c := range []struct {
		args []string
		code float64
		says string
	}{
		{[]string{"--data", t.TempDir(), "--listen", "0.0.0.0:0"}, 1, "not authenticated"},
		{[]string{"--nats-config", "/does/not/exist.conf"}, 2, "/does/not/exist.conf"},
		{[]string{"--nats-url", "nats://127.0.0.1:1", "--single-account"}, 1, "no NATS server"},
	} {
		code, _, stderr := call(t, append(c.args, "--log-format", "json")...)
		lines := wantJSON(t, stderr)
		if len(lines) == 0 {
			t.Errorf("%q: nothing is said", c.args)
			continue
		}
		last := lines[len(lines)-1]
		if text, _ := last["err"].(string); float64(code) != c.code || last["code"] != c.code || !strings.Contains(text, c.says) || last["level"] != "ERROR" {
			t.Errorf("%q: got exit code %d and %v, want %v and %q", c.args, code, last, c.code, c.says)
		}
	}
}

// TestJSONLog_Libraries: what libraries log while they are initialized is taken,
// because stdlog comes before all that could: those that import net/http.
func TestJSONLog_Libraries(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(filepath.Join(servicetest.Build(t), "presenced"), "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	order := string(out)
	first := strings.Index(order, "init presence/cmd/presenced/internal/stdlog @")
	for _, library := range []string{"net/http", "github.com/VictoriaMetrics/metrics", "github.com/nats-io/nats%2ego", "github.com/nats-io/nats-server/v2/server"} {
		if at := strings.Index(order, "init "+library+" @"); first < 0 || at < first {
			t.Errorf("%s is initialized at %d, before stdlog at %d", library, at, first)
		}
	}
	if t.Failed() {
		t.Log(order)
	}
}

// TestFirstLine: the log begins with which program runs, where, and on what.
func TestFirstLine(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--log-format", "json", "--name", "web-1", "--sync", "interval", "--websocket", "127.0.0.1:0", "--http", "127.0.0.1:0")
	d.Stop(t)
	first := wantJSON(t, d.Stderr())[0]
	for key, want := range map[string]any{
		"msg": "presenced starts", "name": "web-1", "data": d.DataDir, "sync": "interval", "replicas": 1.0, "pid": float64(d.PID()), "nats": "127.0.0.1:0, websocket 127.0.0.1:0",
	} {
		if first[key] != want {
			t.Errorf("%s: got %v, want %v in %v", key, first[key], want, first)
		}
	}
	if first["version"] == nil || first["ready"] == nil {
		t.Errorf("version or the address of HTTP is missing: %v", first)
	}
}

// TestFirstLine_File: with a configuration file it says what the file says.
func TestFirstLine_File(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("STORE", dir)
	d := servicetest.StartDaemon(t, "--nats-config", "testdata/single.conf", "--log-format", "json")
	d.Stop(t)
	first := wantJSON(t, d.Stderr())[0]
	if first["msg"] != "presenced starts" || first["config"] != "testdata/single.conf" || first["data"] != dir || first["sync"] != "always" || first["nats"] != "127.0.0.1:-1" {
		t.Errorf("got the first line %v", first)
	}
}
