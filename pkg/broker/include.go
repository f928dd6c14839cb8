package broker

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

var (
	commentLine = regexp.MustCompile(`(?m)^[ \t]*(?:#|//).*$`)
	// include finds what a file includes: a path below the file's directory. It
	// finds it in strings too, which does no harm.
	include = regexp.MustCompile(`(?i)\binclude[ \t]+(?:"([^"]*)"|'([^']*)'|([^\s;,}]+))`)
)

// checkIncludes refuses files that include themselves, through others or not:
// nats-server would read them until its stack is full, of which a process dies
// without a word that helps. A file that cannot be read is left to nats-server.
func checkIncludes(path string, within ...string) error {
	if slices.Contains(within, path) {
		return fmt.Errorf("%s includes itself", filepath.Base(path))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	within = append(slices.Clip(within), path)
	for _, m := range include.FindAllSubmatch(commentLine.ReplaceAll(text, nil), -1) {
		included := cmp.Or(string(m[1]), string(m[2]), string(m[3]))
		if err := checkIncludes(filepath.Join(filepath.Dir(path), included), within...); err != nil {
			return err
		}
	}
	return nil
}
