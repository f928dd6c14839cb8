package service

import (
	"errors"
	"fmt"
	"hash/maphash"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// White-box, because what is asked is how much waits at one moment.

// sized is a request with a body of so many bytes.
func sized(n int) request { return request{&nats.Msg{Data: make([]byte, n)}} }

// TestQueries: one asker has its part and no more, however few others wait; all
// together have theirs; and every answer makes room again.
func TestQueries(t *testing.T) {
	const each, all = 10, 35
	size := 1000 - queryOverhead
	q := newQueries(&Limits{QueryBytes: all * 1000, AskerBytes: each * 1000})
	var held []*call
	ask := func(who string) error {
		c := &call{request: sized(size)}
		err := q.add(c, who)
		if err == nil {
			held = append(held, c)
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
	for _, c := range held {
		q.release(c)
		q.release(c) // which does nothing
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

// apart returns n askers whom the hash tells apart from each other and from first. Its
// seed is another one in each run, so any two names may be the same to it.
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

// TestAsker: who asks for many is told apart by the connection, with the inboxes
// of PROTOCOL 9 as with the usual ones, and who asks for oneself by the user.
func TestAsker(t *testing.T) {
	s := &Service{subjects: protocol.NewSubjects("")}
	for _, x := range []struct{ subject, reply, want string }{
		{"get", "_INBOX.abc.1", "_INBOX.abc"},
		{"get", "_INBOX.user.alice.abc.1", "_INBOX.user.alice.abc"},
		{"get", "_INBOX.user.bob.def.1", "_INBOX.user.bob.def"},
		{"list", "_INBOX.operator.op.abc.1", "_INBOX.operator.op.abc"},
		{"get", "_INBOX_alice.abc.1", "_INBOX_alice.abc"},
		{"get", "_INBOX.abc", "_INBOX.abc"},
		{"get", "x", "x"},
		{"get", ".", "."},
		{"user.alice.status", "_INBOX.abc.1", "alice"},
	} {
		c := &call{request: request{&nats.Msg{Subject: s.subjects.Prefix() + "." + x.subject, Reply: x.reply}}}
		if got := s.asker(c); got != x.want {
			t.Errorf("%s with the answer to %q: got the asker %q, want %q", x.subject, x.reply, got, x.want)
		}
	}
}
