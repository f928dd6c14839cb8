package integration

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// watchOnce subscribes to a user's events and then asks for the status, as PROTOCOL 5 says. It
// returns the newest revision that it gets to know, once that is wanted, or after a while.
func watchOnce(t *testing.T, nc *nats.Conn, userID string, wanted func() uint64) (newest uint64) {
	subject, err := wire.Subjects.Event(userID)
	if err != nil {
		t.Error(err)
		return 0
	}
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer sub.Unsubscribe()
	reply, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{userID}})
	if err != nil {
		t.Error(err)
		return 0
	}
	newest = reply.SuccessUserList[0].Revision
	for begun := time.Now(); newest < wanted() || wanted() == 0; {
		m, err := sub.NextMsg(10 * time.Millisecond)
		if err != nil {
			if time.Since(begun) > wire.Soon {
				return newest
			}
			continue
		}
		var event protocol.Event
		if err := protocol.Unmarshal(m.Data, &event); err != nil {
			t.Error(err)
			return 0
		}
		newest = max(newest, event.Revision)
	}
	return newest
}

// TestG11_SubscribeAsNobodyHears: until a watcher subscribes, nobody hears a user's events, and the
// service sends none. Whenever the watcher comes while the user changes, it learns of the last
// change, by its snapshot or by an event.
func TestG11_SubscribeAsNobodyHears(t *testing.T) {
	kit := servicetest.Start(t)
	nc, watcher := kit.Connect(t), kit.Connect(t)
	const rounds, changes = 300, 8
	for round := range rounds {
		user := fmt.Sprint("u", round)
		var last atomic.Uint64 // the revision of the last change, once it is made
		var changing sync.WaitGroup
		changing.Go(func() {
			for i := range changes {
				reply, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, user), fmt.Sprintf(`{"customStatus":"%d"}`, i))
				if err != nil {
					t.Error(err)
				}
				if i == changes-1 {
					last.Store(reply.Status.Revision)
				}
			}
		})
		time.Sleep(time.Duration(round%20) * 100 * time.Microsecond) // to come at another moment
		newest := watchOnce(t, watcher, user, last.Load)
		changing.Wait()
		if newest != last.Load() {
			t.Fatalf("round %d: the watcher knows revision %d, want %d", round, newest, last.Load())
		}
	}
}
