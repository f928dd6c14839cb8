package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// removeWithin bounds the removal of the temporary work tree, which is removed also when
// the run is interrupted.
const removeWithin = 30 * time.Second

// buildCommit builds the daemon of a commit of the repository around the directory here.
// It returns the program, which is below dir, and the commit's short name. It checks the
// commit out in a work tree of its own, and removes that.
func buildCommit(ctx context.Context, here, dir, commit string) (program, name string, err error) {
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
	program = filepath.Join(filepath.Dir(tree), "presenced-"+name)
	if _, err = command(ctx, tree, "go", "build", "-o", program, "./cmd/presenced"); err != nil {
		return "", "", fmt.Errorf("building presenced of %s: %w", commit, err)
	}
	return program, name, nil
}

// command runs a program and returns what it printed on stdout, without the space around
// it. The error contains what it printed on stderr.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", errors.Join(fmt.Errorf("%s %s: %w", name, args[0], err), errors.New(strings.TrimSpace(stderr.String())))
	}
	return strings.TrimSpace(stdout.String()), nil
}
