package docs

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/conf"

	"presence/pkg/protocol"
)

// TestMain is also the stand-ins: it is started under their names.
func TestMain(m *testing.M) {
	if tool, ok := tools[filepath.Base(os.Args[0])]; ok {
		os.Exit(tool(os.Args[1:]))
	}
	code := m.Run()
	removeBinaries()
	os.Exit(code)
}

// TestBlocks runs or checks every block of the documents.
func TestBlocks(t *testing.T) {
	for _, d := range documents(t, "README.md", "docs/*.md") {
		t.Run(filepath.Base(d.name), func(t *testing.T) {
			t.Parallel()
			for i := range d.lines {
				if d.isCode(i) {
					t.Errorf("%s:%d: a block without a fence has no language: %s", d.name, d.lines[i].number, d.lines[i].text)
				}
			}
			box := newSandbox(t, d)
			for _, b := range d.blocks {
				if err := box.do(t, b); err != nil {
					t.Fatalf("%s:%d: %s %s: %v\nThe rest of the document is not run.", d.name, b.number, b.lang, b.info, err)
				}
			}
		})
	}
}

// errUnknown is what the author of a block reads who forgot its language, or made one up.
var errUnknown = errors.New("the test does not know such a block: see the documentation of integration/docs")

// do runs or checks one block.
func (s *sandbox) do(t *testing.T, b block) error {
	t.Helper()
	switch what := strings.TrimSpace(b.lang + " " + b.info); {
	case b.lang == "output":
		return s.compare(b)
	case what == "sh":
		return s.run(t, b.text)
	case what == "sh background":
		return s.start(t, b.text)
	case what == "sh by hand":
		return s.look(t, b.text)
	case what == "go":
		return s.runGo(t, b.text)
	case what == "json":
		return checkJSON(b.text)
	case what == "conf":
		_, err := conf.Parse(b.text)
		return err
	case what == "text" || what == "ini" || what == "js browser" || what == "js token":
		return nil
	}
	return errUnknown
}

func checkJSON(text string) error {
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var link = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)

// TestLinks: what a document links to within the repository is there.
func TestLinks(t *testing.T) {
	for _, d := range documents(t, everyDocument...) {
		for _, l := range d.lines {
			for _, m := range link.FindAllStringSubmatch(l.text, -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				if err := d.resolve(t, m[1]); err != nil {
					t.Errorf("%s:%d: %s: %v", d.name, l.number, m[1], err)
				}
			}
		}
	}
}

// TestIndex: docs/llms.txt names every document, and what it names is there.
func TestIndex(t *testing.T) {
	index := parse(t, filepath.Join(root, "docs/llms.txt"))
	named := map[string]bool{}
	for _, l := range index.lines {
		for _, m := range link.FindAllStringSubmatch(l.text, -1) {
			if err := index.resolve(t, m[1]); err != nil {
				t.Errorf("%s:%d: %s: %v", index.name, l.number, m[1], err)
			}
			named[filepath.ToSlash(filepath.Join("docs", m[1]))] = true
		}
	}
	for _, d := range documents(t, everyDocument...) {
		if !named[d.name] {
			t.Errorf("%s does not name %s", index.name, d.name)
		}
	}
}

