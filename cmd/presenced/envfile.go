package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"
)

// envPrefix begins the names of all environment variables of flags.
const envPrefix = "PRESENCED_"

// variableOf is the name of a flag's environment variable.
func variableOf(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// sources are where values of flags come from, beside the command line: the environment, and the
// file of --env-file. They note which of them was used.
type sources struct {
	path  string            // of the file; set before any other flag is looked up
	known map[string]string // flags by their variables
	from  map[string]string // by flag: where its value was found

	lines map[string]line // of the file, by variable; nil before it is read
	err   error           // why it cannot be used
}

// line is a line of the file.
type line struct {
	number int
	value  string
}

func newSources() *sources {
	return &sources{known: map[string]string{}, from: map[string]string{}}
}

// of returns the sources of a flag: its environment variable, then the file.
func (s *sources) of(flag string) cli.ValueSourceChain {
	s.known[variableOf(flag)] = flag
	return cli.NewValueSourceChain(&variable{cli.EnvVar(variableOf(flag)), flag, s}, &lineOf{flag, s})
}

// environment returns the environment variable of a flag that cannot be in the file.
func (s *sources) environment(flag string) cli.ValueSourceChain {
	return cli.NewValueSourceChain(&variable{cli.EnvVar(variableOf(flag)), flag, s})
}

// file returns the lines of the file. There are none without a file, or if it cannot be used.
func (s *sources) file() map[string]line {
	if s.lines != nil || s.path == "" {
		return s.lines
	}
	s.lines = map[string]line{}
	text, err := os.ReadFile(s.path)
	if err != nil {
		s.err = fmt.Errorf("--env-file: %w", err)
		return s.lines
	}
	lines, err := parseEnvFile(string(text), s.known)
	if err != nil {
		s.err = fmt.Errorf("--env-file %s: %w", s.path, err)
		return s.lines
	}
	s.lines = lines
	return s.lines
}

// variable is the environment as a source of one flag.
type variable struct {
	cli.ValueSource
	flag string
	of   *sources
}

// IsFromEnv and Key make the help name the variable.
func (v *variable) IsFromEnv() bool { return true }
func (v *variable) Key() string     { return variableOf(v.flag) }

func (v *variable) Lookup() (string, bool) {
	value, ok := v.ValueSource.Lookup()
	if ok {
		v.of.from[v.flag] = "environment " + v.Key()
	}
	return value, ok
}

// lineOf is the file as a source of one flag.
type lineOf struct {
	flag string
	of   *sources
}

func (l *lineOf) GoString() string { return l.String() }
func (l *lineOf) String() string {
	return fmt.Sprintf("%s:%d", l.of.path, l.of.lines[variableOf(l.flag)].number)
}

func (l *lineOf) Lookup() (string, bool) {
	found, ok := l.of.file()[variableOf(l.flag)]
	if ok {
		l.of.from[l.flag] = l.String()
	}
	return found.value, ok
}

// assignment is a line that sets a variable.
var assignment = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)

// parseEnvFile reads lines like PRESENCED_GRACE=10s, as systemd's EnvironmentFile has them. Empty
// lines and those that begin with # or ; are passed over. A value may stand in single or double
// quotes. What a shell or systemd would read otherwise is refused: backslashes, quotes within a
// value, and continued lines.
func parseEnvFile(text string, known map[string]string) (map[string]line, error) {
	lines := map[string]line{}
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' || l[0] == ';' {
			continue
		}
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("line %d: %s", i+1, fmt.Sprintf(format, args...))
		}
		m := assignment.FindStringSubmatch(strings.TrimPrefix(l, "export "))
		if m == nil {
			return nil, wrong("it must be like %sGRACE=10s", envPrefix) // what is there may be a secret
		}
		name, value := m[1], strings.TrimSpace(m[2])
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		_, ok := known[name]
		switch {
		case !ok:
			return nil, wrong("presenced has no option %s (see presenced --help)", name)
		case strings.ContainsAny(value, "\"'\\"):
			return nil, wrong("the value of %s must have no backslash, and no quotes but around all of it", name)
		case lines[name].number != 0:
			return nil, wrong("%s is set in line %s already", name, strconv.Itoa(lines[name].number))
		}
		lines[name] = line{i + 1, value}
	}
	return lines, nil
}
