package natscontext

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// ending is what the name of a context's file ends with.
const ending = ".json"

// Names returns the names of all contexts that can be shown on one line, in order. Without
// a directory of contexts there are none.
func Names() ([]string, error) {
	dir, err := contextDirectory()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), ending)
		if is && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			names = append(names, name)
		}
	}
	return names, err
}

// Marshal returns a context as its file has it.
func (c *Context) Marshal() ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	return append(text, '\n'), err
}

// ErrExists says that a context of that name is there, and is another's.
var ErrExists = errors.New("is there already")

// CheckNew returns ErrExists if Install would not write one of the contexts.
func CheckNew(contexts []*Context, replace bool) error {
	dir, err := contextDirectory()
	if err != nil {
		return err
	}
	for _, c := range contexts {
		if err := checkName(c.Name); err != nil {
			return err
		}
		if !replace && !c.mayReplace(dir) {
			return fmt.Errorf("the nats context %s %w", filepath.Join(dir, c.Name+ending), ErrExists)
		}
	}
	return nil
}

// Install writes contexts to where the nats CLI looks for them, by their names. Only their
// owner can read them. A context with the same description is replaced, any other only if
// replace is true. If one must not be replaced none is written.
func Install(contexts []*Context, replace bool) (dir string, err error) {
	if err := CheckNew(contexts, replace); err != nil {
		return "", err
	}
	if dir, err = contextDirectory(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for _, c := range contexts {
		if err := c.write(dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// mayReplace reports whether no other's file is in the place of the context.
func (c *Context) mayReplace(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, c.Name+ending))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	there := Context{}
	return json.Unmarshal(text, &there) == nil && there.Description == c.Description
}

// write makes a new file, so that nobody keeps one open that was readable before, and puts
// it in its place whole.
func (c *Context) write(dir string) error {
	text, err := c.Marshal()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(dir, c.Name+ending))
}

func contextDirectory() (string, error) {
	dir, err := directory()
	return filepath.Join(dir, "context"), err
}

// checkName refuses what the nats CLI refuses. A name with a slash would be in another
// directory.
func checkName(name string) error {
	if name == "" || strings.Contains(name, "..") || strings.ContainsAny(name, `/\`) {
		return fmt.Errorf(`%q is no name of a context: it is empty, or has "..", "/" or "\"`, name)
	}
	return nil
}
