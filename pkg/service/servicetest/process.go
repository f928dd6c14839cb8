package servicetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a child of the test. It is killed when the test ends and, on
// Linux, when the test binary does.
type process struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{} // closed when the process has ended
}

// start starts a command. What it writes is logged where the test fails.
func (p *process) start(t testing.TB, name string, cmd *exec.Cmd) {
	t.Helper()
	stdout, stderr, exited := &output{}, &output{}, make(chan struct{})
	p.name, p.cmd, p.stdout, p.stderr, p.exited = name, cmd, stdout, stderr, exited
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = dieWithParent()
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

// PID is that of the process.
func (p *process) PID() int { return p.cmd.Process.Pid }

// CommandLine is what everybody on the machine can see that the process was given.
func (p *process) CommandLine(t testing.TB) string {
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
func (p *process) Stdout() string { return p.stdout.String() }
func (p *process) Stderr() string { return p.stderr.String() }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.Wait(t)
}

// Stop ends the process with SIGTERM, and fails the test where it does not end
// with exit code 0.
func (p *process) Stop(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Errorf("%s ended with exit code %d:\n%s", p.name, code, p.stderr.String())
	}
}

// Pause stops the process where it is, with SIGSTOP; its connections stay open
// and silent. Resume lets it go on.
func (p *process) Pause(t testing.TB)  { t.Helper(); p.Signal(t, syscall.SIGSTOP) }
func (p *process) Resume(t testing.TB) { t.Helper(); p.Signal(t, syscall.SIGCONT) }

// Signal sends a signal. That the process has ended already is no failure.
func (p *process) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("sending %v to %s: %v", sig, p.name, err)
	}
}

// Exited is closed when the process has ended.
func (p *process) Exited() <-chan struct{} { return p.exited }

// Wait waits until the process has ended and returns its exit code, -1 where a
// signal ended it.
func (p *process) Wait(t testing.TB) int {
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
