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
		if got := Due(s, x.writer, x.silent, x.reachable, false); got != x.want {
			t.Errorf("Due(%s, silent for %v, reachable %t) = %t, want %t", x.writer, x.silent, x.reachable, got, x.want)
		}
	}
}

// TestIdle: an instance is idle if the journal's server is its own, nobody is logged in, and it is the
// only instance in the table. Then an entry is due after 30 s, when a text expires, or when the wall
// clock has jumped, and no other way.
func TestIdle(t *testing.T) {
	const start = 1_700_000_000_000
	s, position, now := state.New(), uint64(0), int64(start)
	apply := func(instance string, commands ...entry.Command) {
		t.Helper()
		position, now = position+1, now+100
		// What an entry announces is announced by the next.
		h := entry.Header{Epoch: "E", Generation: 1, Instance: instance, Sequence: position, LeaseClock: s.LeaseClock(), MaxFormat: entry.Format, AnnouncedThrough: position - 1}
		if _, err := s.Apply(&entry.Entry{Header: h, Commands: commands}, position, now, false); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want bool, when string) {
		t.Helper()
		if got := Idle(s, "A", true); got != want {
			t.Errorf("Idle %s = %t, want %t", when, got, want)
		}
	}
	apply("A")
	is(false, "below format 6")
	apply("A", entry.Command{Kind: entry.SetFormat, Seq: entry.Format})
	is(true, "while nobody is there")
	if Idle(s, "A", false) {
		t.Error("Idle with a server of others = true, want false")
	}
	apply("A", entry.Command{Kind: entry.Login, User: "alice", Session: "s1", TTL: 30_000})
	apply("A")
	is(false, "while somebody is logged in")
	apply("A", entry.Command{Kind: entry.Logout, User: "alice", Session: "s1"})
	is(false, "while a logout is to be announced")
	apply("A")
	is(true, "after the logout")
	apply("A", entry.Command{Kind: entry.Open, Gateway: "g", Process: "p", TTL: 30_000})
	apply("A")
	is(false, "while there is a gateway")
	apply("A", entry.Command{Kind: entry.Close, Gateway: "g", Process: "p"})
	apply("A", entry.Command{Kind: entry.Set, User: "alice", Text: "x", Expires: 20_000})
	apply("A")
	is(true, "after the gateway has left")
	for _, x := range []struct {
		silent time.Duration
		want   bool
	}{{19 * time.Second, false}, {21 * time.Second, true}} {
		if got := Due(s, "A", x.silent, true, true); got != x.want {
			t.Errorf("Due(silent for %v, a text expires after 20 s) = %t, want %t", x.silent, got, x.want)
		}
	}
	now += 20_000
	apply("A")
	apply("A")
	for _, x := range []struct {
		silent time.Duration
		want   bool
	}{{29 * time.Second, false}, {30 * time.Second, true}} {
		if got := Due(s, "A", x.silent, true, true); got != x.want {
			t.Errorf("Due(silent for %v) = %t, want %t", x.silent, got, x.want)
		}
	}
	for drift, want := range map[time.Duration]bool{0: false, 400 * time.Millisecond: false, 600 * time.Millisecond: true, -600 * time.Millisecond: true, time.Hour: true} {
		if got := Drifted(s, 10*time.Second, time.UnixMilli(now).Add(10*time.Second+drift)); got != want {
			t.Errorf("Drifted by %v = %t, want %t", drift, got, want)
		}
	}
	apply("B")
	is(false, "since a second instance joined")
}
