package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
)

// TestProperty_G09: one alice goes invisible and then does what she likes, another
// loses all sessions at the same moment and does nothing. Nobody else can tell
// one from the other: not by events and their order, not by get, detail and
// counts, not after a restart, not when everything has expired.
func TestProperty_G09(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		before := rapid.SliceOfN(genAct, 0, 4).Draw(rt, "before")
		after := rapid.SliceOfN(genAct, 0, 8).Draw(rt, "after")
		persistent := rapid.Bool().Draw(rt, "persistent")
		format := genFormat(rt)
		var told [2][]string
		for i := range told {
			told[i] = watchAlice(t, format, i == 0, persistent, before, after)
		}
		for i := range min(len(told[0]), len(told[1])) {
			if told[0][i] != told[1][i] {
				rt.Fatalf("invisible:\n%s\nlost:\n%s", strings.Join(told[0][max(0, i-5):i+1], "\n"), strings.Join(told[1][max(0, i-5):i+1], "\n"))
			}
		}
		if len(told[0]) != len(told[1]) {
			rt.Fatalf("invisible: told %d things, lost: %d", len(told[0]), len(told[1]))
		}
	})
}

// act is what alice does, and how long passes before it.
type act struct {
	wait     int64
	instance string
	flush    bool // everything so far is announced for certain
	restart  bool // from a snapshot
	do       entry.Command
}

var genAct = rapid.Custom(func(t *rapid.T) act {
	a := act{
		wait:     rapid.SampledFrom([]int64{0, 0, 1_000, 3_000, 70_000, 600_000}).Draw(t, "wait"),
		instance: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "instance"),
		flush:    rapid.Bool().Draw(t, "flush"),
		restart:  rapid.IntRange(0, 7).Draw(t, "restart") == 0,
		do:       entry.Command{User: "alice", Session: rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "session")},
	}
	switch c := &a.do; rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0, 1:
		c.Kind, c.Platform, c.TTL = entry.Login, "web", rapid.SampledFrom([]uint32{5_000, 30_000, 3_600_000}).Draw(t, "ttl")
		c.Device = rapid.SampledFrom([]string{"", "d1"}).Draw(t, "device")
		c.Idle = rapid.Bool().Draw(t, "idle")
	case 2:
		c.Kind, c.All = entry.Logout, rapid.Bool().Draw(t, "all")
	case 3, 4:
		c.Kind, c.Session, c.Text = entry.Set, "", rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "text")
		if c.Text != "" {
			c.Expires = rapid.SampledFrom([]int64{0, 1_000, 90_000}).Draw(t, "expires")
		}
	case 5:
		c.Kind, c.SetIdle, c.Idle = entry.Renew, true, rapid.Bool().Draw(t, "idle")
	case 6:
		c.Kind, c.All = entry.Kick, rapid.Bool().Draw(t, "all")
	case 7: // of no effect while invisible by the lasting value
		c.Kind, c.Session, c.KeepText = entry.Set, "", true
		c.Availability, c.Override = entry.Invisible, rapid.SampledFrom([]int64{0, 1_000}).Draw(t, "override")
	}
	return a
})

// watchAlice plays what alice does before the moment, lets her go invisible or
// lose all sessions, plays what she does after it, where she is invisible, and
// returns what everybody else is told and can ask.
func watchAlice(t *testing.T, format uint8, invisible, persistent bool, before, after []act) []string {
	m := newMachine(t).at(format)
	w := &watched{t: t, m: m}
	gateway := func(seq uint64, ops ...entry.Command) entry.Command {
		return entry.Command{Kind: entry.Apply, Gateway: "g1", Process: "p1", Seq: seq, Ops: ops}
	}
	w.apply("A", false, entry.Command{Kind: entry.Configure, Params: &entry.Params{Grace: 5_000, Retention: 300_000, Persistent: persistent}})
	w.apply("A", false, entry.Command{Kind: entry.Open, Gateway: "g1", Process: "p1", TTL: 40 * 86_400_000})
	for i, a := range before { // by a gateway, which can lose all her sessions at once
		if a.do.Kind == entry.Renew {
			a.do.Kind = entry.Idle
		}
		if a.do.Kind == entry.Kick || a.do.Availability != entry.Keep {
			a.do = entry.Command{Kind: entry.Login, User: "alice", Session: "s1", Platform: "web"}
		}
		a.do = gateway(uint64(i)+1, a.do)
		w.play(a)
	}
	m.now += 1_000
	seq := uint64(len(before)) + 1
	if invisible {
		w.apply("A", false, gateway(seq, entry.Command{Kind: entry.Set, User: "alice", KeepText: true, Availability: entry.Invisible}))
	} else {
		lost := func(session string) entry.Command {
			return entry.Command{Kind: entry.Lost, User: "alice", Session: session}
		}
		w.apply("A", false, gateway(seq, lost("s1"), lost("s2"), lost("s3")))
	}
	for _, a := range append(slices.Clone(after), act{wait: 900_000, instance: "A", do: nothing}) {
		if !invisible {
			a.do = nothing
		}
		w.play(a)
	}
	return w.seen
}

// watched is a machine, and what everybody could see of alice in it.
type watched struct {
	t    *testing.T
	m    *machine
	seen []string
}

var nothing = entry.Command{Kind: entry.Logout, User: "nobody", Session: "s1"}

func (w *watched) play(a act) {
	for left := a.wait; left > 0; left -= 1_000 {
		w.m.now += 1_000
		w.apply("A", a.flush, nothing)
	}
	if a.restart {
		s, err := restore(blocksOf(w.t, w.m.s.BeginSnapshot(), nil))
		if err != nil {
			w.t.Fatal(err)
		}
		w.m.s, w.m.cursor = s, map[string]Cursor{}
	}
	w.apply(a.instance, a.flush, a.do)
}

func (w *watched) apply(instance string, flush bool, c entry.Command) {
	m := w.m
	e := entry.Entry{Header: m.header(instance), Commands: []entry.Command{c}}
	if flush {
		e.Header.AnnouncedThrough = m.s.Position()
	}
	if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
		w.t.Fatal(err)
	}
	for _, id := range []string{"A", "B"} {
		m.cursor[id], _ = m.s.Pending(id, m.cursor[id], 1<<20, func(a Announcement) {
			if a.Announce {
				w.note("told by %s: %+v", id, a.Public)
			}
		})
	}
	if a, _ := m.s.Repeated("alice"); a.Announce {
		w.note("told again: %+v", a.Public)
	}
	users, sessions := m.s.Counts()
	w.note("shown %+v, counted %+v %v", m.s.Status("alice", true), users, sessions)
}

func (w *watched) note(format string, args ...any) {
	w.seen = append(w.seen, w.m.time()+" "+fmt.Sprintf(format, args...))
}
