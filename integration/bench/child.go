package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"presence/pkg/service/servicetest"
)

// program stands for the test that servicetest works for. It has the methods that
// servicetest calls; any other would panic.
type program struct {
	testing.TB // nil

	b        *bench
	ctx      context.Context
	cleanups []func()
	failed   bool
}

// failure is what Fatalf panics with; recovered turns it into an error.
type failure struct{ error }

func (p *program) Helper()                      {}
func (p *program) Context() context.Context     { return p.ctx }
func (p *program) Failed() bool                 { return p.failed }
func (p *program) Cleanup(f func())             { p.cleanups = append(p.cleanups, f) }
func (p *program) Logf(format string, a ...any) { p.b.logf(format, a...) }
func (p *program) Fatal(a ...any)               { p.Fatalf("%s", fmt.Sprintln(a...)) }

func (p *program) Errorf(format string, a ...any) {
	p.failed = true
	p.b.logf(format, a...)
}

func (p *program) Fatalf(format string, a ...any) {
	p.failed = true
	panic(failure{fmt.Errorf(format, a...)})
}

// end runs what was given to Cleanup, as at the end of a test.
func (p *program) end() {
	for i := len(p.cleanups) - 1; i >= 0; i-- {
		p.cleanups[i]()
	}
}

// recovered is deferred. It turns a Fatalf into an error.
func recovered(err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		*err = r.error
	default:
		panic(r)
	}
}

// startReference starts this program as the reference, on a directory. awaitReference
// waits until it listens.
func (b *bench) startReference(dir string, args ...string) (*target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args = append([]string{referenceCommand, "--data", dir}, args...)
	return &target{Process: servicetest.StartProcess(b.program, exec.Command(self, args...)), dir: dir}, nil
}

func (t *target) awaitReference(b *bench) {
	listens, _ := t.Await(b.program, listenLine)
	t.url = listens[1]
}

// residentBytes returns the resident memory of the process; 0 on other systems than Linux.
func (t *target) residentBytes() uint64 {
	_, rest, _ := strings.Cut(t.proc("status"), "VmRSS:")
	var kB uint64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		return 0
	}
	return kB << 10
}

// cpuTime returns the processor time of the process, its peers and its brokers; 0 on
// other systems than Linux.
func (t *target) cpuTime() time.Duration {
	if t == nil {
		return 0
	}
	sum := t.cpuTimeAlone()
	for _, p := range slices.Concat(t.peers, t.brokers) {
		sum += p.cpuTimeAlone()
	}
	return sum
}

func (t *target) cpuTimeAlone() time.Duration {
	// The name, in parentheses, may contain anything. Behind it come the state and, ten
	// fields later, the ticks in user and in system mode.
	line := t.proc("stat")
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

// proc reads a file of Linux about the process; empty if there is no process.
func (t *target) proc(file string) string {
	if t.Process == nil {
		return ""
	}
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(t.PID()), file)) // fails only elsewhere
	return string(data)
}

// clockTick is the unit of /proc/<pid>/stat, the same on every Linux that Go
// runs on.
const clockTick = 10 * time.Millisecond

var (
	listenLine  = regexp.MustCompile(`listens on (nats://\S+)`)
	figuresLine = regexp.MustCompile(`ready=http://(127\.0\.0\.1:\d+)/readyz`)
	// time=2026-11-24T10:00:00.123Z … msg="took a snapshot" … took=87ms, once it was
	// stored and read back.
	snapshotLine = regexp.MustCompile(`(?m)^time=(\S+) .*msg="took a snapshot".* took=(\S+)`)
	// With GODEBUG=gctrace=1: gc 12 @3.4s 5%: … ms clock, … ms cpu, 30->31->15 MB, …: the
	// heap at the start of the collection, at its end, and what is live.
	gcLine = regexp.MustCompile(`(?m)^gc \d+ @.* \d+->\d+->(\d+) MB,`)
)

// collections reads in a trace of the garbage collector how many collections there were,
// and how many bytes the last one left.
func collections(trace string) (n int, live uint64) {
	for _, m := range gcLine.FindAllStringSubmatch(trace, -1) {
		live, _ = strconv.ParseUint(m[1], 10, 32) // digits, by the expression
		n++
	}
	return n, live << 20
}

// tookSnapshots reads in a log when snapshots were taken, in order.
func tookSnapshots(log string) (list []span) {
	for _, m := range snapshotLine.FindAllStringSubmatch(log, -1) {
		at, err := time.Parse(time.RFC3339, m[1])
		took, err2 := time.ParseDuration(m[2])
		if err == nil && err2 == nil {
			list = append(list, span{at.Add(-took), at})
		}
	}
	return list
}
