package state

import (
	"fmt"
	"runtime"
	"testing"

	"presence/pkg/internal/entry"
)

// cycles is how often TestBounded has the same happen to one user. The race detector, which makes
// code ten times as slow, has a tenth; make bounded runs all without it.
const cycles = 1_000_000 / slower

// TestBounded: what happens to one user again and again leaves nothing behind, whatever
// is lazy about how it is kept. Time passes as it must while a user who may make 20
// changes in 5 s makes them.
func TestBounded(t *testing.T) {
	login := func(session, device string, client int) entry.Command {
		c := entry.Command{Kind: entry.Login, User: "alice", Session: session, Device: device, Platform: "web", TTL: 30_000}
		if client > 0 {
			c.Server, c.Client = "N1", uint64(client)
		}
		return c
	}
	end := func(kind entry.Kind, session string) entry.Command {
		return entry.Command{Kind: kind, User: "alice", Session: session, All: session == ""}
	}
	apply := func(seq int, ops ...entry.Command) entry.Command {
		return entry.Command{Kind: entry.Apply, Gateway: "g1", Process: "p1", Seq: uint64(seq), Ops: ops}
	}
	for _, c := range []struct {
		name  string
		cycle func(i int) []entry.Command // a session of the number i is new
		// most is how many of each thing may be left, beside what every state has.
		most map[string]int
	}{
		{"replaced on ever new connections", func(i int) []entry.Command {
			return []entry.Command{login(fmt.Sprint("s", i), "pixel", i+1), {Kind: entry.Closed, Server: "N1", Client: uint64(i + 1)}}
		}, map[string]int{"leases": 1 + 20, "deadlines": 2 * (1 + 20), "connections": 484}},
		{"lost and logged in anew", func(i int) []entry.Command {
			return []entry.Command{apply(i+1, login(fmt.Sprint("s", i), "pixel", 0), end(entry.Lost, fmt.Sprint("s", i)))}
		}, nil},
		{"replaced", func(i int) []entry.Command {
			return []entry.Command{login(fmt.Sprint("s", i), "pixel", 0)}
		}, nil},
		{"kicked", func(i int) []entry.Command {
			return []entry.Command{login(fmt.Sprint("s", i), "", 0), end(entry.Kick, "")}
		}, map[string]int{"ended-sessions": 345_792, "ended-names": maxNamed}},
		{"logged out", func(i int) []entry.Command {
			return []entry.Command{login(fmt.Sprint("s", i), "", 0), end(entry.Logout, fmt.Sprint("s", i))}
		}, nil},
		{"erased", func(i int) []entry.Command {
			return []entry.Command{login(fmt.Sprint("s", i), "", 0), {Kind: entry.Erase, User: "alice"}}
		}, map[string]int{"ended-sessions": 345_792}},
		{"texts that end ever earlier", func(i int) []entry.Command {
			return []entry.Command{{Kind: entry.Set, User: "alice", Text: fmt.Sprint("x", i%2), Expires: 366*86_400_000 - int64(i)*300}}
		}, nil},
		{"overrides that end ever earlier", func(i int) []entry.Command {
			return []entry.Command{{Kind: entry.Set, User: "alice", KeepText: true, Availability: entry.Busy + entry.Availability(i%2), Override: 366*86_400_000 - int64(i)*300}}
		}, nil},
		{"ever new platforms", func(i int) []entry.Command {
			c := login("s1", "pixel", 0)
			c.Platform = fmt.Sprint("platform-", i)
			return []entry.Command{c}
		}, nil},
		{"invisible and back", func(i int) []entry.Command {
			return []entry.Command{login("s1", "", 0), {Kind: entry.Set, User: "alice", KeepText: true, Availability: entry.Available + entry.Availability(i%2)*4}}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t).at(entry.Format)
			m.do(t, "configure grace=5s retention=168h", "open g1 p1 ttl=3600s")
			number, _ := m.s.GatewayLease("g1", "p1")
			half, heap := map[string]int{}, uint64(0)
			for i := 0; i < cycles; {
				e := entry.Entry{Header: m.header("A"), Renewed: []uint32{number}}
				e.Header.AnnouncedThrough = m.s.Position()
				for range 8 {
					e.Commands = append(e.Commands, c.cycle(i)...)
					i++
				}
				m.now += maxStep - 1
				if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
					t.Fatal(err)
				}
				if i == cycles/2 {
					half, heap = m.s.Remembered(), heapInUse()
				}
			}
			// A cycle of the last entry may not have fallen due, so a few of each may be left.
			grown := int64(heapInUse()) - int64(heap)
			for what, n := range m.s.Remembered() {
				most := max(half[what], c.most[what], 80)
				if what == "ended-sessions" && c.most[what] == 0 {
					most = 2 * maxReplacedFences
				}
				if what == "ended-names" {
					most = maxNamed
				}
				if what == "digests" || what == "scratch" {
					most = 4096
				}
				if n > most {
					t.Errorf("%d %s are left of %d cycles, at most %d should be", n, what, cycles, most)
				}
			}
			if most := int64(4<<20 + 24*c.most["ended-sessions"]); grown > most {
				t.Errorf("the heap grew by %d bytes in the second half of %d cycles", grown, cycles)
			}
			runtime.KeepAlive(m)
		})
	}
}

// heapInUse returns how many bytes of the heap are reachable.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what is interned goes with the second
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
