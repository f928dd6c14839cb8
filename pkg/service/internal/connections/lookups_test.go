package connections

import (
	"log/slog"
	"strings"
	"testing"
)

// TestBounded_Lookups: while a server does not answer, only so many connections wait to be looked
// up there. Leases cover the others, and the log says so once. White-box, because it takes so many
// logins.
func TestBounded_Lookups(t *testing.T) {
	var logged strings.Builder
	x := newLookups(slog.New(slog.NewTextHandler(&logged, nil)))
	for client := range uint64(1_000_000) {
		x.put("N1", client)
	}
	if n, _ := x.counts(); n != maxLookups {
		t.Errorf("%d wait, want %d", n, maxLookups)
	}
	if n := strings.Count(logged.String(), "too many connections"); n != 1 {
		t.Errorf("it was logged %d times, want once:\n%s", n, logged.String())
	}
	server := x.next()
	if server != "N1" || x.next() != "" {
		t.Fatalf("the server to ask is %q, want N1 once", server)
	}
	n := len(x.take(server))
	if waiting, asked := x.counts(); n != maxLookups || waiting != 0 || asked != 1 {
		t.Errorf("%d are asked for, %d wait then and %d servers are asked, want %d, none and one", n, waiting, asked, maxLookups)
	}
	n = len(x.take(server))
	if _, asked := x.counts(); n != 0 || asked != 0 {
		t.Errorf("%d more, %d servers are asked, want nothing", n, asked)
	}
}
