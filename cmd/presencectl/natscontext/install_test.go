package natscontext_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"presence/cmd/presencectl/natscontext"
)

// TestInstall: what was written can be read by its name, by its owner only, and another's
// context is not replaced.
func TestInstall(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	if names, err := natscontext.Names(); err != nil || len(names) != 0 {
		t.Errorf("names without a directory: %q, %v", names, err)
	}
	of := func(name, dir string) *natscontext.Context {
		return &natscontext.Context{Name: name, Description: "of " + dir, URL: "nats://127.0.0.1:1", User: name, Password: "p in " + dir, InboxPrefix: "_INBOX." + name}
	}
	if _, err := natscontext.Install([]*natscontext.Context{of("alice", "/a"), of("bob", "/a")}, false); err != nil {
		t.Fatal(err)
	}
	dir, err := natscontext.Install([]*natscontext.Context{of("alice", "/a")}, false) // its own
	if err != nil || dir != filepath.Join(home, "nats", "context") {
		t.Errorf("the same again: %s, %v", dir, err)
	}
	if names, err := natscontext.Names(); err != nil || !slices.Equal(names, []string{"alice", "bob"}) {
		t.Errorf("names: %q, %v", names, err)
	}
	info, err := os.Stat(filepath.Join(dir, "alice.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("alice.json: %v, %v", info, err)
	}

	if _, err := natscontext.Install([]*natscontext.Context{of("carol", "/b"), of("alice", "/b")}, false); !errors.Is(err, natscontext.ErrExists) {
		t.Errorf("another's: got %v", err)
	}
	if _, err := natscontext.Load(context.Background(), "carol"); !errors.Is(err, natscontext.ErrNotFound) {
		t.Errorf("one was written although another could not be: %v", err)
	}
	if _, err := natscontext.Install([]*natscontext.Context{of("alice", "/b")}, true); err != nil {
		t.Error(err)
	}
	c, err := natscontext.Load(context.Background(), "alice")
	if err != nil || *c != *of("alice", "/b") {
		t.Errorf("alice: got %+v, %v", c, err)
	}
	for _, name := range []string{"", "../x", "a/b"} {
		if _, err := natscontext.Install([]*natscontext.Context{of(name, "/a")}, true); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x\x1b[2J.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names, _ := natscontext.Names(); len(names) != 2 {
		t.Errorf("a name that moves the cursor is among %q", names)
	}
}
