package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"presence/pkg/service/servicetest"
)

// tried is a printed command that is carried out in a shell.
type tried struct {
	line           string
	stdout, stderr buffer
	done           chan error
}

// try carries out a line until the test ends.
func try(t *testing.T, line string) *tried {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	c := &tried{line: line, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &c.stdout, &c.stderr
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	// What the shell starts ends with it, so that nothing keeps its output open.
	cmd.Cancel = func() error { return killGroup(cmd) }
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- cmd.Wait() }()
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { cancel(); <-c.done }) })
	return c
}

func (c *tried) says(t *testing.T, b *buffer, text string) {
	t.Helper()
	servicetest.Eventually(t, waitFor, c.line+" to say "+text, func() bool {
		select {
		case err := <-c.done:
			c.done <- err
			if !strings.Contains(b.String(), text) {
				t.Fatalf("%s\nended with %v: %s%s\nwant %q", c.line, err, c.stdout.String(), c.stderr.String(), text)
			}
		default:
		}
		return strings.Contains(b.String(), text)
	})
}

// commands are what a welcome says to try, without the explanations behind them.
func commands(stdout string) (list []string) {
	for line := range strings.Lines(stdout) {
		rest, ok := strings.CutPrefix(line, "Try:   ")
		if !ok {
			rest, ok = strings.CutPrefix(line, " and   ")
		}
		if ok {
			command, _, _ := strings.Cut(strings.TrimSpace(rest), "     ")
			list = append(list, command)
		}
	}
	return list
}

// TestWelcome_WorksAsPrinted: what presenced says to try is carried out as it stands,
// with each way in that presencectl nats-config makes, and from a directory whose name
// needs quotes.
func TestWelcome_WorksAsPrinted(t *testing.T) {
	for _, c := range []struct {
		name string
		auth []string // of nats-config; none: the server inside without a file
		who  string
	}{
		{"open", nil, "alice"},
		{"password", []string{"password"}, "alice"},
		{"nkey", []string{"nkey", "--users", "bob@example.com"}, "bob@example.com"},
		{"jwt", []string{"jwt"}, "alice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "it's here")
			args, env := []string{"--data", filepath.Join(dir, "data")}, []string(nil)
			if c.auth != nil {
				config := append([]string{"nats-config", dir, "--listen", "127.0.0.1:-1", "--auth"}, c.auth...)
				if out, err := exec.Command(filepath.Join(servicetest.Build(t), "presencectl"), config...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				args = []string{"--nats-config", filepath.Join(dir, "nats.conf")}
				if c.name == "jwt" { // as the beginning of nats.conf says
					out, err := exec.Command("sh", "-c", `set -a; . "$1"; env`, "sh", filepath.Join(dir, "presenced.env")).Output()
					if err != nil {
						t.Fatal(err)
					}
					env = strings.Split(strings.TrimSpace(string(out)), "\n")
				}
			}
			d := servicetest.StartDaemonIn(t, env, args...)
			list := commands(d.Stdout())
			if len(list) != 3 {
				t.Fatalf("got the welcome\n%swant three commands", d.Stdout())
			}
			watch := try(t, list[0])
			watch.says(t, &watch.stderr, "watching")
			login := try(t, list[1])
			login.says(t, &login.stderr, c.who+" is ONLINE")
			watch.says(t, &watch.stdout, "ONLINE")
			verify := try(t, list[2])
			verify.says(t, &verify.stdout, "Everything is as the journal says.")
		})
	}
}
