package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// These tests are white-box for the same reason as the properties.

// walkFences calls yield for the fences of a user's replaced sessions, the newest first.
func (s *State) walkFences(u *user, yield func(*fence)) {
	for number := u.fence; ; {
		f, _ := s.fenceTable.get(number)
		if f == nil {
			return
		}
		yield(f)
		number = f.prev
	}
}

// walkAllFences calls yield for every fence, the oldest first.
func (s *State) walkAllFences(yield func(number uint32, f *fence, until uint32)) {
	fs := &s.fenceTable
	for number := fs.first; number != fs.next; number++ {
		if f, page := fs.get(number); f != nil {
			yield(number, f, page.until(f))
		}
	}
}

// checkFences checks that every fence is found, and that the table has no other.
func checkFences(t *rapid.T, s *State) {
	fs := &s.fenceTable
	count, sum, last := 0, uint64(0), uint32(0)
	s.walkAllFences(func(number uint32, f *fence, until uint32) {
		count, sum = count+1, sum+f.hash(until)
		if found, ok := fs.find(f.key); !ok || found != until {
			t.Fatalf("fence %d until %d: found %d %t", number, until, found, ok)
		}
		if until < last || int64(until)*1000 <= s.clock.lease {
			t.Fatalf("fence %d ends at %d, an older one at %d, it is %d", number, until, last, s.clock.lease)
		}
		last = until
	})
	linked := map[uint32]bool{}
	for chain, number := range fs.heads {
		for number != 0 {
			f, _ := fs.get(number)
			if f == nil || linked[number] || int(fs.chainOf(f.key.index())) != chain {
				t.Fatalf("fence %d is in chain %d", number, chain)
			}
			linked[number] = true
			number = f.chain
		}
	}
	if count != fs.count || sum != fs.sum || len(linked) != count {
		t.Fatalf("there are %d fences, %d are linked, %d counted", count, len(linked), fs.count)
	}
}

// checkCalendar checks that a calendar has nothing in it that does not wait, beyond half.
func checkCalendar[B bucket, T ~uint32](t *rapid.T, name string, c *calendar[B, T]) {
	entries := 0
	for number, x := range c.buckets {
		waiting := map[T]bool{}
		for _, item := range x.list {
			if at := c.at(item); at != nil && *at == number {
				waiting[item] = true
			}
		}
		entries += len(x.list)
		if x.number != number || len(waiting) != x.waiting || x.waiting == 0 || len(x.list) > 2*x.waiting || c.order[x.place] != x {
			t.Fatalf("%s: bucket %d has %d entries, counts %d that wait, there are %d", name, number, len(x.list), x.waiting, len(waiting))
		}
	}
	if entries != c.entries || len(c.order) != len(c.buckets) {
		t.Fatalf("%s: %d entries in %d buckets, counted %d in %d", name, entries, len(c.buckets), c.entries, len(c.order))
	}
}

// TestProperty_Fences: whatever is added and removed, every fence that is left is found,
// and no other; numbers may wrap.
func TestProperty_Fences(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := New()
		fs := &s.fenceTable
		if rapid.Bool().Draw(rt, "wraps") {
			fs.first, fs.next = math.MaxUint32-300, math.MaxUint32-300
		}
		const now = 1_000_000
		s.clock.lease = now * 1000
		type kept struct {
			key   fenceKey
			until uint32
		}
		have, until := map[uint32]kept{}, uint32(now+1)
		var order []uint32
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 2).Draw(rt, "step") {
			case 0:
				until += rapid.SampledFrom([]uint32{0, 0, 1, 20_000}).Draw(rt, "later")
				for range rapid.SampledFrom([]int{1, 30, 300}).Draw(rt, "added") {
					k := kept{keyOf("u", sessionID(fmt.Sprint(len(order)))), until}
					number := fs.add(k.key, wasKicked, until, 0)
					have[number], order = k, append(order, number)
				}
			case 1: // the oldest are forgotten
				for range rapid.SampledFrom([]int{1, 300}).Draw(rt, "forgotten") {
					number, until := fs.oldest()
					if (number == 0) != (len(have) == 0) || number != 0 && have[number].until != until {
						rt.Fatalf("the oldest of %d is %d until %d", len(have), number, until)
					}
					if number != 0 {
						fs.remove(number)
						delete(have, number)
					}
				}
			case 2: // some in between go
				every := rapid.IntRange(1, 7).Draw(rt, "every")
				for i, number := range order {
					if _, ok := have[number]; ok && i%every == 0 {
						fs.remove(number)
						delete(have, number)
					}
				}
			}
		}
		checkFences(rt, s)
		if fs.count != len(have) {
			rt.Fatalf("%d fences, want %d", fs.count, len(have))
		}
		for i, number := range order {
			k, ok := have[number]
			until, found := fs.find(keyOf("u", sessionID(fmt.Sprint(i))))
			if found != ok || ok && until != k.until {
				rt.Fatalf("fence %d (kept: %t until %d): found %t until %d", number, ok, k.until, found, until)
			}
		}
	})
}

