package servicetest

import (
	"log/slog"
	"os"
	"testing"
	"time"
)

// waitFor bounds every wait of the kit. It is long because tests of many packages run on few cores
// at the same time.
const waitFor = 45 * time.Second

// Eventually waits until a condition holds. It fails the test if that takes longer than the
// deadline. what completes the sentence "waiting for …".
func Eventually(t testing.TB, deadline time.Duration, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(deadline)
	for pause := time.Millisecond; !holds(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: not within %v", what, deadline)
		}
		time.Sleep(pause)
	}
}

// logger writes lines of a level or a higher one to the test's output. The environment may choose
// another level.
func logger(t testing.TB, level slog.Level) *slog.Logger {
	t.Helper()
	if text := os.Getenv("PRESENCE_TEST_LOG"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			t.Fatalf("PRESENCE_TEST_LOG: %v", err)
		}
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
}
