package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"presence/cmd/internal/span"

	"github.com/urfave/cli/v3"
)

// option is one option for people: its name, its value as one would give it, without passwords, and
// where it comes from.
type option struct {
	name, value, source string
}

// optionsOf returns all options of a command line that was parsed, in the order of the flags.
func optionsOf(cmd *cli.Command, from *sources) (list []option) {
	for _, f := range cmd.Root().Flags {
		name := f.Names()[0]
		if name == "help" || name == "version" || name == "check" {
			continue
		}
		list = append(list, option{name, text(cmd.Value(name)), from.source(name, cmd.IsSet(name))})
	}
	return list
}

// source says where the value of a flag comes from.
func (s *sources) source(flag string, given bool) string {
	switch from, ok := s.from[flag]; {
	case !given:
		return "default"
	case ok:
		return from
	}
	return "command line"
}

// unheeded are the lines of the file that change nothing, because another source goes before.
func (s *sources) unheeded(cmd *cli.Command) (list []string) {
	for variable, l := range s.lines {
		flag := s.known[variable]
		if s.from[flag] != (&lineOf{flag, s}).String() {
			list = append(list, fmt.Sprintf("%s:%d: %s is given by the %s, which goes before", s.path, l.number, variable, s.source(flag, cmd.IsSet(flag))))
		}
	}
	slices.Sort(list)
	return list
}

// text writes a value as one would give it.
func text(value any) string {
	switch v := value.(type) {
	case time.Duration:
		return span.Format(v)
	case []string:
		return strings.Join(v, ",")
	case []uint64:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]")
	case string:
		return withoutPasswords(v)
	}
	return fmt.Sprint(value)
}

// withoutPasswords masks who logs in by a list of URLs. Other texts stay as they are.
func withoutPasswords(s string) string {
	if !strings.Contains(s, "@") || !strings.Contains(s, "://") {
		return s
	}
	list := strings.Split(s, ",")
	for i, text := range list {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil: // it may hold a password somewhere
			list[i] = "(hidden)"
		case u.User != nil:
			u.User = url.User("xxxxx")
			list[i] = u.String()
		}
	}
	return strings.Join(list, ",")
}
