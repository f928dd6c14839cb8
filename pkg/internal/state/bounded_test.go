package state

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"presence/pkg/internal/entry"
)

// How often TestBounded has the same happen to one user. The race detector makes code run ten
// times as long, so it has a tenth; make bounded runs all without it. A cycle takes 250 ms of the
// lease clock, as for a user who may make 20 changes in 5 s. So a million are almost three days.
const (
	cycles    = 1_000_000 / slower
	perEntry  = 8
	cycleTime = int64(maxStep-1) / perEntry
)

// Bounds of what TestBounded may find in the end. Of what follows a few seconds later, such as
// the loss of a session, so many may be left.
const (
	fewLeft    = 80
	dayOfEnded = 24*3_600_000/int(cycleTime) + fewLeft // what ends in a cycle each, and is kept for a day
	// minuteOfFreed is the same of what is kept for a quarantine, and twoMinutes for as long
	// as closed connections are.
	minuteOfFreed = quarantine/int(cycleTime) + fewLeft
	twoMinutes    = closedKept/int(cycleTime) + fewLeft
)

// always are the bounds of every case, beside fewLeft. What a case adds is in its own map.
var always = map[string]int{
	"ended-sessions": 2 * maxReplacedFences, "ended-names": maxNamed, "digests": digestsKept, "scratch": scratchKept,
	"chains": 2 * maxReplacedFences / minLength, "free-numbers": minuteOfFreed, "numbers": minuteOfFreed,
}

// remembered counts everything that a state keeps, also what Remembered does not tell of because
// no operator asks.
func (s *State) remembered() map[string]int {
	all := s.Remembered()
	all["gateways"], all["instances"], all["lame"] = len(s.gateways.byKey), len(s.instances), len(s.connections.lame)
	all["closed"], all["numbers"], all["fence-pages"] = s.connections.closed.Len(), s.leases.byNumber.Len(), len(s.fenceTable.pages)
	all["chains"], all["buckets"] = len(s.fenceTable.heads), len(s.due.buckets)+len(s.forgets.buckets)+len(s.expiries.buckets)
	all["ordered"], all["pivots"] = s.users.order.tree.Len(), 0
	s.users.order.pivots.Range(func(any, any) bool { all["pivots"]++; return true })
	all["sessions"], all["rare"], all["hidden"] = s.sessions.Len(), s.rares.Len(), s.hiddens.Len()
	all["announcements"] = s.pendings.Len() - all["outbox"] // those that are in no outbox
	all["names"], all["crowds"] = s.names.Len(), len(s.connections.crowds)
	all["replaced"], all["ends"], all["tombstones"] = len(s.replaced), len(s.ends), len(s.tombstones)
	return all
}

type commands = []entry.Command

// boundedCase is something that happens to one user again and again.
type boundedCase struct {
	name  string
	cycle func(to commands, i int) commands // appends what happens; a session of the number i is new
	// most is how many of each thing may be left, beside what always may.
	most map[string]int
	// instance names that which appends the cycle, by default always the same one; quiet has it
	// announce nothing.
	instance func(i int) string
	quiet    bool
}

