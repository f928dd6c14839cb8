package state

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// These tests are white-box for the same reason as the properties.

// readOld reads a file of entries, and of the digest and the snapshot that an earlier version had
// after them. It checks that this version writes the same bytes and has the same digest. It returns
// the state as applied from the entries, and as restored from the snapshot.
func readOld(t *testing.T, path string) (machines map[string]*machine) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, now, sequence := New(), int64(0), uint64(0)
	var digest, snapshot string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		last := f[len(f)-1]
		switch f[0] {
		case "entry":
			raw, err := hex.DecodeString(last)
			if err != nil {
				t.Fatal(err)
			}
			var e entry.Entry
			if err := entry.Decode(raw, &e); err != nil {
				t.Fatal(err)
			}
			if again, err := entry.Append(nil, &e); err != nil || hex.EncodeToString(again) != last {
				t.Errorf("written again: %x, %v, want %s", again, err, last)
			}
			now, _ = strconv.ParseInt(f[1], 10, 64)
			sequence = e.Header.Sequence
			if _, err := s.Apply(&e, s.Position()+1, now, true); err != nil {
				t.Fatal(err)
			}
		case "digest":
			digest = last
		case "snapshot":
			snapshot = strings.Trim(last, "[]")
		}
	}
	raw, err := hex.DecodeString(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	restored, err := restore([][]byte{raw})
	if err != nil {
		t.Fatal(err)
	}
	machines = map[string]*machine{}
	for name, s := range map[string]*State{"journal": s, "snapshot": restored} {
		if got := fmt.Sprintf("%016x", s.Digest()); got != digest {
			t.Errorf("%s: digest %s, want %s", name, got, digest)
		}
		got, want := slices.Concat(blocksOf(t, s.BeginSnapshot(), nil)...), slices.Clone(raw)
		if name == "journal" { // users may come in any order
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the snapshot is\n%x, want\n%x", name, got, want)
		}
		machines[name] = &machine{s: s, now: now, sequence: map[string]uint64{"A": sequence}, cursor: map[string]Cursor{}}
	}
	return machines
}

// TestFormat1: a journal and a snapshot that were written before sessions per user
// could be configured are read, allow the default number, and have the digest that
// they had then; what is written with that number can still be read by those
// versions.
func TestFormat1(t *testing.T) {
	for name, m := range readOld(t, "testdata/format1.txt") {
		if n := m.s.Params().Sessions; n != protocol.MaxSessionsPerUser {
			t.Errorf("%s: %d sessions are allowed, want %d", name, n, protocol.MaxSessionsPerUser)
		}
		m.out.Reset()
		m.do(t, "login bob onemore") // who has 32 live ones
		if !strings.Contains(m.out.String(), "too_many_sessions") {
			t.Errorf("%s: a login too many: got %q", name, m.out.String())
		}
	}
}

