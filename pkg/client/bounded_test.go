package client

import (
	"fmt"
	"testing"

	"presence/pkg/protocol"
)

// cycles is how often the same happens to one user.
const cycles = 1_000_000

// TestBounded: the tables of a client keep nothing of users and sessions that come and go.
// White-box: what is left of so many can only be seen inside, and no broker takes as many.
func TestBounded(t *testing.T) {
	t.Run("users to watch", func(t *testing.T) {
		w := newWatch(&Client{})
		for i := range cycles {
			id := "alice"
			if i%2 == 0 {
				id = fmt.Sprint("user", i)
			}
			u := w.admit(id, subscribing)
			w.delivery.tell(id, protocol.Status{UserID: id})
			w.remove(w.countOut([]*watched{u}, subscribing))
		}
		if n := len(w.users) + len(w.confirm) + len(w.owners) + len(w.awaits); n > 0 {
			t.Errorf("%d entries are left of %d users", n, cycles)
		}
	})
	t.Run("statuses to tell", func(t *testing.T) {
		var p pending[protocol.Status]
		for i := range cycles {
			p.put("alice", protocol.Status{Revision: uint64(i)})
			if id := fmt.Sprint("user", i); i%2 == 0 {
				p.put(id, protocol.Status{})
				p.drop([]string{id})
			}
			if i%1000 == 0 && len(p.take()) != 1 {
				t.Fatalf("after %d statuses of one user not one waits", i)
			}
		}
		if len(p.latest) != 1 || len(p.order) != 1 || cap(p.order) > 8 {
			t.Errorf("%d statuses and %d users wait, want 1", len(p.latest), len(p.order))
		}
	})
	t.Run("sessions of a gateway", func(t *testing.T) {
		h := gatewaySessions{}
		for i := range cycles {
			op := protocol.Op{Op: protocol.OpKindLogin, UserID: "alice", SessionID: fmt.Sprint("s", i), Platform: fmt.Sprint("p", i%100)}
			h.note(&op)
			op.Op = protocol.OpKindLost
			h.note(&op)
		}
		if len(h) > 0 {
			t.Errorf("%d sessions are held, all were lost", len(h))
		}
	})
	t.Run("callbacks", func(t *testing.T) {
		d := newDelivery()
		for range cycles {
			add(d, &d.onStatus, func([]protocol.Status) {})()
		}
		if len(d.onStatus) > 0 {
			t.Errorf("%d callbacks are left, all were removed", len(d.onStatus))
		}
	})
}
