package processes

import (
	"context"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/broker"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// TestListener_LimitReached: the broker does not say which subscription is over a limit. The
// instance finds out, at the start and after a reconnect. The test is here and not in pkg/service
// because nats-server 2.15.2 has a data race of its own: it refuses a subscription over the limit
// and reads the connection's account without the lock under which a reload writes it.
func TestListener_LimitReached(t *testing.T) {
	t.Parallel()
	const accounts = `
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ]`
	const limited, unlimited = accounts + ", limits: { max_subscriptions: 12 } } }", accounts + " } }"
	server := servicetest.StartNATS(t, limited)
	clients := server.ConnectAs(t, broker.Clients)
	s, err := service.New(service.Config{
		Clients: clients, Answers: server.ConnectAs(t, broker.Answers),
		Journal: server.ConnectAs(t, broker.Journal), System: server.ConnectAs(t, broker.System),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	awaitHealth := func(text string) {
		t.Helper()
		servicetest.Eventually(t, 20*time.Second, "to be healthy, or: "+text, func() bool {
			err := s.Health()
			return (err == nil) == (text == "") && (err == nil || strings.Contains(err.Error(), text))
		})
	}

	awaitHealth("more: a limit on subscriptions is reached")
	if got := s.Health(); got == nil || !strings.Contains(got.Error(), "refuses the subscription to presence.v1.") {
		t.Errorf("Health: got %v, want the first subjects that were refused", got)
	}
	server.Reload(t, unlimited)
	awaitHealth("")

	server.Reload(t, limited) // which counts for what is subscribed from now on
	if err := clients.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	awaitHealth("a limit on subscriptions is reached")
	server.Reload(t, unlimited)
	awaitHealth("")
	wire.SetText(t, server.Connect(t), "alice", "served again")
}
