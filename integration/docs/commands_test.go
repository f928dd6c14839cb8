package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// binaries is what build built, once for the test binary.
var binaries struct {
	once sync.Once
	dir  string
	err  error
}

// build builds both commands and returns their directory.
func build(t *testing.T) string {
	t.Helper()
	binaries.once.Do(func() {
		if binaries.dir, binaries.err = os.MkdirTemp("", "presence-docs-"); binaries.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binaries.dir+string(filepath.Separator), "./cmd/...")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			binaries.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return binaries.dir
}

func removeBinaries() {
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir)
	}
}

// helpTexts are what --help prints, by command.
var helpTexts sync.Map

// helpOf returns the help of a command such as "presencectl contacts add".
func helpOf(t *testing.T, command ...string) string {
	t.Helper()
	key := strings.Join(command, " ")
	if text, ok := helpTexts.Load(key); ok {
		return text.(string)
	}
	args := append(command[1:len(command):len(command)], "--help")
	out, err := exec.Command(filepath.Join(build(t), command[0]), args...).CombinedOutput()
	if err != nil {
		out = nil
	}
	helpTexts.Store(key, string(out))
	return string(out)
}

// look checks commands that are not run.
func (s *sandbox) look(t *testing.T, script string) error {
	t.Helper()
	if out, err := exec.Command("bash", "-n", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	script = strings.ReplaceAll(script, "\\\n", " ")
	for l := range strings.Lines(script) {
		words := strings.Fields(l)
		for i, w := range words {
			if aCommand.MatchString(w) {
				if err := lookUp(t, words[i:]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

var (
	flagName    = regexp.MustCompile(`^--[a-z-]+`)
	commandName = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// lookUp checks the command and the flags of a command line of presenced or presencectl.
func lookUp(t *testing.T, words []string) error {
	t.Helper()
	program := filepath.Base(words[0])
	command := []string{program}
	if program == "presencectl" && len(words) > 1 && commandName.MatchString(words[1]) {
		command = append(command, words[1])
		if !strings.Contains(helpOf(t, program), "\n     "+words[1]+" ") {
			return fmt.Errorf("%s has no command %s", program, words[1])
		}
	}
	help := helpOf(t, command...) + helpOf(t, program)
	for _, w := range words[1:] {
		if w == "#" || strings.HasPrefix(w, "|") || w == "&&" {
			break
		}
		if f := flagName.FindString(w); f != "" && !strings.Contains(help, f+" ") && !strings.Contains(help, f+",") && !strings.Contains(help, f+"\n") {
			return fmt.Errorf("%s has no flag %s", strings.Join(command, " "), f)
		}
	}
	return nil
}

// imports are the packages that a fragment of Go may use, by name.
var imports = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "log": "log", "time": "time",
	"nats": "github.com/nats-io/nats.go", "client": "presence/pkg/client", "protocol": "presence/pkg/protocol",
}

var (
	setsErr    = regexp.MustCompile(`(?m)^\t?.*\berr\b :?= .*\)(\s*//.*)?$`)
	unusedVars = regexp.MustCompile(`(?m)^(\w+), err := `)
)

// program makes a program of a fragment.
func program(fragment string) string {
	var b strings.Builder
	b.WriteString("package main\n\nimport (\n\t\"context\"\n\t\"log\"\n\t\"time\"\n")
	for name, path := range imports {
		if strings.Contains("context log time", name) || !regexp.MustCompile(`\b`+name+`\.`).MatchString(fragment) {
			continue
		}
		fmt.Fprintf(&b, "\t%q\n", path)
	}
	b.WriteString(")\n\nfunc main() {\n\tctx, cancel := context.WithTimeout(context.Background(), time.Minute)\n\tdefer cancel()\n")
	b.WriteString(setsErr.ReplaceAllString(fragment, "$0\nif err != nil {\nlog.Fatal(err)\n}"))
	b.WriteString("\n\t_ = ctx\n")
	for _, m := range unusedVars.FindAllStringSubmatch(fragment, -1) {
		if m[1] != "_" {
			fmt.Fprintf(&b, "\t_ = %s\n", m[1])
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// runGo compiles and runs a block of Go, as a package of this module.
func (s *sandbox) runGo(t *testing.T, text string) error {
	t.Helper()
	if !strings.HasPrefix(text, "package ") {
		text = program(text)
	}
	dir := filepath.Join(s.dir, fmt.Sprintf("go%d", len(text)))
	file, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(s.adapt(text)), 0o644); err != nil {
		return err
	}
	compile := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, file)
	compile.Dir = root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s%s", err, out, text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Dir, cmd.Env = s.dir, s.env(text)
	out, err := cmd.CombinedOutput()
	s.printed = func() string { return string(out) }
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
