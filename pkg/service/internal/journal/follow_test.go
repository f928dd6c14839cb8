package journal

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// While the NATS server is away the journal is tried ten times a second; the log
// says so every 10 s, and at once where something was applied in between.
func TestSayAnew(t *testing.T) {
	var log strings.Builder
	j := &Journal[string]{cfg: Config[string]{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
	said := func() int { return strings.Count(log.String(), "following the journal anew") }
	begun := time.Now()
	for at := time.Duration(0); at < 25*time.Second; at += 100 * time.Millisecond {
		j.logRetry(errors.New("away"), begun.Add(at))
	}
	if said() != 3 {
		t.Errorf("in 25 s at one position: said %d times, want 3", said())
	}
	j.applied = 1
	j.logRetry(errors.New("away"), begun.Add(25*time.Second))
	if said() != 4 {
		t.Errorf("after another entry: said %d times, want 4", said())
	}
}
