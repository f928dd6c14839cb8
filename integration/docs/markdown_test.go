package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, as seen from this package.
const root = "../.."

// document is a Markdown file, taken apart.
type document struct {
	name   string // from the repository's root
	lines  []line
	blocks []block
	// anchors are what a link to a heading of this document may name.
	anchors []string
}

// line is one that is not in a fenced block.
type line struct {
	number int
	text   string
}

// block is a fenced one.
type block struct {
	number int    // of its first line
	lang   string // the first word after the fence
	info   string // the words after that
	text   string
}

// documents returns every Markdown file of the repository, or those of some patterns.
func documents(t *testing.T, patterns ...string) (list []*document) {
	t.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			list = append(list, parse(t, path))
		}
	}
	if len(list) == 0 {
		t.Fatalf("there is no document like %q", patterns)
	}
	return list
}

// everyDocument are the patterns of all that is written in Markdown.
var everyDocument = []string{"*.md", "docs/*.md", "pkg/*/*.md"}

var fence = regexp.MustCompile("^```+ *([^ `]*) *(.*)$")

func parse(t *testing.T, path string) *document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name, err := filepath.Rel(absolute(root), absolute(path))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{name: filepath.ToSlash(name)}
	var open *block
	for i, s := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		m := fence.FindStringSubmatch(s)
		switch {
		case open != nil && m != nil:
			d.blocks = append(d.blocks, *open)
			open = nil
		case open != nil:
			open.text += s + "\n"
		case m != nil:
			open = &block{number: i + 1, lang: m[1], info: strings.TrimSpace(m[2])}
		default:
			d.lines = append(d.lines, line{i + 1, s})
			d.heading(s)
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block has no end", d.name, open.number)
	}
	return d
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// heading notes the anchor of a line that is a heading, as GitHub makes it.
func (d *document) heading(s string) {
	title := strings.TrimLeft(s, "#")
	if title == s || !strings.HasPrefix(title, " ") {
		return
	}
	slug := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
	d.anchors = append(d.anchors, strings.ReplaceAll(slug, " ", "-"))
}

// isTable says that a line belongs to a table, whose rows cannot be wrapped.
func (l line) isTable() bool { return strings.HasPrefix(l.text, "|") }

// isCode says that a line is a block without a fence, which has no language.
func (d *document) isCode(i int) bool {
	l := d.lines[i]
	if !strings.HasPrefix(l.text, "    ") || i == 0 {
		return false
	}
	before := d.lines[:i]
	for _, b := range slices.Backward(before) {
		switch {
		case b.text == "" || strings.HasPrefix(b.text, "    "):
			continue
		default:
			return !strings.HasPrefix(strings.TrimSpace(b.text), "- ") && !strings.HasPrefix(b.text, "  ")
		}
	}
	return true
}
