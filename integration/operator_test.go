package integration

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestListIsStableUnderChange: while users come, go and change, who is there from
// the first page to the last is on exactly one, on either instance.
func TestListIsStableUnderChange(t *testing.T) {
	t.Parallel()
	const stay, come = 400, 200
	kit := servicetest.Start(t)
	kit.AddInstance(t)
	nc := kit.Connect(t)
	for _, id := range wire.Names("stays", stay) {
		wire.Login(t, nc, id, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
	}
	done := make(chan struct{})
	var changing sync.WaitGroup
	for w := range 4 {
		changer := kit.Connect(t)
		changing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				id := fmt.Sprint("comes", (i*4+w)%come)
				var err error
				switch i % 3 {
				case 0:
					_, err = wire.Ask[protocol.LoginReply](changer, wire.To(protocol.OpLogin, id), protocol.LoginRequest{TTLSeconds: 3600})
				case 1:
					_, err = wire.Ask[protocol.KickReply](changer, wire.Subjects.Erase(), protocol.UserRequest{UserID: id})
				case 2:
					text := fmt.Sprint(i)
					_, err = wire.Ask[protocol.ChangeReply](changer, wire.To(protocol.OpSet, fmt.Sprint("stays", i%stay)), protocol.SetRequest{CustomStatus: &text})
				}
				if err != nil {
					t.Errorf("changing: %v", err)
					return
				}
			}
		})
	}
	defer changing.Wait()
	defer close(done)
	for round := range 10 {
		seen := map[string]int{}
		last := ""
		for request, begun := (protocol.ListRequest{Limit: 7 + round}), false; request.Cursor != "" || !begun; begun = true {
			reply := wire.Must[protocol.ListReply](t, nc, wire.Subjects.List(), request)
			for _, st := range reply.Users {
				seen[st.UserID]++
				if protocol.CompareTokens(last, st.UserID) >= 0 {
					t.Fatalf("%q came after %q", st.UserID, last)
				}
				last = st.UserID
			}
			request.Cursor = reply.Cursor
		}
		for _, id := range wire.Names("stays", stay) {
			if seen[id] != 1 {
				t.Fatalf("%s was there throughout, and is listed %d times", id, seen[id])
			}
		}
	}
}

// TestOperator_WhyIsAliceShownBusy: what an operator asks, and what the answers
// name, from a login over an override to the death of the client.
func TestOperator_WhyIsAliceShownBusy(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	operator, client := kit.Connect(t), kit.Connect(t)
	explain := func() protocol.ExplainReply {
		t.Helper()
		return wire.Must[protocol.ExplainReply](t, operator, wire.Subjects.Explain(), protocol.UserRequest{UserID: "alice"})
	}
	says := func(r protocol.ExplainReply, want string) {
		t.Helper()
		if !slices.ContainsFunc(r.Why, func(s string) bool { return len(s) >= len(want) && s[:len(want)] == want }) {
			t.Errorf("why: got %q, want a sentence that begins with %q", r.Why, want)
		}
	}
	says(explain(), "UNLOGINED: nothing is known of the user")

	wire.Login(t, client, "alice", protocol.LoginRequest{SessionID: "s1", Platform: "web", Connection: wire.BoundTo(client)})
	busy := protocol.Busy
	wire.Must[protocol.ChangeReply](t, client, wire.To(protocol.OpSet, "alice"), protocol.SetRequest{Availability: &busy, AvailabilityExpiresInSeconds: protocol.Ptr[int64](3600)})
	r := explain()
	says(r, "ONLINE: session s1 (web) is live")
	says(r, "busy: an override until ")
	if c := r.Sessions[0].Connection; c == nil || *c != *wire.BoundTo(client) {
		t.Errorf("connection: got %+v, want %+v", c, wire.BoundTo(client))
	}

	client.Close()
	servicetest.Eventually(t, 10*time.Second+wire.Soon, "alice to be OFFLINE", func() bool { return explain().Public.StatusType == protocol.Offline })
	r = explain()
	says(r, "OFFLINE: session s1 (web) was lost when its connection closed")
	says(r, "busy is set until ")

	wire.Must[protocol.KickReply](t, operator, wire.Subjects.Erase(), protocol.UserRequest{UserID: "alice"})
	servicetest.Eventually(t, wire.Soon+10*time.Second, "alice to be forgotten", func() bool { return explain().Public.Revision == 0 })
	says(explain(), "UNLOGINED: nothing is known of the user")
}
