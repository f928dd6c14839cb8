package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

// TestComplete: what fits in the place of the last word.
func TestComplete(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	writeContexts(t, os.Getenv("XDG_CONFIG_HOME"), "dev")
	for _, c := range []struct {
		words string // separated by spaces
		files bool
		want  string // some of what is offered; "" for nothing
	}{
		{"", false, "login list nats-config completion"},
		{"contacts ", false, "list add remove replace"},
		{"contacts add ", false, ""},
		{"get al", false, ""},
		{"get alice --", false, "--detail --fresh --server --json --help"},
		{"--", false, "--server --version --help"},
		{"logout x -", false, "--session --all --context"}, // they exclude each other
		{"set alice -- -", false, ""},
		{"availability alice ", false, "available away busy dnd invisible"},
		{"availability --json alice ", false, "busy"},
		{"availability --expires 1h alice ", false, "busy"},
		{"-s nats : //127.0.0.1 : 4222 availability alice ", false, "busy"}, // as bash splits it
		{"availability alice busy ", false, ""},
		{"list --status ", false, "online offline unlogined"},
		{"list --status=", false, "--status=online --status=offline"},
		{"list --status = on", false, "online offline"}, // as bash splits it
		{"await --any --status ", false, "online"},
		{"login alice --platform ", false, "web android"},
		{"--context ", true, "dev"},
		{"get --context ", true, "dev"},
		{"get --creds ", true, ""},
		{"nats-config ", true, ""},
		{"nats-config --auth ", false, "password nkey jwt"},
		{"nats-user ", false, "user gateway reader operator"},
		{"nats-user user ", false, ""},
		{"verify --data ", true, ""},
		{"completion ", false, "bash zsh fish"},
		{"nothing ", false, ""}, // no command
		{"nothing --foo=", false, ""},
	} {
		var out bytes.Buffer
		code := run(context.Background(), append([]string{"presencectl", completeWord}, strings.Split(c.words, " ")...), nil, &out, &out)
		first, rest, _ := strings.Cut(out.String(), "\n")
		var words []string
		for line := range strings.Lines(rest) {
			word, _, _ := strings.Cut(line, "\t")
			words = append(words, word)
		}
		if code != exitDone || (first == "files") != c.files || (c.want == "") != (len(words) == 0) {
			t.Errorf("%q: got %d and\n%s", c.words, code, out.String())
		}
		for want := range strings.FieldsSeq(c.want) {
			if !slices.Contains(words, want) {
				t.Errorf("%q: no %s in\n%s", c.words, want, out.String())
			}
		}
	}
}

// writeContexts makes nats contexts of these names.
func writeContexts(t *testing.T, home string, names ...string) {
	t.Helper()
	dir := filepath.Join(home, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// completeIn has bash, without its startup files and so without the package
// bash-completion, complete a line at its end, and returns what it offers.
func completeIn(t *testing.T, dir, typed string, words ...string) (offers []string, stderr string) {
	t.Helper()
	const script = `
source <("$1" completion bash) || exit
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=$type
_presencectl
printf '%s\n' "${COMPREPLY[@]}"`
	return shellIn(t, dir, []string{"type=" + typed}, append([]string{"bash", "--norc", "--noprofile", "-c", script, "bash", presencectl(t)}, words...)...)
}

// presencectl is the program, as a user has it.
func presencectl(t *testing.T) string {
	t.Helper()
	return filepath.Join(servicetest.Build(t), "presencectl")
}

// shellIn runs a shell in a directory, which is its home, and returns the lines on stdout.
func shellIn(t *testing.T, dir string, env []string, args ...string) (lines []string, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, ".config"), "LC_ALL=C.UTF-8")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, errs.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n"), errs.String()
}

const firstTAB, secondTAB = "9", "63"

