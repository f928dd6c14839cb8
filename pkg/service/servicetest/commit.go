package servicetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// removeWithin bounds the removal of the temporary work tree, which is removed also when
// the run is interrupted.
const removeWithin = 30 * time.Second

// BuildCommit builds the commands of a commit of the repository around the directory here.
// It returns their directory, which is below dir, and the commit's short name. It checks the
// commit out in a work tree of its own, and removes that.
func BuildCommit(ctx context.Context, here, dir, commit string) (bin, name string, err error) {
	if strings.HasPrefix(commit, "-") {
		return "", "", fmt.Errorf("%q is not a commit", commit)
	}
	name, err = command(ctx, here, "git", "rev-parse", "--verify", "--short", commit+"^{commit}")
	if err != nil {
		return "", "", fmt.Errorf("finding the commit %s: %w", commit, err)
	}
	tree, err := filepath.Abs(filepath.Join(dir, "tree"))
	if err != nil {
		return "", "", err
	}
	// From here on there may be a work tree, or a part of one.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
		defer cancel()
		if _, e := command(ctx, here, "git", "worktree", "remove", "--force", tree); e != nil && err == nil {
			err = fmt.Errorf("removing the work tree of %s: %w", commit, e)
		}
	}()
	if _, err = command(ctx, here, "git", "worktree", "add", "--detach", tree, name); err != nil {
		return "", "", fmt.Errorf("checking out %s: %w", commit, err)
	}
	bin = filepath.Join(filepath.Dir(tree), "bin-"+name)
	// -trimpath: the cache then has the packages of an earlier build, which was in another tree.
	if _, err = command(ctx, tree, "go", "build", "-trimpath", "-o", bin+string(filepath.Separator), "./cmd/..."); err != nil {
		return "", "", fmt.Errorf("building the commands of %s: %w", commit, err)
	}
	return bin, name, nil
}

// HistoryMissing returns why a commit is missing although its name may be right: there is no
// repository around the directory here, or it is a clone without its history. It returns "" if
// neither is so.
func HistoryMissing(ctx context.Context, here, commit string) (string, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return "there is no git", nil
	}
	shallow, err := command(ctx, here, "git", "rev-parse", "--is-shallow-repository")
	if err != nil && strings.Contains(err.Error(), "not a git repository") {
		return "there is no git history", nil
	}
	if err != nil {
		return "", fmt.Errorf("asking whether there is all of git's history: %w", err)
	}
	if shallow != "true" {
		return "", nil
	}
	if _, err := command(ctx, here, "git", "cat-file", "-e", commit+"^{commit}"); err == nil {
		return "", nil
	}
	return "this is a shallow clone, without the commit " + commit, nil
}

// command runs a program and returns what it printed on stdout, without the space around
// it. The error contains what it printed on stderr.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", errors.Join(fmt.Errorf("%s %s: %w", name, args[0], err), errors.New(strings.TrimSpace(stderr.String())))
	}
	return strings.TrimSpace(stdout.String()), nil
}
