package broker

import (
	"log/slog"
	"strings"
	"testing"
)

// White-box: no test makes nats-server say each of these.
func TestUsualWarnings(t *testing.T) {
	var b strings.Builder
	l := newServerLog(slog.New(slog.NewTextHandler(&b, nil)))
	l.Warnf("%v", "JetStream has not established contact with a meta leader")
	l.Warnf("Metalayer blocking snapshot took %.3fs", 0.006)
	if b.Len() > 0 {
		t.Errorf("what an ordinary start says is logged: %s", b.String())
	}
	l.Warnf("Plaintext passwords detected, use nkeys or bcrypt")
	if !strings.Contains(b.String(), "level=WARN") || !strings.Contains(b.String(), "Plaintext passwords") {
		t.Errorf("another warning: got %q", b.String())
	}
}
