package state

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// These tests are white-box for the same reason as the properties.

// blocksOf takes the steps that are left of a snapshot.
func blocksOf(t testing.TB, x *Snapshot, blocks [][]byte) [][]byte {
	for more := true; more; {
		var b []byte
		var err error
		if b, more, err = x.Next(nil); err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	x.End()
	return blocks
}

func restore(blocks [][]byte) (*State, error) {
	return Restore(func() ([]byte, error) {
		if len(blocks) == 0 {
			return nil, io.EOF
		}
		b := blocks[0]
		blocks = blocks[1:]
		return b, nil
	}, nil)
}

// TestProperty_Snapshot: a snapshot that is written while entries go on being
// applied is restored to the state as it was when it began, and that goes on like
// the state that it was taken of (G3, G14).
func TestProperty_Snapshot(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		history := genHistory(rt)
		begin := rapid.IntRange(0, len(history)-1).Draw(rt, "begin")
		step := rapid.SampledFrom([]int{1, 1, 200}).Draw(rt, "step")
		pace := rapid.IntRange(0, 2).Draw(rt, "pace") // steps after each entry
		var x *Snapshot
		var blocks [][]byte
		var asOf string
		var beyond []entry.Entry
		var at []int64
		writing := false
		m := newMachine(t).at(genFormat(rt))
		for i, mo := range history {
			quiet, times := m.pass(t, mo.quiet)
			if x != nil {
				beyond, at = append(beyond, quiet...), append(at, times...)
			}
			m.now += mo.after
			e := entry.Entry{Header: m.header(mo.instance()), Commands: mo.commands, Renewed: mo.renewed}
			if i%3 == 0 {
				e.Header.AnnouncedThrough = m.s.Position() - min(m.s.Position(), 2)
			}
			if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
				rt.Fatal(err)
			}
			if x != nil {
				beyond, at = append(beyond, e), append(at, m.now)
			}
			for range pace {
				if !writing {
					break
				}
				b, more, err := x.Next(nil)
				if err != nil {
					rt.Fatal(err)
				}
				blocks = append(blocks, b)
				if writing = more; !more {
					x.End()
				}
			}
			if i == begin {
				x, asOf, writing = m.s.BeginSnapshot(), dump(m.s, true), true
				x.Step = step
			}
		}
		if writing {
			blocks = blocksOf(t, x, blocks)
		}
		restored, err := restore(blocks)
		if err != nil {
			rt.Fatal(err)
		}
		if got := dump(restored, true); got != asOf {
			rt.Fatalf("restored: got\n%s\nwant\n%s", got, asOf)
		}
		checkInvariants(rt, restored)
		for i := range beyond {
			if _, err := restored.Apply(&beyond[i], restored.Position()+1, at[i], false); err != nil {
				rt.Fatal(err)
			}
		}
		if got, want := dump(restored, true), dump(m.s, true); got != want {
			rt.Fatalf("gone on: got\n%s\nwant\n%s", got, want)
		}
		if restored.Digest() != m.s.Digest() {
			rt.Fatalf("gone on: the digests differ")
		}
		checkInvariants(rt, restored)
	})
}