func boundedCases() []boundedCase {
	set := func(c entry.Command) entry.Command {
		c.Kind, c.User = entry.Set, "alice"
		return c
	}
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
	gateway := func(kind entry.Kind, process string, ops ...entry.Command) entry.Command {
		return entry.Command{Kind: kind, Gateway: "g2", Process: process, TTL: 5_000, Seq: 1, Ops: ops}
	}
	closed := func(client int) entry.Command {
		return entry.Command{Kind: entry.Closed, Server: "N1", Client: uint64(client)}
	}
	nth := func(kind string, i int) string { return kind + strconv.Itoa(i) }
	farOff := func(i int) int64 { return 366*86_400_000 - int64(i)*300 } // ever earlier
	ended := map[string]int{"ended-sessions": dayOfEnded, "fence-pages": dayOfEnded / pageSize * 2, "chains": dayOfEnded / minLength}
	return []boundedCase{
		{name: "replaced on ever new connections", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "pixel", i+1), closed(i+1))
		}, most: map[string]int{"connections": twoMinutes, "closed": twoMinutes}},
		{name: "lost with ever new connections", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "", i+1), closed(i+1))
		}, most: map[string]int{"connections": twoMinutes, "closed": twoMinutes}},
		{name: "connections that nobody names", cycle: func(to commands, i int) commands {
			return append(to, closed(i+1))
		}, most: map[string]int{"connections": twoMinutes, "closed": twoMinutes}},
		{name: "unbound from ever new connections", cycle: func(to commands, i int) commands {
			return append(to, login("s1", "pixel", i+1), entry.Command{Kind: entry.Unbind, Server: "N1", Client: uint64(i + 1)})
		}},
		{name: "lost by a gateway and logged in anew", cycle: func(to commands, i int) commands {
			c := gateway(entry.Apply, "", login(nth("s", i), "pixel", 0), end(entry.Lost, nth("s", i)))
			c.Gateway, c.Process, c.Seq = "g1", "p1", uint64(i+1)
			return append(to, c)
		}},
		{name: "held by ever new gateways that close", cycle: func(to commands, i int) commands {
			p := nth("p", i)
			return append(to, gateway(entry.Open, p), gateway(entry.Apply, p, login("s1", "", 0)), gateway(entry.Close, p))
		}},
		{name: "held by ever new gateways that are lost", cycle: func(to commands, i int) commands {
			p := nth("p", i)
			return append(to, gateway(entry.Open, p), gateway(entry.Apply, p, login(nth("s", i), "", 0)))
		}, most: map[string]int{"free-numbers": 2 * minuteOfFreed, "numbers": 2 * minuteOfFreed}},
		{name: "logged in until there are too many", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "", 0)) // each lasts 120 cycles
		}},
		{name: "replaced", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "pixel", 0))
		}},
		{name: "kicked", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "", 0), end(entry.Kick, ""))
		}, most: ended},
		{name: "logged out", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "", 0), end(entry.Logout, nth("s", i)))
		}},
		{name: "erased", cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "", 0), entry.Command{Kind: entry.Erase, User: "alice"})
		}, most: ended},
		{name: "texts that end ever earlier", cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{Text: nth("x", i%2), Expires: farOff(i)}))
		}},
		{name: "texts that end ever later", cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{Text: nth("x", i%2), Expires: 1000 + int64(i)}))
		}},
		{name: "texts that end when another's does", cycle: func(to commands, i int) commands {
			at := 366*86_400_000 - int64(i/perEntry)*(maxStep-1)
			if i == 0 {
				to = append(to, entry.Command{Kind: entry.Set, User: "bob", Text: "x", Expires: at})
			}
			return append(to, set(entry.Command{Text: "x", Expires: at}), set(entry.Command{}))
		}},
		{name: "overrides that end ever earlier", cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{KeepText: true, Availability: entry.Busy + entry.Availability(i%2), Override: farOff(i)}))
		}},
		{name: "texts that nobody announces", quiet: true, cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{Text: nth("x", i%2)}))
		}, most: map[string]int{"outbox": 1024 + perEntry}},
		{name: "replaced, which nobody announces", quiet: true, cycle: func(to commands, i int) commands {
			return append(to, login(nth("s", i), "pixel", 0))
		}, most: map[string]int{"untold-ends": maxPendingEnds, "outbox": 1024 + perEntry}},
		{name: "texts by ever new instances", cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{Text: nth("x", i%2)}))
		}, instance: func(i int) string { return nth("I", i/perEntry) },
			most: map[string]int{"outbox": minuteOfFreed}}, // as long as an instance is remembered
		{name: "ever new platforms", cycle: func(to commands, i int) commands {
			c := login("s1", "pixel", 0)
			c.Platform = nth("platform-", i)
			return append(to, c)
		}},
		{name: "invisible and back", cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{KeepText: true, Availability: entry.Available + entry.Availability(i%2)*4}), login("s1", "", 0))
		}},
		{name: "invisible and back, which nobody announces", quiet: true, cycle: func(to commands, i int) commands {
			return append(to, set(entry.Command{KeepText: true, Availability: entry.Available + entry.Availability(i%2)*4}), login("s1", "", 0))
		}, most: map[string]int{"outbox": 1024 + 2*perEntry}},
		{name: "ever new servers in lame duck mode", cycle: func(to commands, i int) commands {
			return append(to, entry.Command{Kind: entry.LameDuck, Server: nth("N", i)})
		}, most: map[string]int{"lame": maxLame}},
	}
}

// TestBounded: what happens to one user again and again leaves nothing behind, whatever is lazy
// about how it is kept. The user is in the order for lists, too.
func TestBounded(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // it is a fifth of the time by default
	for _, c := range boundedCases() {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t).at(entry.Format)
			m.do(t, "configure grace=5s retention=168h", "open g1 p1 ttl=3600s")
			m.s.Order(1)
			e := entry.Entry{Commands: make([]entry.Command, 0, 3*perEntry)} // again and again
			heap := uint64(0)
			for i := 0; i < cycles; i += perEntry {
				if i == cycles/2 {
					heap = heapInUse()
				}
				c.apply(t, m, &e, i)
			}
			for what, n := range m.s.remembered() {
				if most := max(c.most[what], always[what], fewLeft); n > most {
					t.Errorf("%d %s are left of %d cycles, at most %d should be", n, what, cycles, most)
				}
			}
			most := heap + 4<<20 + 24*uint64(c.most["ended-sessions"])
			for range 100 { // what is interned goes some collections later, in the background
				if heapInUse() <= most {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			if now := heapInUse(); now > most {
				t.Errorf("the heap grew from %d bytes to %d in the second half of %d cycles", heap, now, cycles)
			}
			runtime.KeepAlive(m)
		})
	}
}

// apply applies an entry of the cycles from i on.
func (c *boundedCase) apply(t *testing.T, m *machine, e *entry.Entry, i int) {
	instance := "A"
	if c.instance != nil {
		instance = c.instance(i)
		clear(m.sequence) // each has one entry
	}
	number, _ := m.s.GatewayLease("g1", "p1")
	e.Header, e.Renewed, e.Commands = m.header(instance), append(e.Renewed[:0], number), e.Commands[:0]
	if !c.quiet {
		e.Header.AnnouncedThrough = m.s.Position()
	}
	for k := range perEntry {
		e.Commands = c.cycle(e.Commands, i+k)
	}
	m.now += maxStep - 1
	if _, err := m.s.Apply(e, m.s.Position()+1, m.now, false); err != nil {
		t.Fatal(err)
	}
}

// heapInUse returns how many bytes of the heap are reachable.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
