package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// waitFor bounds every wait. It is long because tests of many packages share few cores.
const waitFor = 60 * time.Second

// sandbox is where a document's blocks run.
type sandbox struct {
	doc         *document
	dir         string
	ports       map[string]string // by the port that the document names
	printed     func() string     // by the last block that was run
	backgrounds []*background
}

// background is a command that runs on.
type background struct {
	text   string
	output *output
	stop   func()
}

// output is what a command has written so far, to stdout and stderr.
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

func newSandbox(t *testing.T, d *document) *sandbox {
	t.Helper()
	s := &sandbox{doc: d, dir: t.TempDir(), ports: map[string]string{}}
	for _, named := range []string{"4222", "8222", "9222"} {
		s.ports[named] = freePort(t)
	}
	self, err := os.Executable()
	if err == nil {
		err = errors.Join(os.Symlink(build(t), filepath.Join(s.dir, "bin")), os.Mkdir(filepath.Join(s.dir, "tools"), 0o755),
			os.MkdirAll(filepath.Join(s.dir, "etc"), 0o755), os.MkdirAll(filepath.Join(s.dir, "var/lib"), 0o755))
	}
	for name := range tools {
		err = errors.Join(err, os.Symlink(self, filepath.Join(s.dir, "tools", name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, b := range slices.Backward(s.backgrounds) {
			b.stop()
		}
	})
	return s
}

// given are the ports that freePort returned, because nobody listens there at once.
var given sync.Map

// freePort finds a port outside of the range that systems give away by themselves, so that
// no connection or listener of another test is given it meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(20_000 + rand.IntN(12_000))
		if _, twice := given.LoadOrStore(port, true); twice {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// adapt puts a block's addresses and directories into the sandbox.
func (s *sandbox) adapt(text string) string {
	for port, free := range s.ports {
		text = regexp.MustCompile(`\b(127\.0\.0\.1|0\.0\.0\.0):`+port+`\b`).ReplaceAllString(text, "127.0.0.1:"+free)
	}
	return regexp.MustCompile(`(^|[ ='"@])(/etc/|/var/)`).ReplaceAllString(text, "${1}"+s.dir+"${2}")
}

// env is the environment of a block: nothing of whoever runs the test configures it.
func (s *sandbox) env(script string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PRESENCE") || strings.HasPrefix(v, "NATS_") || strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	env = append(env, "HOME="+s.dir, "PATH="+s.dir+"/tools:"+s.dir+"/bin:"+os.Getenv("PATH"),
		"DOCS_MAKE="+makePath(), "DOCS_ROOT="+absolute(root),
		"DOCS_HTTP=127.0.0.1:"+s.ports["8222"], "DOCS_WEBSOCKET=127.0.0.1:"+s.ports["9222"], "NATS_URL=nats://127.0.0.1:"+s.ports["4222"])
	if !strings.Contains(script, "--nats-") {
		env = append(env, "PRESENCED_LISTEN=127.0.0.1:"+s.ports["4222"])
	}
	return env
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// run runs a script to its end.
func (s *sandbox) run(t *testing.T, script string) error {
	t.Helper()
	script = s.adapt(script)
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = s.dir, s.env(script)
	out, err := cmd.CombinedOutput()
	s.printed = func() string { return string(out) }
	if err != nil {
		return fmt.Errorf("%w\n%s%s", err, out, s.told())
	}
	return nil
}

// told is what the background commands have written.
func (s *sandbox) told() string {
	var all strings.Builder
	for _, b := range s.backgrounds {
		fmt.Fprintf(&all, "--- %s%s", b.text, b.output)
	}
	return all.String()
}

// keeper runs a command until it ends, or until stdin does, be it because the test is gone.
const keeper = `exec 3<&0
%s </dev/null 3<&- & child=$!
{ read -r _ <&3 || true; kill "$child" 2>/dev/null; } & reader=$!
wait "$child"; code=$?
kill "$reader" 2>/dev/null
exit $code`

// start starts a command and waits until it is at work. One that starts the service takes
// the place of an earlier one.
func (s *sandbox) start(t *testing.T, script string) error {
	t.Helper()
	command, _, _ := strings.Cut(strings.TrimSpace(script), " #")
	if strings.Contains(command, "\n") {
		return errors.New("a background block is one command")
	}
	service := regexp.MustCompile(`^make run|presenced\b`).MatchString(command)
	if service {
		s.stopServices()
	}
	b := &background{text: script, output: &output{}}
	adapted := s.adapt(command)
	cmd := exec.Command("bash", "-c", fmt.Sprintf(keeper, adapted))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env(adapted), b.output, b.output
	cmd.WaitDelay = time.Second // what the command leaves behind may hold its stdout
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	b.stop = sync.OnceFunc(func() { end(cmd, stdin, exited) })
	s.backgrounds, s.printed = append(s.backgrounds, b), b.output.String
	return s.awaitStart(b, service, exited)
}

// end ends a background command, by force where it does not end by itself.
func end(cmd *exec.Cmd, stdin io.Closer, exited <-chan struct{}) {
	stdin.Close()
	select {
	case <-exited:
	case <-time.After(waitFor):
		cmd.Process.Kill()
		<-exited
	}
}

func (s *sandbox) stopServices() {
	for _, b := range s.backgrounds {
		if strings.Contains(b.output.String(), "is ready on") {
			b.stop()
		}
	}
}

// awaitStart waits for the first words of a command, or for the service to be ready.
func (s *sandbox) awaitStart(b *background, service bool, exited <-chan struct{}) error {
	begun := func() bool {
		out := b.output.String()
		return strings.Contains(out, "is ready on") || !service && out != ""
	}
	for deadline := time.Now().Add(waitFor); !begun(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-exited:
			return fmt.Errorf("it ended:\n%s", b.output)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it is not at work after %v:\n%s", waitFor, b.output)
		}
	}
	return nil
}

// compare holds what a document shows against what was printed.
func (s *sandbox) compare(b block) error {
	for _, g := range s.backgrounds {
		if b.info != "" && strings.Contains(g.text, b.info) {
			return awaitShown(b.text, g.output, waitFor)
		}
	}
	switch {
	case b.info != "":
		return fmt.Errorf("no command with %q was started", b.info)
	case s.printed == nil:
		return errors.New("nothing was run before")
	}
	if missing := firstMissing(b.text, s.printed()); missing != "" {
		return fmt.Errorf("nothing like this line was printed, after the one above it:\n%s\nbut:\n%s", missing, s.printed())
	}
	return nil
}

// firstMissing returns the first line of want that is not in got; empty where all are.
func firstMissing(want, got string) string {
	lines := strings.Split(got, "\n")
	for shown := range strings.Lines(want) {
		words := firm(shown)
		if len(words) == 0 {
			continue
		}
		i := slices.IndexFunc(lines, func(l string) bool { return isSubsequence(words, strings.Fields(l)) })
		if i < 0 {
			return shown
		}
		lines = lines[i+1:]
	}
	return ""
}

// awaitShown waits until a background command has printed the last of the lines that are
// shown. It may leave out others: of several changes a watcher is told the last for certain.
// What it does print must be shown.
func awaitShown(want string, printed *output, within time.Duration) error {
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		got := printed.String()
		shown := strings.Split(strings.TrimSpace(want), "\n")
		for l := range strings.Lines(got) {
			if strings.HasPrefix(l, "presencectl: ") || !strings.HasSuffix(l, "\n") {
				continue
			}
			i := slices.IndexFunc(shown, func(s string) bool { return slices.Equal(firm(s), firm(l)) })
			if i < 0 {
				return fmt.Errorf("this line was printed, and is not shown, or not there:\n%s\nof:\n%s", l, got)
			}
			shown = shown[i+1:]
		}
		if len(shown) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the last line was not printed within %v, but:\n%s", within, got)
		}
	}
}

var firmWord = regexp.MustCompile(`^[A-Za-z()"',.:;-]*[A-Za-z][A-Za-z()"',.:;-]*$`)

// firm are the words of a line that are the same in each run: no numbers, times or names of
// machines.
func firm(line string) []string {
	return slices.DeleteFunc(strings.Fields(line), func(w string) bool {
		return !firmWord.MatchString(w) || slices.Contains([]string{"just", "now", "ago", "linux", "linux,"}, w) || month.MatchString(w)
	})
}

var month = regexp.MustCompile(`^(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)$`)

func isSubsequence(words, of []string) bool {
	for _, w := range of {
		if len(words) > 0 && words[0] == w {
			words = words[1:]
		}
	}
	return len(words) == 0
}
