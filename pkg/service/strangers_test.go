package service

import (
	"log/slog"
	"strings"
	"testing"
)

// TestBounded_Strangers: while a server does not answer, only so many connections wait
// to be looked up there. The others are left to their leases, and the log says so once.
// White-box, because it takes so many logins.
func TestBounded_Strangers(t *testing.T) {
	var logged strings.Builder
	x := newStrangers(&Service{log: slog.New(slog.NewTextHandler(&logged, nil))})
	for client := range uint64(1_000_000) {
		x.put("N1", client)
	}
	if n := x.waits(); n != maxStrangers {
		t.Errorf("%d wait, want %d", n, maxStrangers)
	}
	if n := strings.Count(logged.String(), "too many connections"); n != 1 {
		t.Errorf("it was logged %d times, want once:\n%s", n, logged.String())
	}
	server := x.next()
	if server != "N1" || x.next() != "" {
		t.Fatalf("the server to ask is %q, want N1 once", server)
	}
	if n := len(x.take(server)); n != maxStrangers || x.waits() != 0 {
		t.Errorf("%d are asked for, and %d wait then, want %d and none", n, x.waits(), maxStrangers)
	}
	if n := len(x.take(server)); n != 0 || len(x.busy) != 0 {
		t.Errorf("%d more, busy %v, want nothing", n, x.busy)
	}
}
