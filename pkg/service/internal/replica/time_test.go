package replica

import (
	"testing"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

// TestDue: an entry is due if the journal has been silent for a second, or if the instance is not
// in the table. None is due while no request reaches the instance.
func TestDue(t *testing.T) {
	s := state.New()
	e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "A", Sequence: 1}}
	if _, err := s.Apply(e, 1, 1_700_000_000_000, false); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		writer    string
		silent    time.Duration
		reachable bool
		want      bool
	}{
		{"A", 100 * time.Millisecond, true, false},
		{"A", time.Second, true, true},
		{"A", time.Hour, false, false},
		{"B", 0, true, true},
		{"B", 0, false, false},
	} {
		if got := Due(s, x.writer, x.silent, x.reachable); got != x.want {
			t.Errorf("Due(%s, silent for %v, reachable %t) = %t, want %t", x.writer, x.silent, x.reachable, got, x.want)
		}
	}
}
