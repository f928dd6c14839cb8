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
	// include finds what a file includes: a path below the file's directory. That it
	// finds such a text in strings too does no harm.
	include = regexp.MustCompile(`(?i)\binclude[ \t]+(?:"([^"]*)"|'([^']*)'|([^\s;,}]+))`)
)

// checkIncludes refuses files that include themselves, directly or through others.
// nats-server would read them until its stack overflows, and the process would die
// without a helpful message. A file that cannot be read, nats-server reports.
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
