// Package monitoring tests the page of figures, the alert rules and the dashboard against a
// presenced that runs.
package monitoring

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	root    = "../.."
	waitFor = 60 * time.Second
)

// page is the page of figures of a presenced that has done a little of everything. TestMain makes
// it, for all tests.
var page []byte

func TestMain(m *testing.M) {
	var err error
	if page, err = scrape(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// output is what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// await waits until the output has a pattern, and returns what its parentheses match.
func (o *output) await(pattern string) (string, error) {
	re := regexp.MustCompile(pattern)
	for begun := time.Now(); time.Since(begun) < waitFor; time.Sleep(10 * time.Millisecond) {
		o.mu.Lock()
		found := re.FindSubmatch(o.b.Bytes())
		o.mu.Unlock()
		if found != nil {
			return string(found[1]), nil
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return "", fmt.Errorf("presenced does not write %s:\n%s", pattern, o.b.Bytes())
}

// scrape runs a presenced, has it do a little of everything, and returns its page of figures.
func scrape() ([]byte, error) {
	dir, err := os.MkdirTemp("", "presence-monitoring-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./cmd/presenced")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	// A snapshot is due as soon as there are entries.
	d := exec.Command(filepath.Join(dir, "presenced"), "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--snapshot-entries", "16")
	var out output
	d.Stdout, d.Stderr = &out, &out
	if err := d.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = d.Process.Signal(syscall.SIGTERM)
		_ = d.Wait()
	}()
	server, err := out.await(`ready on (nats://\S+)`)
	if err != nil {
		return nil, err
	}
	figures, err := out.await(`ready=(http://\S+)/readyz`)
	if err != nil {
		return nil, err
	}
	if err := use(server); err != nil {
		return nil, err
	}
	for begun := time.Now(); time.Since(begun) < waitFor; time.Sleep(100 * time.Millisecond) {
		r, err := http.Get(figures + "/metrics")
		if err != nil {
			return nil, err
		}
		page, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		if bytes.Contains(page, []byte("\npresence_snapshot_age_seconds ")) {
			return page, nil
		}
	}
	return nil, fmt.Errorf("there was no snapshot within %v", waitFor)
}

// use does a little of everything, and makes an error of each name that rules know.
func use(server string) error {
	nc, err := nats.Connect(server)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, r := range [][2]string{
		{"user.alice.login", `{"sessionID":"s","platform":"web"}`},
		{"user.alice.set", `{"customStatus":"in a meeting"}`},
		{"user.alice.renew", `{"sessionID":"s"}`},
		{"get", `{"userIDList":["alice"]}`},
		{"get", `no JSON`},
		{"gateway.gw.open", `{"process":"p"}`},
	} {
		if _, err := nc.Request("presence.v1."+r[0], []byte(r[1]), waitFor); err != nil {
			return fmt.Errorf("%s: %w", r[0], err)
		}
	}
	return nil
}
