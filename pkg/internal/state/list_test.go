package state

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

var genListed = rapid.SampledFrom([]string{"a", "a=", "a b", "ab", "aB", "a-b", "a.b", "é", "z", "Z", "_", "=", "~", "0"})

// TestProperty_List: while users come and go, and are put in order a few at a
// time, those who are there throughout are on exactly one page, in the order of
// their tokens.
func TestProperty_List(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		change := func() {
			e := entry.Entry{Header: m.header("A")}
			e.Header.AnnouncedThrough = m.s.Position() // so that erased users go
			m.now += 1_000
			for range rapid.IntRange(0, 4).Draw(rt, "changes") {
				id := genListed.Draw(rt, "user") + genListed.Draw(rt, "user")
				c := entry.Command{Kind: entry.Set, User: id, KeepText: true, Availability: entry.Available}
				switch rapid.IntRange(0, 6).Draw(rt, "change") {
				case 0, 1, 2:
					c = entry.Command{Kind: entry.Login, User: id, Session: "s", Platform: "web", TTL: 3_600_000}
				case 3, 4:
					c = entry.Command{Kind: entry.Erase, User: id}
				case 5:
					c.Availability = entry.Invisible
				}
				e.Commands = append(e.Commands, c)
			}
			if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
				rt.Fatal(err)
			}
		}
		for range rapid.IntRange(0, 20).Draw(rt, "before") {
			change()
		}
		if rapid.Bool().Draw(rt, "restored") {
			m.s.users.order = nil
		}
		for !m.s.Ordered() {
			m.s.Order(rapid.IntRange(1, 3).Draw(rt, "step"))
			change()
		}
		there := listedUsers(m.s)
		var listed []string
		for after, begun := "", false; after != "" || !begun; begun = true {
			after = m.s.List(after, 0, rapid.IntRange(1, 5).Draw(rt, "limit"), protocol.MaxBodyBytes, func(st protocol.Status) { listed = append(listed, st.UserID) })
			change()
			now := listedUsers(m.s)
			there = slices.DeleteFunc(there, func(id string) bool { return !slices.Contains(now, id) })
		}
		tokens := make([]string, len(listed))
		for i, id := range listed {
			tokens[i], _ = protocol.EncodeToken(id)
		}
		if !slices.IsSorted(tokens) || len(slices.Compact(slices.Clone(tokens))) != len(tokens) {
			rt.Fatalf("listed %q, not in order", tokens)
		}
		if have, want := m.s.users.order.tree.Len(), len(listedUsers(m.s)); have != want {
			rt.Fatalf("%d users are in order, of %d", have, want)
		}
		for _, id := range there {
			if !slices.Contains(listed, id) {
				rt.Fatalf("%q was there throughout, and not listed: %q", id, listed)
			}
		}
	})
}

func listedUsers(s *State) (ids []string) {
	for _, u := range s.users.table.All() {
		if s.publicRevision(u) != 0 {
			ids = append(ids, s.userID(u))
		}
	}
	return ids
}

// TestG09_List: invisible users who look like somebody never seen do not end a
// page, whose cursor would name one, and however many there are a page does not
// walk over them.
func TestG09_List(t *testing.T) {
	m := newMachine(t)
	e := entry.Entry{Header: m.header("A")}
	for i := range 3 * maxLooked {
		e.Commands = append(e.Commands, entry.Command{Kind: entry.Set, User: fmt.Sprintf("u%06d", i), KeepText: true, Availability: entry.Invisible})
		if len(e.Commands) == entry.MaxCommands || i == 3*maxLooked-1 {
			if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
				t.Fatal(err)
			}
			e = entry.Entry{Header: m.header("A")}
		}
	}
	e.Commands = []entry.Command{{Kind: entry.Login, User: "z", Session: "s", TTL: 30_000}}
	if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
		t.Fatal(err)
	}
	m.s.Order(1 << 20)
	var listed []string
	last := m.s.List("", 0, 500, protocol.MaxBodyBytes, func(st protocol.Status) { listed = append(listed, st.UserID) })
	if last != "" || !slices.Equal(listed, []string{"z"}) {
		t.Errorf("listed %q up to %q, want z alone on the last page", listed, last)
	}
	if n := m.s.users.order.tree.Len(); n != 1 {
		t.Errorf("a page walks over %d users", n)
	}
}

// TestList_Forgotten: an invisible user whose public view is forgotten is not looked
// at any more, and is listed again when seen again.
func TestList_Forgotten(t *testing.T) {
	m := newMachine(t)
	m.s.Order(1)
	wantListed := func(want ...string) {
		t.Helper()
		var got []string
		m.s.List("", 0, 500, protocol.MaxBodyBytes, func(st protocol.Status) { got = append(got, st.UserID) })
		if !slices.Equal(got, want) || m.s.users.order.tree.Len() != len(want) {
			t.Errorf("listed %q of %d, want %q", got, m.s.users.order.tree.Len(), want)
		}
	}
	m.do(t, "configure grace=5s retention=1m", "login alice phone ttl=1h", "set alice availability=invisible")
	wantListed("alice")
	m.pass(t, 150)
	wantListed()
	m.do(t, "set alice availability=available")
	wantListed("alice")
}

// TestList_LongTexts: a page ends before its reply would be too large.
func TestList_LongTexts(t *testing.T) {
	m := newMachine(t)
	e := entry.Entry{Header: m.header("A")}
	for i := range protocol.MaxUsersPerList {
		e.Commands = append(e.Commands, entry.Command{Kind: entry.Set, User: fmt.Sprintf("%03d%s", i, strings.Repeat(`"`, 125)), Text: strings.Repeat(`\`, 4096)})
	}
	if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
		t.Fatal(err)
	}
	m.s.Order(1 << 20)
	users, pages := 0, 0
	for after, begun := "", false; after != "" || !begun; begun = true {
		var reply protocol.ListReply
		after = m.s.List(after, 0, protocol.MaxUsersPerList, protocol.MaxBodyBytes, func(st protocol.Status) { reply.Users = append(reply.Users, st) })
		data, err := protocol.Marshal(&reply)
		if err != nil || len(data) > protocol.MaxBodyBytes-1024 || len(reply.Users) == 0 {
			t.Fatalf("a page of %d users has %d bytes: %v", len(reply.Users), len(data), err)
		}
		users, pages = users+len(reply.Users), pages+1
	}
	if users != protocol.MaxUsersPerList || pages < 8 {
		t.Errorf("listed %d users on %d pages", users, pages)
	}
}

// BenchmarkOrder is what the first list costs with a million users, the longest
// time that the state is locked for it, and what the order takes for each user.
func BenchmarkOrder(b *testing.B) {
	s := millionUsers(b)
	for b.Loop() {
		s.users.order = nil
		before := heapAlloc()
		longest := time.Duration(0)
		for !s.Ordered() {
			begun := time.Now()
			s.Order(500)
			longest = max(longest, time.Since(begun))
		}
		b.ReportMetric(float64(longest)/1e6, "ms-locked")
		b.ReportMetric(float64(heapAlloc()-before)/float64(s.Users()), "bytes/user")
	}
}

func heapAlloc() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkList is one page of 500 of a million users, and one that finds none.
func BenchmarkList(b *testing.B) {
	s := millionUsers(b)
	s.Order(1 << 30)
	for name, t := range map[string]protocol.StatusType{"all": 0, "none": protocol.Offline} {
		b.Run(name, func(b *testing.B) {
			after := ""
			for b.Loop() {
				after = s.List(after, t, 500, protocol.MaxBodyBytes, func(protocol.Status) {})
			}
		})
	}
}
