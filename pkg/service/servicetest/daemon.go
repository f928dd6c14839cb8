package servicetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// build is what Build made, once for the test binary.
var build struct {
	once sync.Once
	dir  string
	err  error
}

// Build builds the project's commands and returns the directory that they are
// in. It does so once for a test binary; Main removes them.
func Build(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "presence-build-"); build.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", build.dir+string(filepath.Separator), "presence/cmd/...").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.dir
}

func removeBinaries() {
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
}

// Daemon is a running presenced.
type Daemon struct {
	// URL is where clients connect.
	URL string
	// DataDir is where it stores; empty where the test gave --nats-url.
	DataDir string

	args           []string
	cmd            *exec.Cmd
	stdout, stderr output
	exited         chan struct{} // closed when the process has ended
}

// readyLine is what presenced prints when it serves.
var readyLine = regexp.MustCompile(`is ready on (\S+)`)

// StartDaemon starts presenced and waits until it is ready: on a free port,
// with data in a directory of the test, unless the arguments say otherwise.
// It is killed when the test ends.
func StartDaemon(t testing.TB, args ...string) *Daemon {
	t.Helper()
	d := &Daemon{args: slices.Clone(args)}
	if !has(args, "--nats-url") {
		if !has(args, "--listen") {
			d.args = append(d.args, "--listen", anyPort)
		}
		if !has(args, "--data") {
			d.DataDir = t.TempDir()
			d.args = append(d.args, "--data", d.DataDir)
		}
	}
	d.start(t)
	d.waitReady(t)
	return d
}

func has(args []string, flag string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == flag || strings.HasPrefix(a, flag+"=") })
}

// RunDaemon runs presenced until it ends by itself, as it does when it cannot
// start, and returns its exit code and what it wrote.
func RunDaemon(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	d := &Daemon{args: args}
	d.start(t)
	code = d.Wait(t)
	return code, d.stdout.String(), d.stderr.String()
}

func (d *Daemon) start(t testing.TB) {
	t.Helper()
	d.stdout, d.stderr = output{}, output{}
	d.exited = make(chan struct{})
	d.cmd = exec.Command(filepath.Join(Build(t), "presenced"), d.args...)
	d.cmd.Stdout, d.cmd.Stderr = &d.stdout, &d.stderr
	// The environment of whoever runs the tests must not configure it.
	d.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PRESENCED_") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("starting presenced: %v", err)
	}
	cmd, exited := d.cmd, d.exited
	go func() {
		cmd.Wait() // the exit code is in ProcessState
		close(exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("presenced %s:\n%s%s", strings.Join(d.args, " "), d.stdout.String(), d.stderr.String())
		}
	})
}

func (d *Daemon) waitReady(t testing.TB) {
	t.Helper()
	Eventually(t, waitFor, "presenced to be ready", func() bool {
		if m := readyLine.FindStringSubmatch(d.stdout.String()); m != nil {
			d.URL = m[1]
			return true
		}
		select {
		case <-d.exited:
			t.Fatalf("presenced ended before it was ready:\n%s", d.stderr.String())
		default:
		}
		return false
	})
}

// PID is that of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stdout and Stderr are what the process has written so far.
func (d *Daemon) Stdout() string { return d.stdout.String() }
func (d *Daemon) Stderr() string { return d.stderr.String() }

// Connect connects as a client, over TCP and without credentials. It reconnects
// without limit and is closed with the test.
func (d *Daemon) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, d.URL, opts...)
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	d.Signal(t, syscall.SIGKILL)
	d.Wait(t)
}

// Stop ends the process with SIGTERM, and fails the test where it does not end
// with exit code 0.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	d.Signal(t, syscall.SIGTERM)
	if code := d.Wait(t); code != 0 {
		t.Errorf("presenced ended with exit code %d:\n%s", code, d.stderr.String())
	}
}

// Signal sends a signal. That the process has ended already is no failure.
func (d *Daemon) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("sending %v to presenced: %v", sig, err)
	}
}

// Wait waits until the process has ended and returns its exit code, -1 where a
// signal ended it.
func (d *Daemon) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-d.exited:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(waitFor):
		t.Fatalf("presenced did not end within %v", waitFor)
		return 0
	}
}

// Restart starts a process that has ended again, on the same data and, with
// the broker of its own, the same port. Stdout and Stderr begin anew.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.Wait(t)
	if at := slices.Index(d.args, anyPort); at >= 0 {
		d.args[at] = strings.TrimPrefix(d.URL, "nats://")
	}
	d.start(t)
	d.waitReady(t)
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
