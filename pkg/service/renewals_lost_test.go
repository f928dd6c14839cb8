package service_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// TestG06_NobodyTakesRenewals: an instance takes no requests, and meanwhile connections of others
// close. If no other instance takes requests either, the reports of closed connections must not let
// lease time pass: a client that tries to renew all the time is not lost. If another one does, it
// hears of the closed connections, and their users are lost.
func TestG06_NobodyTakesRenewals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cutOff, others int
		lose           func(*service.Config, *nats.Conn) // what is behind the gate
	}{
		"two lost the connection for answers":  {2, 0, func(c *service.Config, nc *nats.Conn) { c.Answers = nc }},
		"one lost the connection for requests": {1, 0, func(c *service.Config, nc *nats.Conn) { c.Clients = nc }},
		"one of two lost the one for answers":  {1, 1, func(c *service.Config, nc *nats.Conn) { c.Answers = nc }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servicetest.StartNATS(t)
			gates := make([]gate, c.cutOff)
			var list []*service.Service
			for i := range gates {
				list = append(list, run(t, server, func(cfg *service.Config) { c.lose(cfg, gated(t, server, &gates[i])) }))
				awaitHealth(t, list[i], "")
			}
			for range c.others {
				awaitHealth(t, run(t, server), "")
			}
			const ttl = 5
			nc := server.Connect(t)
			login := func(nc *nats.Conn, user string, bound *protocol.Connection) {
				t.Helper()
				r := protocol.LoginRequest{SessionID: "s", TTLSeconds: ttl, Connection: bound}
				if bound != nil {
					r.TTLSeconds = 300
				}
				if err := request(t, nc, to(t, user, protocol.OpLogin), r, nil); err != nil {
					t.Fatal(err)
				}
			}
			var others []*nats.Conn
			for i := range 2 * ttl * 4 {
				other := server.Connect(t)
				id, err := other.GetClientID()
				if err != nil {
					t.Fatal(err)
				}
				login(other, fmt.Sprint("other-", i), &protocol.Connection{ServerID: other.ConnectedServerId(), ClientID: id})
				others = append(others, other)
			}
			servicetest.Eventually(t, 3*soon, "all instances to be there, without an amnesty", func() bool {
				f := list[0].Figures()
				return f.Instances == c.cutOff+c.others && !f.InAmnesty
			})
			login(nc, "alice", nil)
			for i := range gates {
				gates[i].set(true)
			}
			for _, s := range list {
				awaitHealth(t, s, "is lost")
			}
			renew := func() {
				if err := nc.PublishRequest(to(t, "alice", protocol.OpRenew), nc.NewInbox(), []byte(`{"sessionID":"s"}`)); err != nil {
					t.Fatal(err)
				}
			}
			for _, other := range others {
				other.Close()
				renew()
				time.Sleep(time.Second / 4)
			}
			if c.others > 0 {
				var users []string
				for i := range others {
					users = append(users, fmt.Sprint("other-", i))
				}
				servicetest.Eventually(t, soon, "all whose connections closed to be lost", func() bool {
					renew()
					return !slices.ContainsFunc(get(t, nc, users...), func(s protocol.Status) bool { return s.StatusType != protocol.Offline })
				})
			}
			for i := range gates {
				gates[i].set(false)
			}
			for _, s := range list {
				awaitHealth(t, s, "")
			}
			if got := get(t, nc, "alice")[0]; got.StatusType != protocol.Online {
				t.Errorf("alice, who renewed all the time: got %+v, want ONLINE", got)
			}
		})
	}
}