// resolve follows a link from a document.
func (d *document) resolve(t *testing.T, target string) error {
	path, anchor, _ := strings.Cut(target, "#")
	to := d
	if path != "" {
		file := filepath.Join(root, filepath.Dir(d.name), path)
		if _, err := os.Stat(file); err != nil {
			return errors.New("there is no such file")
		}
		if anchor == "" {
			return nil
		}
		to = parse(t, file)
	}
	for _, a := range to.anchors {
		if a == anchor {
			return nil
		}
	}
	return errors.New("there is no such heading")
}

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	aPath    = regexp.MustCompile(`^(pkg|cmd|integration|docs|findings)/[\w./-]+$`)
	aTest    = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w*$`)
	aTarget  = regexp.MustCompile(`^make ([a-z0-9-]+)`)
	aMetric  = regexp.MustCompile(`^presence_\w+$`)
	aCommand = regexp.MustCompile(`^(?:bin/)?(presenced|presencectl)\b(.*)$`)
)

// TestNames: what the documents name in code style is there: paths, tests, make targets,
// metrics, and the commands and flags of both programs. The changelog tells of the past.
func TestNames(t *testing.T) {
	tests, makefile, table := everyTest(t), read(t, "Makefile"), read(t, "cmd/presenced/metrics.go")
	for _, d := range documents(t, "README.md", "docs/*.md", "pkg/*/*.md") {
		for _, l := range d.lines {
			for _, m := range quoted.FindAllStringSubmatch(l.text, -1) {
				name, ok := m[1], true
				switch {
				case aPath.MatchString(name):
					_, err := os.Stat(filepath.Join(root, name))
					ok = err == nil
				case aTest.MatchString(name):
					ok = strings.Contains(tests, "func "+name+"(")
				case aTarget.MatchString(name):
					ok = strings.Contains(makefile, "\n"+aTarget.FindStringSubmatch(name)[1]+":")
				case aMetric.MatchString(name) && d.name != "pkg/protocol/PROTOCOL.md":
					ok = strings.Contains(table, `{"`+strings.TrimPrefix(name, "presence_")+`",`) || name == "presence_info"
				case aCommand.MatchString(name):
					if err := lookUp(t, strings.Fields(name)); err != nil {
						t.Errorf("%s:%d: %q: %v", d.name, l.number, name, err)
					}
				}
				if !ok {
					t.Errorf("%s:%d: there is no %s", d.name, l.number, name)
				}
			}
		}
	}
}

// TestTokens: the examples of tokens in docs/clients.md are those of package protocol.
func TestTokens(t *testing.T) {
	_, section, ok := strings.Cut(read(t, "docs/clients.md"), "\n## Tokens\n")
	good, bad, both := strings.Cut(section, "| Not a token |")
	if !ok || !both {
		t.Fatal("docs/clients.md has no examples of tokens")
	}
	row, count := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:`([^`]+)`)?"), 0
	for _, m := range row.FindAllStringSubmatch(good, -1) {
		count++
		if token, err := protocol.EncodeToken(m[1]); err != nil || token != m[2] {
			t.Errorf("EncodeToken(%q): got %q, %v, want %q", m[1], token, err, m[2])
		}
	}
	for _, m := range row.FindAllStringSubmatch(bad, -1) {
		count++
		if user, err := protocol.DecodeToken(m[1]); err == nil {
			t.Errorf("DecodeToken(%q): got %q, want an error", m[1], user)
		}
	}
	if count < 10 {
		t.Errorf("there are %d examples of tokens", count)
	}
}

// TestPackages: docs/architecture.md names every package, but for what is internal to the
// commands and to the integration tests.
func TestPackages(t *testing.T) {
	text := read(t, "docs/architecture.md")
	list := exec.Command("go", "list", "-f", "{{.ImportPath}}", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		name := strings.TrimPrefix(path, "presence/")
		private := strings.Contains(name, "/internal/") && !strings.HasPrefix(name, "pkg/")
		if !private && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/architecture.md does not name %s", name)
		}
	}
}

// TestDependencies: docs/architecture.md says of each direct dependency what it is for.
func TestDependencies(t *testing.T) {
	wantNamed(t, "Dependencies", required(t, "go.mod"))
	wantNamed(t, "Dependencies of the tests for Prometheus", required(t, "integration/monitoring/go.mod"))

	var npm struct{ DevDependencies map[string]string }
	if err := json.Unmarshal([]byte(read(t, "pkg/client-js/package.json")), &npm); err != nil {
		t.Fatal(err)
	}
	wantNamed(t, "Dependencies of the JavaScript client", slices.Collect(maps.Keys(npm.DevDependencies)))
}

// required returns the direct dependencies that a go.mod names.
func required(t *testing.T, file string) (modules []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(read(t, file), -1) {
		if m[2] == "" {
			modules = append(modules, m[1])
		}
	}
	return modules
}

// wantNamed holds the table below a heading of docs/architecture.md to names.
func wantNamed(t *testing.T, heading string, names []string) {
	t.Helper()
	_, text, _ := strings.Cut(read(t, "docs/architecture.md"), "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var named []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ").FindAllStringSubmatch(text, -1) {
		named = append(named, m[1])
	}
	slices.Sort(names)
	slices.Sort(named)
	if !slices.Equal(names, named) {
		t.Errorf("docs/architecture.md, %s, names\n%q, there are\n%q", heading, named, names)
	}
}

// everyTest is the text of all tests.
func everyTest(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"cmd", "pkg", "integration"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, "_test.go") {
				var text []byte
				text, err = os.ReadFile(path)
				all.Write(text)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	maxColumns     = 100
	maxReadmeLines = 150
	maxReadmeWords = 1200
)

// unbreakable is a line with so long a word that it has nowhere to go.
var unbreakable = regexp.MustCompile(`\S{60}`)

// TestForm: lines fit beside each other on a screen, and the README is read in five minutes.
// What is longer has its place in docs/.
func TestForm(t *testing.T) {
	for _, d := range documents(t, everyDocument...) {
		for _, l := range d.lines {
			if n := utf8.RuneCountInString(l.text); n > maxColumns && !l.isTable() && !unbreakable.MatchString(l.text) {
				t.Errorf("%s:%d: %d columns, want at most %d", d.name, l.number, n, maxColumns)
			}
		}
	}
	text := read(t, "README.md")
	if lines, words := strings.Count(text, "\n"), len(strings.Fields(text)); lines > maxReadmeLines || words > maxReadmeWords {
		t.Errorf("README.md has %d lines and %d words, want at most %d and %d", lines, words, maxReadmeLines, maxReadmeWords)
	}
}

// makePath is the real make, for its stand-in.
func makePath() string {
	path, err := exec.LookPath("make")
	if err != nil {
		return "make"
	}
	return path
}