// TestSnapshot_WhileItIsWritten: changes that histories drawn at random rarely
// hold while a snapshot is being written.
func TestSnapshot_WhileItIsWritten(t *testing.T) {
	for _, c := range []struct {
		name           string
		steps          int // written before the change: 1 is the header, then a user each
		before, change func(t *testing.T, m *machine)
	}{
		{"one more session than there is room for", 1, func(t *testing.T, m *machine) {
			for i := range protocol.MaxSessionsPerUser {
				m.do(t, fmt.Sprintf("login alice s%d ttl=5s", i))
			}
			m.pass(t, 4) // they are lost
		}, func(t *testing.T, m *machine) {
			m.do(t, "login alice another")
		}},
		{"a gateway says that a session is idle", 1, func(t *testing.T, m *machine) {
			m.do(t, "open g1 p1 ttl=30s", "apply g1 p1 seq=1 login:bob:s1")
		}, func(t *testing.T, m *machine) {
			m.do(t, "apply g1 p1 seq=2 idle:bob:s1")
		}},
		{"a user who is written is forgotten, one who is not takes the place", 2, func(t *testing.T, m *machine) {
			m.do(t, "configure grace=5s retention=1m", "set alice text=x", "set bob text=y", "set carol text=z", "set alice")
			m.pass(t, 3) // everything is announced
		}, func(t *testing.T, m *machine) {
			m.pass(t, 70)
			if m.s.Users() != 2 {
				t.Fatalf("%d users are left, want 2", m.s.Users())
			}
		}},
		{"ended sessions are forgotten whose fences are written, and others", 40, func(t *testing.T, m *machine) {
			m.at(entry.Format).do(t, "login bob s", "kick bob all")
			for i := range 1500 {
				m.do(t, fmt.Sprintf("login alice s%d device=d ttl=5s", i))
			}
			m.do(t, "login bob t", "kick bob all")
		}, func(t *testing.T, m *machine) {
			for i := range 1000 {
				m.do(t, fmt.Sprintf("login alice t%d device=d ttl=5s", i))
			}
			if n := m.s.fenceTable.count; n > 2*maxReplacedFences {
				t.Fatalf("%d fences are left", n)
			}
			m.pass(t, 12*3600+100) // 24 hours
			if n := m.s.fenceTable.count; n != 0 {
				t.Fatalf("%d fences are left after 24 hours", n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.before(t, m)
			want := dump(m.s, true)
			x := m.s.BeginSnapshot()
			x.Step = 1
			var blocks [][]byte
			for range c.steps {
				b, _, err := x.Next(nil)
				if err != nil {
					t.Fatal(err)
				}
				blocks = append(blocks, b)
			}
			c.change(t, m)
			restored, err := restore(blocksOf(t, x, blocks))
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(restored, true); got != want {
				t.Errorf("restored: got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// do applies commands, an entry for each.
func (m *machine) do(t testing.TB, lines ...string) {
	t.Helper()
	for _, line := range lines {
		c, _ := parseCommand(t, m.s, strings.Fields(line))
		m.apply(t, &entry.Entry{Header: m.header("A"), Commands: []entry.Command{c}})
	}
}

// someState is one with everything in it that a snapshot holds.
func someState(t testing.TB, format uint8) *State {
	m := newMachine(t).at(format)
	m.do(t,
		"login alice phone device=pixel platform=android on=N1/7", "login alice phone2 device=pixel", "set alice text=hello expires=1h",
		"open g1 p1 ttl=30s on=N1/8", "apply g1 p1 seq=1 login:bob:s1 login:carol:s2 logout:dave:s9", "login dave s3 ttl=5s", "logout dave s3",
		"login erin s4 on=N1/9", "closed N1/9", "closed N1/10", "login fay s5", "kick fay all", "login gil s6", "erase gil")
	if format >= 3 {
		m.do(t, "lameduck N1")
	}
	if format >= 4 {
		m.do(t, "login hal s7 grace=20s ttl=120s on=N1/11", "open g2 p1 ttl=120s grace=30s on=N1/12")
	}
	return m.s
}

// TestSnapshot_Damaged: whatever is cut off, left out or changed is noticed.
func TestSnapshot_Damaged(t *testing.T) {
	for _, format := range []uint8{1, 3, 4} {
		t.Run(fmt.Sprint("format ", format), func(t *testing.T) { damageSnapshot(t, format) })
	}
}

func damageSnapshot(t *testing.T, format uint8) {
	s := someState(t, format)
	whole := slices.Concat(blocksOf(t, s.BeginSnapshot(), nil)...)
	if _, err := restore([][]byte{whole}); err != nil {
		t.Fatalf("restoring the whole: %v", err)
	}
	for n := range whole {
		if _, err := restore([][]byte{whole[:n]}); !errors.Is(err, ErrDamagedSnapshot) {
			t.Errorf("cut after %d of %d bytes: got %v, want ErrDamagedSnapshot", n, len(whole), err)
		}
	}
	if _, err := restore([][]byte{whole, {0}}); !errors.Is(err, ErrDamagedSnapshot) {
		t.Errorf("a byte too many: got %v, want ErrDamagedSnapshot", err)
	}
	changed := slices.Clone(whole)
	i := strings.Index(string(whole), "hello")
	changed[i] = 'j'
	if _, err := restore([][]byte{changed}); !errors.Is(err, ErrDamagedSnapshot) {
		t.Errorf("a text changed: got %v, want ErrDamagedSnapshot", err)
	}
	twice := strings.Replace(string(whole), "erin", "dave", 1)
	if _, err := restore([][]byte{[]byte(twice)}); !errors.Is(err, ErrDamagedSnapshot) || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a user twice: got %v, want ErrDamagedSnapshot", err)
	}
	changed = slices.Clone(whole)
	changed[0] = snapshotFormat + 1
	var newer *NewerSnapshotError
	if _, err := restore([][]byte{changed}); !errors.As(err, &newer) {
		t.Errorf("a later format: got %v, want NewerSnapshotError", err)
	}
	if _, err := restore(nil); !errors.Is(err, ErrDamagedSnapshot) {
		t.Errorf("nothing: got %v, want ErrDamagedSnapshot", err)
	}
}

// TestSnapshot_GivenUp: one that another replaces does not go on as if it held
// everything.
func TestSnapshot_GivenUp(t *testing.T) {
	s := someState(t, 1)
	x := s.BeginSnapshot()
	s.BeginSnapshot().End()
	if _, _, err := x.Next(nil); err == nil {
		t.Error("the next step of a snapshot that was given up: got no error")
	}
}

// TestSnapshot_Added: users who are added while a snapshot is taken are not in it, whether their
// numbers are beyond those that there were or were freed meanwhile.
func TestSnapshot_Added(t *testing.T) {
	for _, users := range []int{1, 255, 300} {
		m := newMachine(t)
		m.do(t, "configure grace=5s retention=1m", "set first text=x", "set first")
		for i := range users {
			m.do(t, fmt.Sprintf("set user-%d text=x", i))
		}
		m.pass(t, 3) // everything is announced
		want := dump(m.s, true)
		x := m.s.BeginSnapshot()
		m.pass(t, 70) // the first one is forgotten
		for i := range 600 {
			m.do(t, fmt.Sprintf("set another-%d text=x", i))
		}
		restored, err := restore(blocksOf(t, x, nil))
		if err != nil {
			t.Fatalf("%d users: %v", users, err)
		}
		if got := dump(restored, true); got != want {
			t.Errorf("%d users: got\n%s\nwant\n%s", users, got, want)
		}
	}
}

// TestSnapshot_Memory: while sets change users in all blocks, a snapshot takes the memory that is
// stated at Snapshot, and gives it back.
func TestSnapshot_Memory(t *testing.T) {
	const each = 100
	const users = 200_000 / slower // manyUsers makes entries of 4,000
	for _, c := range []struct {
		name string
		stop bool // no step is taken before all users have changed
		most func(whole int) int
	}{
		{"a step after each entry", false, func(int) int { return 2 * blockBytes }},
		{"no step until all have changed", true, func(whole int) int { return whole + whole/2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := manyUsersOf(t, users)
			m.flatEntry(t, nil) // which announces the last logins: that changes users too
			whole := 0
			for _, b := range blocksOf(t, m.s.BeginSnapshot(), nil) {
				whole += len(b)
			}
			if whole > 130*users {
				t.Errorf("the snapshot has %d bytes, want at most 130 for each of %d users", whole, users)
			}
			digest, before := m.s.Digest(), heapInUse()
			x := m.s.BeginSnapshot()
			most, more, writing := 0, true, &writer{}
			for i := 0; i < users; i += each {
				e := entry.Entry{Header: m.header("A")}
				e.Header.AnnouncedThrough = m.s.Position()
				for k := range each {
					e.Commands = append(e.Commands, entry.Command{Kind: entry.Set, User: fmt.Sprintf("user-%d", (i+k)*7919%users), Text: "in a meeting"})
				}
				m.now += 4
				if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
					t.Fatal(err)
				}
				most = max(most, x.early.bytes())
				if more && !c.stop {
					more = writing.step(t, x)
				}
			}
			if most > c.most(whole) || most == 0 {
				t.Errorf("%d bytes were written early, want at most %d", most, c.most(whole))
			}
			if grown := heapInUse() - before; c.stop && grown > uint64(c.most(whole)+100*users) {
				t.Errorf("the heap grew by %d bytes, at most %d are of the snapshot", grown, c.most(whole))
			}
			for more {
				more = writing.step(t, x)
			}
			x.End()
			if left := x.early.bytes(); left != 0 {
				t.Errorf("%d bytes are left in the end", left)
			}
			if s, err := restore(writing.blocks); err != nil || s.Digest() != digest {
				t.Errorf("restored: %v, or another digest", err)
			}
		})
	}
}

// writer takes the steps of a snapshot.
type writer struct{ blocks [][]byte }

func (w *writer) step(t *testing.T, x *Snapshot) (more bool) {
	b, more, err := x.Next(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 3*blockBytes {
		t.Errorf("a step has %d bytes", len(b))
	}
	w.blocks = append(w.blocks, b)
	return more
}

// FuzzRestore: no bytes make Restore panic, and what it accepts can be written
// down again.
func FuzzRestore(f *testing.F) {
	f.Add(slices.Concat(blocksOf(f, someState(f, 3).BeginSnapshot(), nil)...))
	f.Add(slices.Concat(blocksOf(f, someState(f, 4).BeginSnapshot(), nil)...))
	for _, sessions := range []int{entry.DefaultSessions, 40} { // formats 1 and 2
		s := someState(f, 1)
		s.params.Sessions = sessions
		f.Add(slices.Concat(blocksOf(f, s.BeginSnapshot(), nil)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := restore([][]byte{data})
		if err != nil {
			return
		}
		if _, err := restore(blocksOf(t, s.BeginSnapshot(), nil)); err != nil {
			t.Fatalf("written down again: %v", err)
		}
	})
}

// TestSessionID: IDs of every shape come back as they were, and different ones
// stay different.
func TestSessionID(t *testing.T) {
	const canonical = "0b6b0c5a-5b0e-4d5f-9d0a-0123456789ab"
	packed := map[sessionID]string{}
	for _, id := range []string{"", "s1", canonical, strings.ToUpper(canonical), "0b6b0c5a-5b0e-4d5f-9d0a-0123456789AB",
		strings.ReplaceAll(canonical, "-", ""), "0b6b0c5a-5b0e-4d5f-1d0a-0123456789ab", "0b6b0c5a_5b0e-4d5f-9d0a-0123456789ab",
		"sixteen-bytes-id", strings.Repeat("x", 36), strings.Repeat("x", 64), "00000000-0000-0000-0000-000000000000"} {
		p := packID(id)
		if got := p.String(); got != id {
			t.Errorf("packID(%q).String(): got %q", id, got)
		}
		if other, ok := packed[p]; ok {
			t.Errorf("%q and %q are packed alike", id, other)
		}
		packed[p] = id
	}
	if len(packID(canonical)) != packedLength {
		t.Errorf("packID(%q) has %d bytes", canonical, len(packID(canonical)))
	}
}
