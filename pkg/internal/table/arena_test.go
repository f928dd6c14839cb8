package table

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// arenaModel is an Arena beside a map that holds the same, by owner.
type arenaModel struct {
	arena *Arena
	texts map[uint32]Text
	want  map[uint32]string
	next  uint32
	moves int
}

func newArenaModel(t testing.TB) *arenaModel {
	m := &arenaModel{texts: map[uint32]Text{}, want: map[uint32]string{}}
	m.arena = NewArena(func(owner uint32, to Text) {
		if _, ok := m.texts[owner]; !ok {
			t.Fatalf("a text of the owner %d moved, who has none", owner)
		}
		m.texts[owner] = to
		m.moves++
	})
	return m
}

func (m *arenaModel) put(text string) {
	m.next++
	m.texts[m.next], m.want[m.next] = m.arena.Put(m.next, text), text
}

func (m *arenaModel) free(owner uint32) {
	m.arena.Free(m.texts[owner])
	delete(m.texts, owner)
	delete(m.want, owner)
}

func (m *arenaModel) owners() []uint32 { return slices.Sorted(maps.Keys(m.want)) }

func (m *arenaModel) check(t testing.TB) {
	live := 0
	for owner, want := range m.want {
		text := m.texts[owner]
		if got := m.arena.Get(text); got != want {
			t.Fatalf("the text of %d is %q, want %q", owner, got, want)
		}
		live += sizeOf(len(want))
		if got := m.arena.Owner(text); got != owner || text == 0 {
			t.Fatalf("the owner of %d's text %d is %d", owner, text, got)
		}
	}
	if m.arena.Len() != len(m.want) {
		t.Fatalf("Len() is %d, want %d", m.arena.Len(), len(m.want))
	}
	all, dead := 0, 0
	filled := 0
	for i, c := range m.arena.chunks {
		all, dead, filled = all+cap(c.bytes), dead+c.dead, filled+len(c.bytes)
		if uint32(i) != m.arena.filled && !c.worn && 2*c.dead > len(c.bytes) {
			t.Fatalf("%d of %d bytes of chunk %d are dead", c.dead, len(c.bytes), i)
		}
	}
	if gotAll, gotDead := m.arena.Bytes(); gotAll != all || gotDead != dead || filled-dead != live {
		t.Fatalf("Bytes() is %d and %d, want %d and %d; %d are live, want %d", gotAll, gotDead, all, dead, filled-dead, live)
	}
}

// TestArena: whatever is added and freed, each text stays what it is, and so does each string
// that was read before.
func TestArena(t *testing.T) {
	lengths := []int{0, 1, 2, 3, 4, 11, 36, 126, 127, 128, 129, 512, 4096, 70_000}
	rapid.Check(t, func(rt *rapid.T) {
		m := newArenaModel(t)
		type read struct{ text, want string }
		var reads []read
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			for range rapid.SampledFrom([]int{0, 1, 5, 60}).Draw(rt, "add") {
				n := rapid.SampledFrom(lengths).Draw(rt, "length")
				m.put(strings.Repeat(fmt.Sprintf("%08d", m.next), n/8+1)[:n])
			}
			owners := m.owners()
			for range rapid.SampledFrom([]int{0, 1, 5, 60}).Draw(rt, "free") {
				if len(owners) == 0 {
					break
				}
				i := rapid.IntRange(0, len(owners)-1).Draw(rt, "which")
				text := m.arena.Get(m.texts[owners[i]])
				reads = append(reads, read{text, strings.Clone(text)})
				m.free(owners[i])
				owners = slices.Delete(owners, i, i+1)
			}
			m.check(t)
			if rapid.Bool().Draw(rt, "tidy") {
				m.arena.Tidy()
				m.check(t)
			}
		}
		for _, r := range reads {
			if r.text != r.want {
				rt.Fatalf("a text that was read before became %q, want %q", r.text, r.want)
			}
		}
	})
}

// TestArena_Memory: the chunks have at most about twice what is in use, however often texts
// come and go, and a text moves about as often as others are freed.
func TestArena_Memory(t *testing.T) {
	m := newArenaModel(t)
	const texts, rounds = 5_000, 40
	for i := range texts {
		m.put(fmt.Sprintf("text of %d", i))
	}
	freed := 0
	for round := range rounds {
		for i, owner := range m.owners() {
			if i%3 == round%3 {
				m.free(owner)
				m.put(fmt.Sprintf("text %d of round %d", i, round))
				freed++
			}
			m.arena.Tidy()
		}
	}
	m.check(t)
	all, dead := m.arena.Bytes()
	if live := texts * sizeOf(len("text 1234 of round 12")); all > 2*live+2*chunkSize || dead > live+chunkSize {
		t.Errorf("%d bytes are live, the chunks have %d, and %d are dead", live, all, dead)
	}
	if m.moves == 0 || m.moves > 2*freed {
		t.Errorf("%d texts moved while %d were freed", m.moves, freed)
	}
	for _, owner := range m.owners() {
		m.free(owner)
	}
	m.arena.Tidy()
	if all, _ := m.arena.Bytes(); all > chunkSize {
		t.Errorf("%d bytes are left of no texts", all)
	}
}

// TestArena_StaysUntilTidy: a text that was freed can be read until Tidy, and nothing moves.
func TestArena_StaysUntilTidy(t *testing.T) {
	m := newArenaModel(t)
	for i := range 3 * chunkSize / 16 {
		m.put(fmt.Sprintf("%08d", i))
	}
	before := maps.Clone(m.texts)
	for _, owner := range m.owners()[1:] {
		m.free(owner)
	}
	for owner, text := range before {
		if got, want := m.arena.Get(text), fmt.Sprintf("%08d", owner-1); got != want {
			t.Fatalf("the text of %d is %q, want %q", owner, got, want)
		}
	}
	if m.moves != 0 {
		t.Errorf("%d texts moved", m.moves)
	}
	m.arena.Tidy()
	m.check(t)
	if m.moves != 1 {
		t.Errorf("%d texts moved, one was left", m.moves)
	}
}

// TestArena_FreedTwice: to free a text twice is a mistake of the caller.
func TestArena_FreedTwice(t *testing.T) {
	a := NewArena(func(uint32, Text) {})
	text := a.Put(1, "x")
	a.Free(text)
	if !panics(func() { a.Free(text) }) {
		t.Error("Free did not panic")
	}
}

// FuzzArena: each pair of bytes adds a text, or frees some, or tidies up.
func FuzzArena(f *testing.F) {
	f.Add([]byte{0, 200, 1, 1, 2, 0, 0, 255, 3, 2})
	f.Fuzz(func(t *testing.T, steps []byte) {
		m := newArenaModel(t)
		for i := 0; i+1 < len(steps); i += 2 {
			n := int(steps[i+1])
			switch steps[i] % 4 {
			case 0:
				m.put(strings.Repeat(string(rune('a'+i%26)), n))
			case 1:
				m.put(strings.Repeat(string(rune('a'+i%26)), n*300))
			case 2:
				for k, owner := range m.owners() {
					if k%(n+1) == 0 {
						m.free(owner)
					}
				}
			case 3:
				m.arena.Tidy()
			}
		}
		m.check(t)
		m.arena.Tidy()
		m.check(t)
	})
}