// TestFences_Size: a fence takes at most 24 bytes, also after half of all are gone.
func TestFences_Size(t *testing.T) {
	const n = 1 << 20
	fs := newFences()
	before := heapInUse()
	for i := range uint32(n) {
		var k fenceKey
		binary.LittleEndian.PutUint64(k[:], uint64(i)*0x9e3779b97f4a7c15)
		fs.add(k, wasKicked, 1000+i/100, 0)
	}
	check := func(when string) {
		t.Helper()
		each := float64(heapInUse()-before) / float64(fs.count)
		t.Logf("%s: %d fences, %.1f bytes each", when, fs.count, each)
		if each > 24 {
			t.Errorf("%s: a fence takes %.1f bytes, want at most 24", when, each)
		}
	}
	check("added")
	for range n / 2 {
		number, _ := fs.oldest()
		fs.remove(number)
	}
	check("half of them forgotten")
	runtime.KeepAlive(&fs)
}

// fencedUsers is a state in which a user called "many" has n kicked sessions, and "none"
// none.
func fencedUsers(t testing.TB, n int) *machine {
	m := newMachine(t).at(entry.Format)
	for i := 0; i < n; {
		e := entry.Entry{Header: m.header("A")}
		e.Header.AnnouncedThrough = m.s.Position()
		for range 500 {
			e.Commands = append(e.Commands, entry.Command{Kind: entry.Login, User: "many", Session: fmt.Sprint("s", i), TTL: 30_000, Platform: "web"},
				entry.Command{Kind: entry.Kick, User: "many", All: true})
			i++
		}
		if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
			t.Fatal(err)
		}
	}
	m.do(t, "login many here ttl=3600s", "login none here ttl=3600s")
	return m
}

// TestFences_ChangeCost: to change a user does not take longer the more of the user's
// sessions were ended. The two are compared in turn, and the best times of each.
func TestFences_ChangeCost(t *testing.T) {
	m := fencedUsers(t, 100_000)
	best := map[string]time.Duration{}
	for i := range 40 {
		for _, user := range []string{"many", "none"} {
			e := entry.Entry{Header: m.header("A")}
			e.Header.AnnouncedThrough = m.s.Position()
			for k := range 1000 {
				e.Commands = append(e.Commands, entry.Command{Kind: entry.Set, User: user, Text: fmt.Sprint(i, k)})
			}
			begun := time.Now()
			if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); i == 0 || took < best[user] {
				best[user] = took
			}
		}
	}
	t.Logf("1,000 changes: with 100,000 fences %v, with none %v", best["many"], best["none"])
	if best["many"] > 3*best["none"] {
		t.Errorf("1,000 changes of a user with 100,000 ended sessions took %v, of one with none %v", best["many"], best["none"])
	}
}

// TestG08_KickedForGood: a session that was kicked, erased or logged out with all others
// stays out for 24 hours, whatever its user's other devices do, and so do the last 1,024
// that were replaced. After a restart too.
func TestG08_KickedForGood(t *testing.T) {
	m := newMachine(t).at(entry.Format)
	m.do(t, "login alice erased", "erase alice", "login alice kicked", "kick alice kicked",
		"login alice all1", "login alice all2", "logout alice all", "login alice laptop device=d")
	refused := func(session string) bool {
		c, _ := parseCommand(t, m.s, []string{"login", "alice", session, "ttl=3600s"})
		out := m.apply(t, &entry.Entry{Header: m.header("A"), Commands: []entry.Command{c}})
		if err := out.Results[0].Err; err != nil && !errors.Is(err, protocol.ErrSessionReplaced) {
			t.Fatal(err)
		}
		return out.Results[0].Err != nil
	}
	others := 5000
	for i := range others {
		m.do(t, fmt.Sprintf("login alice x%d device=d ttl=3600s", i))
	}
	restart := func() {
		s, err := restore(blocksOf(t, m.s.BeginSnapshot(), nil))
		if err != nil {
			t.Fatal(err)
		}
		m.s = s
	}
	check := func(when string) {
		t.Helper()
		for _, session := range []string{"erased", "kicked", "all1", "all2", "x3975", "x4998"} {
			if !refused(session) {
				t.Errorf("%s: session %s is let in", when, session)
			}
		}
	}
	check("at once")
	restart()
	check("after a restart")
	if n := m.s.fenceTable.count; n > 2*maxReplacedFences+4 {
		t.Errorf("%d fences are left of %d replaced sessions", n, others)
	}
	for range 24 * 3600 / 2 {
		m.now += maxStep
		m.apply(t, &entry.Entry{Header: m.header("A")})
		if m.now-testStart > 24*3_600_000-10_000 && m.now-testStart <= 24*3_600_000-8_000 {
			check("after almost 24 hours")
		}
	}
	if refused("kicked") {
		t.Error("after 24 hours: it is refused still")
	}
	if n := m.s.fenceTable.count; n != 0 {
		t.Errorf("after 24 hours: %d fences are left", n)
	}
}

