package servicetest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

// repository is a git repository of the test.
type repository struct {
	t   *testing.T
	dir string
}

func (r repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)...)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repository) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits a program with a body, and returns the commit.
func (r repository) commit(body string) string {
	r.t.Helper()
	r.write("cmd/presenced/main.go", "package main\n\nfunc main() { "+body+" }\n")
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "a step")
	return r.git("rev-parse", "HEAD")
}

func newRepository(t *testing.T) repository {
	t.Helper()
	r := repository{t, t.TempDir()}
	r.git("init", "-q")
	r.write("go.mod", "module presence\n\ngo 1.21\n")
	return r
}

// TestBuildCommit: the program is that of the commit, whatever is in the tree now,
// and neither it nor one that cannot be built leaves a work tree behind.
func TestBuildCommit(t *testing.T) {
	r := newRepository(t)
	first := r.commit(`println("first")`)
	broken := r.commit(`nonsense`)
	r.commit(`println("now")`)

	bin, name, err := servicetest.BuildCommit(t.Context(), filepath.Join(r.dir, "cmd"), t.TempDir(), first)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "presenced")).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "first" {
		t.Errorf("the program says %q, %v, want that of the first commit", got, err)
	}
	if !strings.HasPrefix(first, name) || name == "" {
		t.Errorf("the name is %q, want the beginning of %s", name, first)
	}
	for _, wrong := range []string{broken, "no-such-commit", "--help", ""} {
		if _, _, err := servicetest.BuildCommit(t.Context(), r.dir, t.TempDir(), wrong); err == nil {
			t.Errorf("the commit %q was built", wrong)
		}
	}
	if trees := r.git("worktree", "list"); strings.Count(trees, "\n") != 0 {
		t.Errorf("work trees are left behind:\n%s", trees)
	}
}

// TestHistoryMissing: a commit may be missing in a clone without history, and where there is
// no git. Elsewhere one that is missing is a mistake, which nobody must pass over.
func TestHistoryMissing(t *testing.T) {
	r := newRepository(t)
	first := r.commit(`println("first")`)
	now := r.commit(`println("now")`)
	clone := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "-q", "--depth", "1", "file://"+r.dir, clone)
	for _, c := range []struct {
		name, here, commit string
		missing            string // a part of what is said; empty: it is not missing
	}{
		{"there", r.dir, first, ""},
		{"a wrong name", r.dir, "no-such-commit", ""},
		{"shallow, and there", clone, now, ""},
		{"shallow", clone, first, "shallow"},
		{"no repository", t.TempDir(), first, "no git history"},
	} {
		missing, err := servicetest.HistoryMissing(t.Context(), c.here, c.commit)
		if err != nil || (missing == "") != (c.missing == "") || !strings.Contains(missing, c.missing) {
			t.Errorf("%s: got %q, %v, want %q", c.name, missing, err, c.missing)
		}
	}
}