// TestCompletion_Bash: it works without the package bash-completion.
func TestCompletion_Bash(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeContexts(t, filepath.Join(home, ".config"), "dev", "de luxe", "$(touch made)")
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
		{firstTAB, []string{"presencectl", "list", "--status", "o"}, "online offline"},
		{firstTAB, []string{"presencectl", "list", "--status", "="}, "online offline unlogined"},
		{firstTAB, []string{"presencectl", "list", "--status", "=", "u"}, "unlogined"},
		{firstTAB, []string{"presencectl", "--context", "d"}, `de\ luxe dev`},
		{firstTAB, []string{"presencectl", "--context", `de\ l`}, `de\ luxe`},
		{firstTAB, []string{"presencectl", "--context", "$"}, `\$\(touch\ made\)`},
		{firstTAB, []string{"presencectl", "--context", `\$`}, `\$\(touch\ made\)`},
		{firstTAB, []string{"presencectl", "--context", ""}, `\$\(touch\ made\) de\ luxe dev`},
		{secondTAB, []string{"presencectl", "lo"}, "login   hold a session of a user until interrupted logout  end sessions of a user"},
		{secondTAB, []string{"presencectl", "logi"}, "login"},
	} {
		offers, stderr := completeIn(t, home, c.typed, c.words...)
		if got := strings.Join(offers, " "); got != c.want || stderr != "" {
			t.Errorf("%q: got %q and on stderr %q, want %q", c.words, got, stderr, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "made")); err == nil {
		t.Error("the name of a context was run")
	}
}

// TestCompletion_Fish asks fish itself what it offers. What it inserts is quoted by fish.
func TestCompletion_Fish(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("fish"); err != nil {
		t.Skip("there is no fish")
	}
	home := t.TempDir()
	writeContexts(t, filepath.Join(home, ".config"), "dev", "$(touch made)")
	for line, want := range map[string]string{
		"presencectl lo":                         "login logout",
		"presencectl list --status o":            "offline online",
		"presencectl list --status=o":            "--status=offline --status=online",
		"presencectl --context ":                 "$(touch made) dev",
		"presencectl get (touch made) ":          "",
		"presencectl get \"$(touch made)\" --js": "--json",
		"presencectl availability alice b":       "busy",
	} {
		const script = `$argv[1] completion fish | source; complete -C $argv[2]`
		lines, stderr := shellIn(t, home, nil, "fish", "--no-config", "-c", script, presencectl(t), line)
		var words []string
		for _, l := range lines {
			word, _, _ := strings.Cut(l, "\t")
			if word != "" && !strings.HasSuffix(word, "/") { // a file beside the contexts
				words = append(words, word)
			}
		}
		slices.Sort(words)
		if got := strings.Join(words, " "); got != want || stderr != "" {
			t.Errorf("%q: got %q and on stderr %q, want %q", line, got, stderr, want)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "made")); err == nil {
		t.Error("something of a line was run")
	}
}

// TestCompletion_Zsh runs what the script gives to zsh, with words as zsh has them. What it
// inserts is quoted by zsh.
func TestCompletion_Zsh(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("zsh"); err != nil {
		t.Skip("there is no zsh")
	}
	home := t.TempDir()
	writeContexts(t, filepath.Join(home, ".config"), "dev", "a:b", "$(touch made)")
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"list", "--status", "o"}, "online offline unlogined"},
		{[]string{"list", "--status=o"}, "--status=online --status=offline --status=unlogined"},
		{[]string{"get", "$(touch made)", "--context", ""}, `$(touch made) a\:b dev FILES`},
		{[]string{"get", "`touch made`", "al"}, ""},
		{[]string{"nats-config", ""}, "FILES"},
	} {
		const script = `
compdef() { :; }
_describe() { print -rl -- "${(@P)2}"; }
_files() { print FILES; }
eval "$("$1" completion zsh)"
shift
words=(presencectl "$@") CURRENT=$(($# + 1))
_presencectl; true`
		lines, stderr := shellIn(t, home, nil, append([]string{"zsh", "--no-rcs", "-c", script, "zsh", presencectl(t)}, c.words...)...)
		if got := strings.Join(lines, " "); got != c.want || stderr != "" {
			t.Errorf("%q: got %q and on stderr %q, want %q", c.words, got, stderr, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "made")); err == nil {
		t.Error("something of a line was run")
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
