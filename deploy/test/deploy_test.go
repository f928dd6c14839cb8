// Package deploy tests the files of deploy/: each is read by the types or the program that it is
// for, and what one file says must be what another one takes.
package deploy

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
)

// variables are those that cluster.conf takes from the environment.
func variables(t *testing.T) []string {
	t.Helper()
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^[^#\n]*?[ :]\$([A-Z0-9_]+)`).FindAllStringSubmatch(read(t, "../../cmd/presenced/example/cluster.conf"), -1) {
		names[m[1]] = true
	}
	if len(names) < 10 {
		t.Fatalf("cluster.conf takes %q from the environment, want at least 10", slices.Sorted(maps.Keys(names)))
	}
	return slices.Sorted(maps.Keys(names))
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