// TestG08_EveryEndIsTold: however many sessions of a user are ended by one request or
// before anything can be announced, each is told, by the next instance too. Only where many more
// are ended than one gateway can have under way are the oldest left out.
func TestG08_EveryEndIsTold(t *testing.T) {
	m := newMachine(t).at(entry.Format)
	m.do(t, "open g1 p1 ttl=3600s")
	told := func(instance string, do func()) (sessions []string) {
		do()
		m.cursor[instance], _ = m.s.Pending(instance, m.cursor[instance], 1<<20, func(a Announcement) {
			for _, e := range a.Self {
				if e.Type == protocol.SelfKicked {
					sessions = append(sessions, e.SessionID)
				}
			}
		})
		return sessions
	}
	seq := uint64(0)
	apply := func(from, to int) {
		seq++
		c := entry.Command{Kind: entry.Apply, Gateway: "g1", Process: "p1", Seq: seq}
		for i := from; i < to; i++ {
			c.Ops = append(c.Ops, entry.Command{Kind: entry.Login, User: "alice", Session: fmt.Sprint("s", i), Device: "d", Platform: "web"})
		}
		if _, err := m.s.Apply(&entry.Entry{Header: m.header("A"), Commands: []entry.Command{c}}, m.s.Position()+1, m.now, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := told("A", func() { apply(0, 1000) }); len(got) != 999 || got[0] != "s0" || got[998] != "s998" {
		t.Errorf("told of %d ends, want s0 to s998", len(got))
	}
	// The next change tells of its own alone: what was told before is on its way.
	if got := told("A", func() { apply(1000, 1010) }); len(got) != 10 || got[0] != "s999" {
		t.Errorf("then told of %d ends, want s999 to s1008", len(got))
	}
	s, err := restore(blocksOf(t, m.s.BeginSnapshot(), nil))
	if err != nil {
		t.Fatal(err)
	}
	m.s, m.cursor = s, map[string]Cursor{}
	if got := told("A", func() {}); len(got) != 1009 {
		t.Errorf("after a restart told of %d ends, want all 1009", len(got))
	}
	if got := told("B", func() {
		for range 7 {
			m.now += maxStep
			if _, err := m.s.Apply(&entry.Entry{Header: m.header("B")}, m.s.Position()+1, m.now, false); err != nil {
				t.Fatal(err)
			}
		}
	}); len(got) != 1009 {
		t.Errorf("the instance that took over told of %d ends, want all 1009", len(got))
	}
	e := entry.Entry{Header: m.header("B")}
	e.Header.AnnouncedThrough = m.s.Position()
	if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
		t.Fatal(err)
	}
	if n := m.s.Remembered()["untold-ends"]; n != 0 || len(m.s.ends) != 0 {
		t.Errorf("%d ends are to be told once all is announced", n)
	}
	m.cursor = map[string]Cursor{}
	if got := told("A", func() {
		for i := 2000; i < 8000; i += 1000 {
			apply(i, i+1000)
		}
	}); len(got) != maxPendingEnds || got[len(got)-1] != "s7998" {
		t.Errorf("told of %d ends in the end, want the last %d, up to s7998", len(got), maxPendingEnds)
	}
}

// TestFences_Upgrade: what earlier versions remember is remembered on, when format 3 comes
// into force while the service runs.
func TestFences_Upgrade(t *testing.T) {
	m := newMachine(t).at(2)
	m.do(t, "login alice s1 device=d", "login alice s2 device=d", "login bob s1", "kick bob all")
	m.maxFormat = entry.Format
	m.do(t, "set-format 3")
	if m.s.Format() != 3 {
		t.Fatalf("the format in force is %d", m.s.Format())
	}
	for _, user := range []string{"alice", "bob"} {
		if !m.s.WasReplaced(user, "s1") {
			t.Errorf("session s1 of %s is let in", user)
		}
		if ended := m.s.Explain(user).Ended; len(ended) != 1 || ended[0].SessionID != "s1" {
			t.Errorf("explain %s names the ended sessions %+v, want s1", user, ended)
		}
	}
	var told []string
	m.s.Pending("A", Cursor{}, 100, func(a Announcement) {
		for _, e := range a.Self {
			if e.Type == protocol.SelfKicked {
				told = append(told, a.UserID+" "+e.SessionID+" "+string(e.Reason))
			}
		}
	})
	slices.Sort(told)
	if want := []string{"alice s1 replaced", "bob s1 kicked"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}
