package admission

import (
	"errors"
	"fmt"
	"hash/maphash"
	"testing"

	"presence/pkg/protocol"
)

// White-box, because what is asked is how much waits at one moment.

// TestQueries: one asker may use its part and no more, even if few others wait. All askers together
// may use the whole. Every answer makes room again.
func TestQueries(t *testing.T) {
	const each, all = 10, 35
	size := 1000 - queryOverhead
	g := New(Limits{UserChanges: Unlimited, UserRenewals: Unlimited, GatewayOps: Unlimited, QueryBytes: all * 1000, AskerBytes: each * 1000})
	q := g.queries
	var held []*Ticket
	ask := func(who string) error {
		ticket := new(Ticket)
		err := g.Query(nil, ticket, who, size)
		if err == nil {
			held = append(held, ticket)
		} else if !errors.Is(err, protocol.ErrOverloaded) {
			t.Errorf("got %v, want overloaded", err)
		}
		return err
	}
	a, others := "a", apart(q, "a", 3)
	b, c, d := others[0], others[1], others[2]
	admitted := map[string]int{}
	for _, who := range []string{a, b, c, d} {
		for range 2 * each {
			if ask(who) == nil {
				admitted[who]++
			}
		}
	}
	if admitted[a] != each || admitted[b] != each || admitted[c] != each || admitted[d] != all-3*each {
		t.Errorf("admitted %v, want 10 of each until 35 wait", admitted)
	}
	for _, ticket := range held {
		g.Release(ticket)
		g.Release(ticket) // which does nothing
	}
	if q.waiting != 0 || q.by != [askers]int{} {
		t.Errorf("%d bytes are still counted", q.waiting)
	}
	for range len(held) {
		<-q.work // what was admitted, and it never waited for room
	}
	if ask("a") != nil {
		t.Error("afterwards a query is refused")
	}
}

// apart returns n askers that have different hashes, from each other and from first. The hash has
// another seed in each run.
func apart(q *queries, first string, n int) (names []string) {
	of := func(who string) uint64 { return maphash.String(q.seed, who) % askers }
	taken := map[uint64]bool{of(first): true}
	for i := 0; len(names) < n; i++ {
		who := fmt.Sprint("asker", i)
		if !taken[of(who)] {
			taken[of(who)] = true
			names = append(names, who)
		}
	}
	return names
}
