package journal

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestProgress_String(t *testing.T) {
	for want, p := range map[string]Progress{
		"restoring":                           {Phase: PhaseRestoring},
		"restoring: 45 % of 1,200,000 users":  {Phase: PhaseRestoring, Done: 540_001, Total: 1_200_000},
		"catching up: 0 % of 12 entries":      {Phase: PhaseCatchingUp, Total: 12},
		"catching up: 100 % of 1,000 entries": {Phase: PhaseCatchingUp, Done: 1001, Total: 1000},
		"following":                           {Phase: PhaseFollowing, Done: 1, Total: 2},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

// TestProgress_Logged: the log and Progress say how far a long restore is, and then how far
// catching up is.
func TestProgress_Logged(t *testing.T) {
	nc := startBroker(t)
	a, users := twoSnapshots(t, nc)
	a.stop(t)
	var log lines
	var b *rig
	halfway := make(chan struct{})
	b = openWith(t, nc, "B", func(cfg *Config[string]) {
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		restore := cfg.Restore
		cfg.Restore = func(next func() ([]byte, error), progress func(int, int)) (uint64, error) {
			progress(45, 100)
			<-halfway
			return restore(next, progress)
		}
	})
	b.progressEvery = 10 * time.Millisecond
	b.asleep.Lock() // until Progress has shown that it catches up
	wait := func(what string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !log.has(what) || !strings.HasPrefix(b.Progress().String(), what); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within 20 s: %q in the log and as progress (%s)", what, b.Progress())
			}
		}
	}
	go b.Run(t.Context())
	wait("restoring: 45 % of 100 users")
	close(halfway)
	wait("catching up: 0 % of ")
	b.asleep.Unlock()
	b.wantCommands(t, users)
	<-b.CaughtUp()
	if got := b.Progress().Phase; got != PhaseFollowing {
		t.Errorf("Progress when caught up: got %q, want %q", got, PhaseFollowing)
	}
}
