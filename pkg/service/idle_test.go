package service_test

import (
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// TestIdle: an instance that has a NATS server of its own appends next to nothing while nobody is
// logged in. All the same it is ready and not stale, and a fresh read waits for no tick. Whoever logs
// in is OFFLINE after the grace and not after an amnesty. From when a second instance joins, there
// are entries each second again.
func TestIdle(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Alone = true }))
	s, nc := kit.Instances[0].Service, kit.Connect(t)
	idle := func() {
		t.Helper()
		const quiet = protocol.StaleAfter + 2*time.Second
		applied, since := s.Figures().Applied, time.Now()
		servicetest.Eventually(t, soon, "the journal to be silent", func() bool {
			if f := s.Figures(); f.Applied != applied {
				applied, since = f.Applied, time.Now()
			} else if f.Lag > protocol.StaleAfter {
				t.Fatalf("the lag is %v while the service is idle", f.Lag)
			}
			return time.Since(since) > quiet
		})
		if err := s.Health(); err != nil {
			t.Errorf("Health while idle: %v", err)
		}
		if r := must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"bob"}}); r.Stale {
			t.Error("a get while idle is stale")
		}
		begun := time.Now()
		must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"bob"}, Fresh: true})
		if took := time.Since(begun); took > protocol.StaleAfter {
			t.Errorf("a fresh get while idle took %v", took)
		}
	}
	idle()

	phone := kit.Connect(t)
	id, err := phone.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	login(t, phone, "alice", protocol.LoginRequest{SessionID: "s1", TTLSeconds: 3600, Connection: &protocol.Connection{ServerID: phone.ConnectedServerId(), ClientID: id}})
	phone.Close()
	// The grace is 5 s, and an amnesty would be 30 s.
	servicetest.Eventually(t, soon, "alice to be OFFLINE", func() bool { return get(t, nc, "alice")[0].StatusType == protocol.Offline })
	idle()

	second := kit.AddInstance(t, servicetest.WithService(func(c *service.Config) { c.Alone = false }))
	applied := s.Figures().Applied
	servicetest.Eventually(t, soon, "entries each second", func() bool {
		f := s.Figures()
		return f.Instances == 2 && f.Applied > applied+5
	})
	if err := second.Service.Health(); err != nil {
		t.Errorf("Health of the second instance: %v", err)
	}
}