// TestFormat2: another number than the default is not for versions that know none.
func TestFormat2(t *testing.T) {
	for sessions, want := range map[int]byte{0: 1, protocol.MaxSessionsPerUser: 1, 1: 2, 256: 2} {
		m := newMachine(t)
		p := &entry.Params{Grace: 5000, Retention: 60_000, Sessions: sessions}
		e := &entry.Entry{Header: m.header("A"), Commands: []entry.Command{{Kind: entry.RequestsLost}, {Kind: entry.Configure, Params: p}}}
		raw, err := entry.Append(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		m.apply(t, e)
		snapshot := slices.Concat(blocksOf(t, m.s.BeginSnapshot(), nil)...)
		if raw[0] != want || snapshot[0] != want {
			t.Errorf("%d sessions: the entry has format %d, the snapshot %d, want %d", sessions, raw[0], snapshot[0], want)
		}
		digest := m.s.Digest()
		m.s.params.Sessions++
		if m.s.Digest() == digest {
			t.Errorf("the digest does not tell %d sessions from one more", sessions)
		}
	}
}

// TestFormat3: a journal and a snapshot of format 3 are read, and written again byte for byte. A
// grace that a login asks for counts only once format 4 is in force, and later.
func TestFormat3(t *testing.T) {
	for name, m := range readOld(t, "testdata/format3.txt") {
		m.maxFormat = entry.Format
		if got := m.s.Params().LongestGrace(); got != protocol.DefaultMaxGrace.Milliseconds() {
			t.Errorf("%s: the longest grace is %d ms, want %v", name, got, protocol.DefaultMaxGrace)
		}
		for _, c := range []struct {
			format uint8
			want   float64
		}{{3, 5}, {4, 20}, {5, 20}} {
			m.do(t, "login kim s1 grace=20s ttl=120s")
			if _, _, sessions := m.s.OwnStatus("kim"); m.s.Format() != c.format || sessions[0].GraceSeconds != c.want {
				t.Errorf("%s: format %d, grace %v s, want %d, %v", name, m.s.Format(), sessions[0].GraceSeconds, c.format, c.want)
			}
			x := m.s.BeginSnapshot()
			blocks := blocksOf(t, x, nil)
			if blocks[0][0] != c.format {
				t.Errorf("%s: a snapshot of format %d, want %d", name, blocks[0][0], c.format)
			}
			again, err := restore(blocks)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := dump(again, true), dump(m.s, true); got != want {
				t.Errorf("%s: restored: got\n%s\nwant\n%s", name, got, want)
			}
			m.do(t, fmt.Sprint("set-format ", c.format+1))
		}
	}
}

// TestFormat4_ReadAndUpgraded: a journal and a snapshot of format 4 are read, and written again byte
// for byte. Of a gateway's requests only the last one is remembered until format 5 is in force, and
// then those since as well.
func TestFormat4_ReadAndUpgraded(t *testing.T) {
	for name, m := range readOld(t, "testdata/format4.txt") {
		m.maxFormat = entry.Format
		want := func(line, what string) {
			t.Helper()
			m.out.Reset()
			if m.do(t, line); !strings.Contains(m.out.String(), what) {
				t.Errorf("%s: %s: got %q, want %q", name, line, m.out.String(), what)
			}
		}
		want("apply g1 p1 seq=3 body=9 lost:alice:s1", "applied 1 at 5.1")
		want("apply g1 p1 seq=2 body=8 lost:alice:s1", "out_of_order")
		want("open g1 p1 ttl=30s", "last request 3\n")
		m.do(t, "set-format 5")
		want("open g1 p1 ttl=30s", "last request 3, window 4\n")
		want("apply g1 p1 seq=2 body=8 lost:alice:s1", "out_of_order")
		for seq := 4; seq <= 6; seq++ {
			m.do(t, fmt.Sprintf("apply g1 p1 seq=%d body=%d set:carol:%d", seq, seq, seq))
		}
		want("apply g1 p1 seq=3 body=9 lost:alice:s1", "applied 1 at 5.1")
		want("apply g1 p1 seq=2 body=8 lost:alice:s1", "out_of_order")
		restored, err := restore(blocksOf(t, m.s.BeginSnapshot(), nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := dump(restored, true), dump(m.s, true); got != want {
			t.Errorf("%s: restored: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestFormat4_RuleAtDefault: a rule that has its default is in no digest and no snapshot. So a later
// version, which has a rule more, agrees with this one while the rule has its default.
func TestFormat4_RuleAtDefault(t *testing.T) {
	m := newMachine(t).at(4)
	m.do(t, "login alice phone ttl=120s on=N1/7")
	with, snapshot := m.s.Digest(), slices.Concat(blocksOf(t, m.s.BeginSnapshot(), nil)...)
	m.s.params.MaxGrace = 0 // as in a version that does not know the rule
	if got := m.s.Digest(); got != with {
		t.Errorf("the digest is %016x, without the rule %016x", with, got)
	}
	if got := slices.Concat(blocksOf(t, m.s.BeginSnapshot(), nil)...); !bytes.Equal(got, snapshot) {
		t.Errorf("the snapshot is %x, without the rule %x", snapshot, got)
	}
}

// TestFormat4: what only format 4 has makes an entry and a snapshot one of format 4, and changes
// the digest.
func TestFormat4(t *testing.T) {
	m := newMachine(t).at(4)
	m.do(t, "login alice phone ttl=120s on=N1/7", "open g1 p1 ttl=120s on=N1/8", "closed N1/9")
	digest := m.s.Digest()
	changed := func(what string) {
		t.Helper()
		if m.s.Digest() == digest {
			t.Errorf("%s does not change the digest", what)
		}
		digest = m.s.Digest()
		restored, err := restore(blocksOf(t, m.s.BeginSnapshot(), nil))
		if err != nil || restored.Digest() != digest || restored.params != m.s.params {
			t.Errorf("%s does not survive a snapshot: %v", what, err)
		}
	}
	m.s.params.MaxGrace++
	changed("the longest grace")
	u := m.s.users.get("alice")
	m.s.change(u)
	m.s.first(u).terms = makeTerms(120_000, 20_000)
	m.s.finish()
	changed("a session's grace")
	m.s.gateways.byKey[gatewayKey{"g1", "p1"}].terms = makeTerms(120_000, 20_000)
	changed("a gateway's grace")
}
