package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/service/servicetest"
)

// TestBackup_Restore: a stopped presenced is backed up, and restored into an empty directory. Who
// watched before follows: it is told what was restored.
func TestBackup_Restore(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t)
	file := filepath.Join(t.TempDir(), "presence.backup")
	c, err := client.New(d.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.SetSelfStatus(t.Context(), "alice", "before"); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := servicetest.RunDaemon(t, "backup", file, "--data", d.DataDir)
	if code != 1 {
		t.Errorf("backup of a running one: got exit code %d, want 1", code)
	}
	wantOneLine(t, "backup of a running one", stderr, "use presencectl backup")
	d.Stop(t)
	d.Wait(t)
	if code, stdout, stderr := servicetest.RunDaemon(t, "--data", d.DataDir, "backup", file); code != 0 || !strings.Contains(stdout, "and read it back\n") || stderr != "" {
		t.Fatalf("backup: got %d, %s%s", code, stdout, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: got %v, %v, want mode 0600", info.Mode(), err)
	}
	code, _, stderr = servicetest.RunDaemon(t, "backup", file, "--data", d.DataDir)
	if code != 1 {
		t.Errorf("backup to a file that exists: got exit code %d, want 1", code)
	}
	wantOneLine(t, "backup to a file that exists", stderr, "--force")
	code, _, stderr = servicetest.RunDaemon(t, "restore", file, "--data", d.DataDir)
	if code != 1 {
		t.Errorf("restore over a journal: got exit code %d, want 1", code)
	}
	wantOneLine(t, "restore over a journal", stderr, "not empty", "move "+d.DataDir+" away")

	// What is set now is not in the backup.
	d.Restart(t)
	if _, err := c.SubscribeUserStatus(t.Context(), []string{"alice"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetSelfStatus(t.Context(), "alice", "after"); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, waitFor, "the watcher to see what is set", sees(c, "after"))
	d.Stop(t)
	d.Wait(t)
	if err := os.Rename(d.DataDir, d.DataDir+".old"); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := servicetest.RunDaemon(t, "restore", file, "--data", d.DataDir); code != 0 || stderr != "" {
		t.Fatalf("restore: got %d, %s%s", code, stdout, stderr)
	}
	d.Restart(t)
	begun := time.Now()
	servicetest.Eventually(t, waitFor, "the watcher to see what was restored", sees(c, "before"))
	t.Logf("the watcher followed %v after presenced was ready", time.Since(begun).Round(time.Millisecond))
}

func sees(c *client.Client, text string) func() bool {
	return func() bool {
		alice, ok := c.Watched("alice")
		return ok && alice.CustomStatus == text
	}
}
