// Package stdlog takes what libraries write with the standard library's log package,
// and passes it on to the program's own log:
//
//	import "presence/cmd/presenced/internal/stdlog"
//
//	stdlog.PassTo(logger) // as soon as there is one
//
// Some libraries log while they are initialized, before main begins and the format of the
// log is known. Such lines are kept until PassTo.
//
// Go initializes packages in the order of their import paths, as far as their imports
// allow. This package imports little, so that it comes before packages that import
// net/http. TestJSONLog_Libraries of presenced tests that.
package stdlog

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
)

// maxKept bounds the lines kept while there is no logger; later ones are dropped.
const maxKept = 100

var taken writer

func init() {
	log.SetFlags(0) // the logger has a time of its own
	log.SetOutput(&taken)
}

// PassTo passes on what was kept, and everything from now on. A later call replaces an
// earlier one. It is safe for concurrent use.
func PassTo(logger *slog.Logger) {
	taken.mu.Lock()
	defer taken.mu.Unlock()
	taken.logger = logger.With("component", "log")
	for _, line := range taken.kept {
		taken.pass(line)
	}
	taken.kept = nil
}

// writer gets one line with each call from the log package.
type writer struct {
	mu     sync.Mutex
	logger *slog.Logger // nil: none yet
	kept   []string
}

func (w *writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := strings.TrimSpace(string(b))
	switch {
	case w.logger != nil:
		w.pass(line)
	case len(w.kept) < maxKept:
		w.kept = append(w.kept, line)
	}
	return len(b), nil
}

// levels are words with which some libraries begin a line.
var levels = []struct {
	begin string
	level slog.Level
}{{"INFO: ", slog.LevelDebug}, {"WARN: ", slog.LevelWarn}, {"ERROR: ", slog.LevelWarn}}

// pass logs a line. An error of a library is a warning: presenced goes on.
func (w *writer) pass(line string) {
	level := slog.LevelInfo
	for _, l := range levels {
		if rest, ok := strings.CutPrefix(line, l.begin); ok {
			line, level = rest, l.level
			break
		}
	}
	w.logger.Log(context.Background(), level, line)
}
