package state

import (
	flags "flag"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"presence/pkg/internal/entry"
)

// logins is how many logins TestFlat makes. make flat has 10,000,000.
var logins = flags.Int("logins", 200_000/slower, "how many logins TestFlat makes")

// flatCase is what happens again and again in TestFlat.
type flatCase struct {
	name string
	// round appends what happens in a round, with so many logins.
	round func(to commands, round, logins int) commands
}

// flatUsers log in in a round, in entries of at most flatEntry commands.
const (
	flatUsers = 10_000
	flatEntry = 4_000
)

func flatCases() []flatCase {
	// IDs and texts of all lengths, so that room that was freed rarely fits as it is.
	text := func(i, below int) string { return strings.Repeat("x", i*7919%below) }
	login := func(user string, i int) entry.Command {
		c := entry.Command{Kind: entry.Login, User: user, Session: fmt.Sprint("s", i), Device: text(i, 40), Platform: "web", TTL: 30_000,
			Server: "N1", Client: uint64(i)}
		if i%2 == 0 {
			c.Session = fmt.Sprintf("0b6b0c5a-5b0e-4d5f-9d0a-%012d", i)
		}
		return c
	}
	return []flatCase{
		{"the same users are lost and come again", func(to commands, round, logins int) commands {
			for k := range logins {
				i := round*logins + k
				user := fmt.Sprint("user-", k)
				to = append(to, login(user, i), entry.Command{Kind: entry.Set, User: user, Text: text(i, 200), Expires: int64(i%3) * 600_000})
			}
			for k := range logins {
				to = append(to, entry.Command{Kind: entry.Closed, Server: "N1", Client: uint64(round*logins + k)})
			}
			return to
		}},
		{"users come once", func(to commands, round, logins int) commands {
			for k := range logins {
				i := round*logins + k
				c := login(fmt.Sprint(text(i, 60), "user-", i), i)
				to = append(to, c, entry.Command{Kind: entry.Set, User: c.User, Text: text(i, 200)},
					entry.Command{Kind: entry.Logout, User: c.User, Session: c.Session})
			}
			return to
		}},
	}
}

// TestFlat: the memory is what it was, however many users came and went.
func TestFlat(t *testing.T) {
	for _, c := range flatCases() {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t).at(entry.Format)
			m.do(t, "configure grace=5s retention=1m")
			m.s.Order(1)
			rounds := max(4, *logins/flatUsers)
			heap, early := uint64(0), map[string]int{}
			for round := range rounds {
				if round == rounds/2 {
					heap, early = heapInUse(), m.s.room()
				}
				all := c.round(nil, round, flatUsers)
				for from := 0; from < len(all); from += flatEntry {
					m.flatEntry(t, all[from:min(len(all), from+flatEntry)])
				}
				for range 70 { // lost, forgotten, and what closed is forgotten too
					m.flatEntry(t, nil)
				}
			}
			now := heapInUse()
			t.Logf("%d rounds of %d logins: %d bytes in the heap, %v", rounds, flatUsers, now, m.s.room())
			if now > heap+heap/8+1<<20 {
				t.Errorf("the heap grew from %d bytes to %d in the second half of %d logins", heap, now, rounds*flatUsers)
			}
			for what, n := range m.s.room() {
				if n > early[what]+early[what]/2+2_000 {
					t.Errorf("room for %s grew from %d to %d in the second half", what, early[what], n)
				}
			}
			runtime.KeepAlive(m)
		})
	}
}

func (m *machine) flatEntry(t *testing.T, all commands) {
	m.now += maxStep - 1
	e := entry.Entry{Header: m.header("A"), Commands: all}
	e.Header.AnnouncedThrough = m.s.Position()
	if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
		t.Fatal(err)
	}
}

// room is how much the tables have room for.
func (s *State) room() map[string]int {
	bytes, _ := s.texts.Bytes()
	return map[string]int{
		"users": s.users.table.Room(), "sessions": s.sessions.Room(), "connections": s.connections.table.Room(), "rare": s.rares.Room(),
		"pending": s.pendings.Room(), "text": bytes, "numbers": s.leases.byNumber.Room(), "IDs": s.users.index.Room(), "keys": s.connections.index.Room(),
	}
}
