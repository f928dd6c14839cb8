package servicetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a child of the test. It is killed when the test ends and, on
// Linux, when the test binary does.
type Process struct {
	name           string
	cmd            *exec.Cmd
	begun          time.Time
	stdout, stderr *output
	exited         chan struct{} // closed when the process has ended
}

// StartProcess starts a command. If the test fails, what the command wrote is logged.
func StartProcess(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{}
	p.start(t, filepath.Base(cmd.Path), cmd)
	return p
}

func (p *Process) start(t testing.TB, name string, cmd *exec.Cmd) {
	t.Helper()
	stdout, stderr, exited := newOutput(), newOutput(), make(chan struct{})
	p.name, p.cmd, p.stdout, p.stderr, p.exited = name, cmd, stdout, stderr, exited
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = dieWithParent()
	p.begun = time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		cmd.Wait() // the exit code is in ProcessState
		close(exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("%s %s:\n%s%s", name, strings.Join(cmd.Args[1:], " "), stdout.String(), stderr.String())
		}
	})
}

// Await waits until the process has written a line on stdout. It returns the line's submatches, and
// how long after the start it came. It fails the test if the process ends before.
func (p *Process) Await(t testing.TB, line *regexp.Regexp) (submatches []string, after time.Duration) {
	t.Helper()
	deadline := time.After(waitFor)
	for ended := false; ; {
		if m := line.FindStringSubmatch(p.Stdout()); m != nil {
			return m, time.Since(p.begun)
		}
		if ended {
			t.Fatalf("%s ended before it wrote %q:\n%s", p.name, line, p.Stderr())
		}
		select {
		case <-p.stdout.more:
		case <-p.exited:
			ended = true
		case <-deadline:
			t.Fatalf("%s did not write %q within %v:\n%s", p.name, line, waitFor, p.Stderr())
		}
	}
}

// PID is the ID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CommandLine is the command line of the process, as everybody on the machine can see it.
func (p *Process) CommandLine(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID()))
	if errors.Is(err, fs.ErrNotExist) { // there is no /proc
		return strings.Join(p.cmd.Args, " ")
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}

// Stdout and Stderr are what the process has written so far.
func (p *Process) Stdout() string { return p.stdout.String() }
func (p *Process) Stderr() string { return p.stderr.String() }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.Wait(t)
}

// Stop ends the process with SIGTERM. It fails the test if the exit code is not 0.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Errorf("%s ended with exit code %d:\n%s", p.name, code, p.stderr.String())
	}
}

// Pause stops the process with SIGSTOP, and waits until it stands still. Its connections stay open
// and silent. Resume lets it go on.
func (p *Process) Pause(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	Eventually(t, waitFor, p.name+" to stand still", func() bool { return !p.isRunning(t) })
}

func (p *Process) Resume(t testing.TB) { t.Helper(); p.Signal(t, syscall.SIGCONT) }

// isRunning reports whether a thread of the process is not stopped. Where there is no /proc, or no
// process any more, it reports false.
func (p *Process) isRunning(t testing.TB) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		// The name stands in parentheses, and may contain some.
		if state := text[bytes.LastIndexByte(text, ')')+1:]; !bytes.HasPrefix(state, []byte(" T")) && !bytes.HasPrefix(state, []byte(" Z")) {
			return true
		}
	}
	return false
}

// Signal sends a signal. It does nothing if the process has ended.
func (p *Process) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("sending %v to %s: %v", sig, p.name, err)
	}
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait waits until the process has ended and returns its exit code. It is -1 if a signal ended the
// process.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(waitFor):
		t.Fatalf("%s did not end within %v", p.name, waitFor)
		return 0
	}
}

// output collects what a process writes.
type output struct {
	more chan struct{} // holds one: something was written
	mu   sync.Mutex
	buf  bytes.Buffer
}

func newOutput() *output { return &output{more: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
