package main

// White-box, because package main cannot be imported: run is what main calls.

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/service/servicetest"
)

const waitFor = 30 * time.Second

func TestMain(m *testing.M) {
	// The environment and the nats contexts of the person who runs the tests must
	// not matter.
	for _, f := range []string{"URL", "CONTEXT", "CREDS", "NKEY", "USER", "PASSWORD", "CERT", "KEY", "CA", "TIMEOUT"} {
		os.Unsetenv("NATS_" + f)
	}
	os.Unsetenv("PRESENCE_PREFIX")
	os.Setenv("XDG_CONFIG_HOME", "/nonexistent")
	servicetest.Main(m)
}

// command is one run of presencectl.
type command struct {
	args           []string
	stdout, stderr buffer
	stop           context.CancelFunc // what ^C does
	done           chan struct{}
	code           int // read after done
}

// start runs presencectl beside the test.
func start(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &command{args: args, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.code = run(ctx, append([]string{"presencectl"}, args...), strings.NewReader(""), &c.stdout, &c.stderr)
	}()
	t.Cleanup(func() {
		stop()
		<-c.done
	})
	return c
}

// ctl runs presencectl to its end.
func ctl(t *testing.T, args ...string) *command {
	t.Helper()
	return start(t, args...).wait(t)
}

func (c *command) wait(t *testing.T) *command {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(waitFor):
		t.Fatalf("%v did not end within %v: stderr %q", c.args, waitFor, c.stderr.String())
	}
	return c
}

// want checks the exit code, and that stderr is or, with a trailing "…",
// begins with a text.
func (c *command) want(t *testing.T, code int, stderr string) *command {
	t.Helper()
	c.wait(t)
	if c.code != code {
		t.Errorf("%v: exit code %d, want %d; stderr %q", c.args, c.code, code, c.stderr.String())
	}
	got := strings.TrimSpace(c.stderr.String())
	if begin, ok := strings.CutSuffix(stderr, "…"); ok && strings.HasPrefix(got, begin) {
		return c
	}
	if got != stderr {
		t.Errorf("%v: stderr %q, want %q", c.args, got, stderr)
	}
	return c
}

// says waits until stderr contains a text.
func (c *command) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, c, &c.stderr, text)
}

// prints waits until stdout contains a text.
func (c *command) prints(t *testing.T, text string) {
	t.Helper()
	eventually(t, c, &c.stdout, text)
}

func eventually(t *testing.T, c *command, b *buffer, text string) {
	t.Helper()
	servicetest.Eventually(t, waitFor, strings.Join(c.args, " ")+" to write "+text, func() bool {
		select {
		case <-c.done: // it has written all
			if !strings.Contains(b.String(), text) {
				t.Fatalf("%v ended with %d: stdout %q, stderr %q; want %q", c.args, c.code, c.stdout.String(), c.stderr.String(), text)
			}
		default:
		}
		return strings.Contains(b.String(), text)
	})
}

// decode reads a line of stdout as JSON.
func decode[T any](t *testing.T, c *command) (v T) {
	t.Helper()
	out := c.stdout.String()
	if strings.Count(out, "\n") != 1 {
		t.Errorf("%v: got %q, want one line", c.args, out)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Errorf("%v: %v in %q", c.args, err, out)
	}
	return v
}

// buffer can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
