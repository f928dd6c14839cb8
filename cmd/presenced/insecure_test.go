package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

// Where anybody who reaches presenced can act as any user, both the log and the
// welcome say so.
func TestInsecureIsLoud(t *testing.T) {
	t.Setenv("STORE", t.TempDir())
	open := filepath.Join(t.TempDir(), "open.conf")
	config, err := os.ReadFile("testdata/single.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, bytes.ReplaceAll(config, []byte("127.0.0.1:-1"), []byte("0.0.0.0:-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--listen", "0.0.0.0:0", "--data", t.TempDir()},
		{"--nats-config", open},
	} {
		code, stdout, stderr := call(t, args...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, "--insecure") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("presenced %q: got %d, %s%s, want a refusal in one line", args, code, stdout, stderr)
		}

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out, errs := &buffer{}, &buffer{}
		done := make(chan error, 1)
		go func() { done <- run(ctx, append([]string{"presenced", "--insecure"}, args...), nil, out, errs) }()
		servicetest.Eventually(t, waitFor, "the welcome", func() bool { return strings.Contains(out.String(), "login alice") || len(done) > 0 })
		if !strings.Contains(out.String(), "INSECURE: anybody who reaches 0.0.0.0") || strings.Count(errs.String(), "ANYBODY who reaches this address") != 1 {
			t.Errorf("presenced --insecure %q: got\n%s%s", args, out, errs)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("presenced --insecure %q: %v", args, err)
		}
	}
}

// On loopback --insecure changes nothing.
func TestInsecureForNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, errs := &buffer{}, &buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"presenced", "--insecure", "--listen", "127.0.0.1:0", "--data", t.TempDir()}, nil, out, errs)
	}()
	servicetest.Eventually(t, waitFor, "the welcome", func() bool { return strings.Contains(out.String(), "login alice") || len(done) > 0 })
	cancel()
	if err := <-done; err != nil || strings.Contains(out.String()+errs.String(), "ANYBODY") || strings.Contains(out.String(), "INSECURE") {
		t.Errorf("got %v\n%s%s", err, out, errs)
	}
}

// A secret that everybody can read is warned of; its text is in no message.
func TestReadableSecret(t *testing.T) {
	const seed = "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY"
	path := filepath.Join(t.TempDir(), "presenced.nk")
	if err := os.WriteFile(path, []byte(seed), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		warnReadable(slog.New(slog.NewTextHandler(&out, nil)), path, "", "/does/not/exist")
		if got := strings.Contains(out.String(), path); got != want {
			t.Errorf("mode %v: got %q", mode, out.String())
		}
	}
	if _, err := credentials(path); err != nil {
		t.Errorf("a seed: %v", err)
	}
	// What is no secret of ours may be one all the same.
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := credentials(path); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), path) {
		t.Errorf("not a seed: got %v", err)
	}
}
