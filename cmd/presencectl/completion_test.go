package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

// completeIn has bash, without its startup files and so without the package
// bash-completion, complete a line at its end, and returns what it offers.
func completeIn(t *testing.T, dir, typed string, words ...string) (offers []string, stderr string) {
	t.Helper()
	program := filepath.Join(servicetest.Build(t), "presencectl")
	const script = `
source <("$1" completion bash) || exit
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=$type
_presencectl
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.CommandContext(context.Background(), "bash", append([]string{"--norc", "--noprofile", "-c", script, "bash", program}, words...)...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "type=" + typed}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("completing %q: %v: %s", words, err, errs.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n"), errs.String()
}

const firstTAB, secondTAB = "9", "63"

// TestCompletion_Bash: it works without the package bash-completion.
func TestCompletion_Bash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typed string
		words []string
		want  string
	}{
		{firstTAB, []string{"presencectl", "lo"}, "login logout"},
		{firstTAB, []string{"presencectl", "login", "alice", "--pl"}, "--platform"},
		{firstTAB, []string{"presencectl", "login", "alice", "--platform", "x y", "--ser"}, "--server"},
		{firstTAB, []string{"presencectl", "contacts", "r"}, "remove replace"},
		{firstTAB, []string{"presencectl", "get", "al"}, ""},
		{firstTAB, []string{"presencectl", "set", "alice", "--", "-x", ""}, ""},
		{secondTAB, []string{"presencectl", "lo"}, "login   hold a session of a user until interrupted logout  end sessions of a user"},
		{secondTAB, []string{"presencectl", "logi"}, "login"},
	} {
		offers, stderr := completeIn(t, t.TempDir(), c.typed, c.words...)
		if got := strings.Join(offers, " "); got != c.want || stderr != "" {
			t.Errorf("%q: got %q and on stderr %q, want %q", c.words, got, stderr, c.want)
		}
	}
}

// TestCompletion_RunsNothing: nothing of the line that is completed is run, wherever it
// stands, and the command on it is not carried out.
func TestCompletion_RunsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, words := range [][]string{
		{"presencectl", "get", "$(touch made)", ""},
		{"presencectl", "get", "`touch made`", "--js"},
		{"presencectl", "get", "\"$(touch made)", ""},
		{"presencectl", "get", ";", "touch", "made", ""},
		{"presencectl", "get", "$(touch made)"},
		{"presencectl", "get", "-$(touch made)"},
		{"$(touch made)/presencectl", "lo"},
		{"touch", "made"},
		{"presencectl", "nats-config", "--", "made", ""},
		{"presencectl", "nats-config", "made", "-"},
		{"presencectl", "nats-config", "made", "--auth", "jwt", ""},
	} {
		completeIn(t, dir, firstTAB, words...)
		if made, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(made) > 0 {
			t.Fatalf("%q: completing it has made %q, %v", words, made, err)
		}
	}
}

// TestCompletion_Quoted: a path is one word of the script, whatever is in it.
func TestCompletion_Quoted(t *testing.T) {
	path := `/a b/$(touch x)/it's\n`
	if got, want := shellQuoted(path, "bash"), `'/a b/$(touch x)/it'\''s\n'`; got != want {
		t.Errorf("for bash: got %s, want %s", got, want)
	}
	if got, want := shellQuoted(path, "fish"), `'/a b/$(touch x)/it\'s\\n'`; got != want {
		t.Errorf("for fish: got %s, want %s", got, want)
	}
}
