package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startWithin bounds a child's start, stopWithin its stop before it is killed.
const (
	startWithin = 60 * time.Second
	stopWithin  = 10 * time.Second
)

// process is a child that says on its output where it listens.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer // held open: the reference exits when it closes
	url   string
	// readyAfter is the time from before the start to the line with the URL.
	readyAfter time.Duration
	output     *output
	exited     chan struct{} // closed when it is gone
}

// startProcess starts a child and waits until it says where it listens.
func startProcess(ctx context.Context, name string, args, env []string) (*process, error) {
	begun := time.Now()
	p := &process{
		cmd:    exec.Command(name, args...),
		output: &output{listens: make(chan string, 1)},
		exited: make(chan struct{}),
	}
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), configures), env...)
	p.cmd.SysProcAttr = dieWithParent()
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), read.Close(), write.Close())
	}
	write.Close()
	go p.output.read(read)
	go func() {
		_ = p.cmd.Wait() // how it ended does not matter, only that it did
		close(p.exited)
	}()

	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	select {
	case p.url = <-p.output.listens:
		p.readyAfter = time.Since(begun)
		return p, nil
	case <-p.exited:
		err = fmt.Errorf("%s ended instead of listening", name)
	case <-ctx.Done():
		err = fmt.Errorf("waiting for %s to listen: %w", name, ctx.Err())
	}
	p.stop()
	return nil, fmt.Errorf("%w; its last words:\n%s", err, p.output.tail())
}

// configures says that a variable would configure presenced, which is measured
// as it is by default.
func configures(variable string) bool {
	return strings.HasPrefix(variable, "PRESENCED_") || strings.HasPrefix(variable, "NOTIFY_SOCKET=")
}

// kill ends the child as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.exited
}

// stop ends the child, kindly at first, and waits until it is gone.
func (p *process) stop() {
	p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		p.kill()
	}
}

// residentBytes returns how much memory the child has, and 0 where the system
// does not say it the way Linux does.
func (p *process) residentBytes() uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kB uint64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		return 0
	}
	return kB << 10
}

// cpuTime returns how long the child has been computing, and 0 where the system
// does not say it the way Linux does.
func (p *process) cpuTime() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// Behind the name in parentheses, which may contain anything: the state, and
	// ten fields later the ticks in user and in system mode.
	line := string(data)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0
	}
	return time.Duration(user+system) * clockTick
}

// clockTick is the unit of /proc/<pid>/stat, the same on every Linux that Go
// runs on.
const clockTick = 10 * time.Millisecond

// output reads what a child prints: where it listens, where its figures are,
// which snapshots it took, what its garbage collector says with
// GODEBUG=gctrace=1, and the last lines for error messages.
type output struct {
	listens chan string

	mu          sync.Mutex
	lines       []string // the last ones
	collections int
	liveBytes   uint64 // after the last collection
	largestHeap uint64 // at the end of one, since it was asked for last
	figures     string // host:port of --http; empty: none
	snapshots   []span // in order; there is one in two seconds at most
}

// keptLines bounds output.lines.
const keptLines = 20

var (
	listenLine  = regexp.MustCompile(`(?:is ready|listens) on (nats://\S+)`)
	figuresLine = regexp.MustCompile(`ready=http://(127\.0\.0\.1:\d+)/readyz`)
	// time=2026-11-24T10:00:00.123Z … msg="took a snapshot" … took=87ms, when it
	// was stored and read back.
	snapshotLine = regexp.MustCompile(`^time=(\S+) .*msg="took a snapshot".* took=(\S+)`)
	// gc 12 @3.4s 5%: … ms clock, … ms cpu, 30->31->15 MB, …: heap at the start
	// of the collection, at its end, and live.
	gcLine = regexp.MustCompile(`^gc \d+ @.* \d+->(\d+)->(\d+) MB,`)
)

func (o *output) read(r io.ReadCloser) {
	defer r.Close()
	s := bufio.NewScanner(r)
	for s.Scan() {
		o.line(s.Text())
	}
	_, _ = io.Copy(io.Discard, r) // a line too long: the child must not block
}

func (o *output) line(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := gcLine.FindStringSubmatch(line); m != nil {
		heap, _ := strconv.ParseUint(m[1], 10, 32) // digits, by the expression
		live, _ := strconv.ParseUint(m[2], 10, 32)
		o.collections++
		o.liveBytes, o.largestHeap = live<<20, max(o.largestHeap, heap<<20)
		return
	}
	if len(o.lines) == keptLines {
		o.lines = append(o.lines[:0], o.lines[1:]...)
	}
	o.lines = append(o.lines, line)
	if m := listenLine.FindStringSubmatch(line); m != nil {
		select {
		case o.listens <- m[1]:
		default: // it has said so before
		}
	}
	if m := figuresLine.FindStringSubmatch(line); m != nil {
		o.figures = m[1]
	}
	if m := snapshotLine.FindStringSubmatch(line); m != nil {
		at, err := time.Parse(time.RFC3339, m[1])
		took, err2 := time.ParseDuration(m[2])
		if err == nil && err2 == nil {
			o.snapshots = append(o.snapshots, span{at.Add(-took), at})
		}
	}
}

// tookSnapshots returns when the snapshots were taken.
func (o *output) tookSnapshots() []span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.snapshots)
}

// figuresAddress is where the process says its figures, with --http.
func (o *output) figuresAddress() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.figures
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

// lastCollection returns how many collections there were and what the last left.
func (o *output) lastCollection() (count int, liveBytes uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.collections, o.liveBytes
}

// takeLargestHeap returns how large the heap was at the most, at the end of a
// collection since it was asked for last; 0 where there was none.
func (o *output) takeLargestHeap() (bytes uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes, o.largestHeap = o.largestHeap, 0
	return bytes
}
