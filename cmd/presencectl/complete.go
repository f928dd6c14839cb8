package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/cmd/presencectl/natscontext"
)

// completeWord is the hidden command by which the scripts of completion ask:
//
//	presencectl __complete WORD… CURRENT
//
// The words of the line come as they are typed, quotes included. The first line of the answer
// is "files" if the name of a file fits, and "-" otherwise. Each further line is a word that
// fits, a tab, and what it means. The shell leaves out those that do not begin with CURRENT.
//
// Nothing is carried out and nothing is connected: the line is only compared with the tree of
// commands.
const completeWord = "__complete"

// offer is a word that fits, and what it means.
type offer struct{ word, text string }

// complete answers a script.
func complete(w io.Writer, root *cli.Command, words []string) {
	words = joined(words)
	if len(words) == 0 {
		words = []string{""}
	}
	last := len(words) - 1
	l := line{root: root, cmd: root}
	for _, w := range words[:last] {
		l.read(w)
	}
	files, offers := l.complete(words[last])
	first := none
	if files {
		first = "files"
	}
	fmt.Fprintln(w, first) // a shell that went away needs no error
	for _, o := range offers {
		fmt.Fprintf(w, "%s\t%s\n", o.word, o.text)
	}
}

// joined undoes that bash splits words at = and at :, but for the word that is completed.
func joined(words []string) (list []string) {
	glue := false
	for i, w := range words {
		part := (w == "=" || w == ":") && len(list) > 0
		if i < len(words)-1 && (part || glue) {
			list[len(list)-1] += w
		} else {
			list = append(list, w)
		}
		glue = part
	}
	return list
}

// line is a command line, as far as it was read.
type line struct {
	root, cmd *cli.Command
	arguments []string
	wants     cli.Flag // the flag whose value comes next
	literal   bool     // after --
}

// read reads one word.
func (l *line) read(w string) {
	switch {
	case l.wants != nil:
		l.wants = nil
	case !l.literal && w == "--":
		l.literal = true
	case !l.literal && len(w) > 1 && w[0] == '-':
		if name, _, valued := strings.Cut(w, "="); !valued || strings.HasSuffix(w, "=") {
			if f := l.flag(name); f != nil && takesValue(f) {
				l.wants = f
			}
		}
	default:
		if len(l.arguments) == 0 {
			if c := named(l.cmd.Commands, w); c != nil {
				l.cmd = c
				return
			}
		}
		l.arguments = append(l.arguments, w)
	}
}

// complete returns what fits in the place of a word, and whether a file does.
func (l *line) complete(current string) (files bool, offers []offer) {
	name, _, valued := strings.Cut(current, "=")
	switch {
	case l.wants != nil:
		return values(l.wants)
	case !l.literal && valued && strings.HasPrefix(current, "--"):
		f := l.flag(name)
		if f == nil {
			return false, nil
		}
		files, offers = values(f)
		for i := range offers {
			offers[i].word = name + "=" + offers[i].word
		}
		return files, offers
	case !l.literal && strings.HasPrefix(current, "-"):
		return false, l.flagOffers()
	case len(l.cmd.Commands) > 0:
		if len(l.arguments) > 0 {
			return false, nil
		}
		for _, c := range l.cmd.Commands {
			offers = append(offers, offer{c.Name, c.Usage})
		}
		return false, offers
	}
	return argument(l.cmd.ArgsUsage, len(l.arguments))
}

func named(commands []*cli.Command, name string) *cli.Command {
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(name) })
	if i < 0 {
		return nil
	}
	return commands[i]
}

// flags are those of the command and the global ones.
func (l *line) flags() []cli.Flag {
	all := slices.Clone(l.cmd.Flags)
	for _, group := range l.cmd.MutuallyExclusiveFlags {
		all = append(all, slices.Concat(group.Flags...)...)
	}
	if l.cmd != l.root {
		for _, f := range l.root.Flags {
			if !slices.ContainsFunc(all, func(own cli.Flag) bool { return own.Names()[0] == f.Names()[0] }) {
				all = append(all, f)
			}
		}
	} else {
		all = append(all, cli.VersionFlag)
	}
	return append(all, cli.HelpFlag)
}

// flag returns the flag of that name, which has its dashes; nil if there is none.
func (l *line) flag(name string) cli.Flag {
	for _, f := range l.flags() {
		if slices.Contains(f.Names(), strings.TrimLeft(name, "-")) {
			return f
		}
	}
	return nil
}

func (l *line) flagOffers() (offers []offer) {
	for _, f := range l.flags() {
		offers = append(offers, offer{"--" + f.Names()[0], strings.ReplaceAll(usageOf(f), "`", "")})
	}
	return offers
}

func usageOf(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		return d.GetUsage()
	}
	return ""
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// placeholder is the name of a flag's value in its usage.
var placeholder = regexp.MustCompile("`([^`]+)`")

// values returns what fits as the value of a flag.
func values(f cli.Flag) (files bool, offers []offer) {
	if f, ok := f.(*choice.Flag); ok {
		return false, wordOffers(f.Config)
	}
	switch f.Names()[0] {
	case "context":
		names, _ := natscontext.Names() // without them there is nothing to offer
		return true, wordOffers(names)
	case "platform":
		return false, wordOffers(usualPlatforms)
	}
	m := placeholder.FindStringSubmatch(usageOf(f))
	return m != nil && isFile(m[1]), nil
}

// argument returns what fits as an argument, by what the usage of the command says of it:
// alternatives are written a|b, and files FILE or DIRECTORY.
func argument(usage string, number int) (files bool, offers []offer) {
	names := strings.Fields(usage)
	if len(names) == 0 {
		return false, nil
	}
	if last := len(names) - 1; number > last && strings.Contains(names[last], "…") {
		number = last
	}
	if number >= len(names) {
		return false, nil
	}
	name := strings.Trim(names[number], "[]…")
	if strings.Contains(name, "|") {
		return false, wordOffers(strings.Split(name, "|"))
	}
	return isFile(name), nil
}

func isFile(placeholder string) bool { return placeholder == "FILE" || placeholder == "DIRECTORY" }

func wordOffers(words []string) (offers []offer) {
	for _, w := range words {
		offers = append(offers, offer{word: w})
	}
	return offers
}
