package servicetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/service"

	"github.com/nats-io/nats.go"
)

// build is the result of Build.
var build struct {
	once sync.Once
	dir  string
	err  error
}

// earlier is what BuildEarlier made, once for the test binary.
var earlier struct {
	mu   sync.Mutex
	bins map[string]string // directories with the commands, by commit
}

// Build builds the project's commands, once for a test binary, and returns their directory. Main
// removes it.
func Build(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "presence-build-"); build.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", build.dir+string(filepath.Separator), "presence/cmd/...")
		cmd.Env = slices.DeleteFunc(os.Environ(), missingConfig)
		out, err := cmd.CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.dir
}

// BuildEarlier is Build of an earlier commit. It skips the test where the history of the
// repository is missing, and fails it where the commit cannot be built.
func BuildEarlier(t testing.TB, commit string) string {
	t.Helper()
	earlier.mu.Lock()
	defer earlier.mu.Unlock()
	if bin := earlier.bins[commit]; bin != "" {
		return bin
	}
	missing, err := HistoryMissing(t.Context(), ".", commit)
	if err != nil {
		t.Fatal(err)
	}
	if missing != "" {
		t.Skipf("the commands of %s cannot be built: %s", commit, missing)
	}
	dir, err := os.MkdirTemp("", "presence-earlier-")
	if err != nil {
		t.Fatal(err)
	}
	bin, _, err := BuildCommit(t.Context(), ".", dir, commit)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	if earlier.bins == nil {
		earlier.bins = map[string]string{}
	}
	earlier.bins[commit] = bin
	return bin
}

// missingConfig reports whether a variable of the environment names a directory of configurations
// that does not exist. A test sets it to hide the configurations of the user who runs it. The go
// command would create that directory.
func missingConfig(variable string) bool {
	dir, ok := strings.CutPrefix(variable, "XDG_CONFIG_HOME=")
	if !ok {
		return false
	}
	_, err := os.Stat(dir)
	return err != nil
}

func removeBinaries() {
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	for _, bin := range earlier.bins {
		os.RemoveAll(filepath.Dir(bin))
	}
}

// Daemon is a running presenced.
type Daemon struct {
	// URL is where clients connect.
	URL string
	// DataDir is where it stores. Empty: the arguments say where.
	DataDir string

	// ReadyAfter is the time from its last start until it was ready.
	ReadyAfter time.Duration

	// Program is what the next start runs. Empty: the presenced of this tree.
	Program string

	args []string
	env  []string // added to that of the test
	Process
}

// readyLine is what presenced prints when it serves.
var readyLine = regexp.MustCompile(`is ready on (\S+)`)

// StartDaemon starts presenced and waits until it is ready. It listens on a free port and has its
// data in a directory of the test, unless the arguments say otherwise. It is killed when the test
// ends.
func StartDaemon(t testing.TB, args ...string) *Daemon {
	t.Helper()
	return StartDaemonIn(t, nil, args...)
}

// StartDaemonIn is StartDaemon with more variables in the environment. They, too, may say where
// presenced listens and stores.
func StartDaemonIn(t testing.TB, env []string, args ...string) *Daemon {
	t.Helper()
	return StartProgram(t, "", env, args...)
}

// StartProgram is StartDaemonIn with another program than presenced of this tree.
func StartProgram(t testing.TB, program string, env []string, args ...string) *Daemon {
	t.Helper()
	d := &Daemon{Program: program, args: slices.Clone(args), env: env}
	elsewhere := slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PRESENCED_NATS_URL=") })
	if !elsewhere && !has(args, "--nats-url") && !has(args, "--nats-config") {
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

// RunDaemon runs a presenced that cannot start, until it ends by itself. It returns the exit code
// and what presenced wrote.
func RunDaemon(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return RunDaemonIn(t, nil, args...)
}

// RunDaemonIn is RunDaemon with more variables in the environment.
func RunDaemonIn(t testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return RunProgram(t, "", env, args...)
}

// RunProgram is RunDaemonIn with another program than presenced of this tree.
func RunProgram(t testing.TB, program string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	d := &Daemon{Program: program, args: slices.Clone(args), env: env}
	d.start(t)
	code = d.Wait(t)
	return code, d.stdout.String(), d.stderr.String()
}

func (d *Daemon) start(t testing.TB) {
	t.Helper()
	program := d.Program
	if program == "" {
		program = filepath.Join(Build(t), "presenced")
	}
	cmd := exec.Command(program, d.args...)
	// The environment of the user who runs the tests must not configure it.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PRESENCED_") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	cmd.Env = append(cmd.Env, fmt.Sprint("PRESENCED_USER_CHANGES=", service.Unlimited))
	cmd.Env = append(cmd.Env, d.env...)
	d.Process.start(t, "presenced", cmd)
}

func (d *Daemon) waitReady(t testing.TB) {
	t.Helper()
	var line []string
	line, d.ReadyAfter = d.Await(t, readyLine)
	d.URL = line[1]
}

// Connect connects as a client, over TCP and without credentials. It reconnects
// without limit and is closed with the test.
func (d *Daemon) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, d.URL, opts...)
}

// Restart waits until the process has ended, and starts it again on the same data and port. Stdout
// and Stderr begin anew.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.Wait(t)
	if at := slices.Index(d.args, "--listen") + 1; at > 0 && d.args[at] == anyPort {
		d.args[at] = strings.TrimPrefix(d.URL, "nats://")
	}
	d.start(t)
	d.waitReady(t)
}
