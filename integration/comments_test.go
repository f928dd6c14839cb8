package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// firstWord is a comment's first word, where that is written like an unexported name.
var firstWord = regexp.MustCompile(`^([a-z]\w*) `)

// TestComments: a comment that begins with a name begins with that of what it documents. After
// a name was changed the comment would mislead. Tests are described in any words.
func TestComments(t *testing.T) {
	files := token.NewFileSet()
	check := func(doc *ast.CommentGroup, name string) {
		word := firstWord.FindStringSubmatch(doc.Text())
		if word != nil && word[1] != name && !strings.HasPrefix(name, "Test") {
			t.Errorf("%v: the comment on %s begins with %s", files.Position(doc.Pos()), name, word[1])
		}
	}
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				check(d.Doc, d.Name.Name)
			case *ast.GenDecl:
				if len(d.Specs) != 1 {
					continue
				}
				switch s := d.Specs[0].(type) {
				case *ast.TypeSpec:
					check(d.Doc, s.Name.Name)
				case *ast.ValueSpec:
					check(d.Doc, s.Names[0].Name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
