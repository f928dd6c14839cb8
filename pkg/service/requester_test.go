package service

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// TestRequester_Limit: a limit on subscriptions names none. Where a reconnect leaves out the one
// for answers, the requester finds out, and requests are answered again once there is room.
// Where the limit leaves out another, the requester does not reconnect. White-box, because it is
// chance which one a reconnect leaves out.
//
// The limit stays as it is. nats-server 2.15.2 writes a reloaded limit while the connection's own
// goroutine reads it, which the race detector reports.
func TestRequester_Limit(t *testing.T) {
	t.Parallel()
	const config = "accounts { ONE { users: [ { user: one, password: secret } ], limits: { max_subscriptions: 1 } } }"
	b, err := broker.StartForeign(config, "127.0.0.1:0", t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	nc, err := nats.Connect(b.ClientURL(), nats.UserInfo("one", "secret"), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	x := newRequester(nc, "journal's", "$SYS.REQ.USER.INFO", slog.New(slog.DiscardHandler))
	answered := func() bool { return x.answered(t.Context()) }
	if !answered() {
		t.Fatal("a request is not answered though its subscription is the only one")
	}
	another, err := nc.SubscribeSync("another")
	if err != nil {
		t.Fatal(err)
	}
	reconnect := func(wantAnswered bool) {
		t.Helper()
		for attempts := 0; ; attempts++ {
			if attempts == 50 {
				t.Fatalf("after %d reconnects none left requests answered: %v", attempts, wantAnswered)
			}
			before := nc.Stats().Reconnects
			if err := nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
			if !await(t.Context(), 20*time.Second, func() bool { return nc.Stats().Reconnects != before && nc.IsConnected() }) {
				t.Fatal("the connection did not come back")
			}
			if answered() == wantAnswered {
				return
			}
		}
	}
	reconnect(true)
	stop := hearErrors(nc, x.reported)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { x.run(ctx) })
	defer running.Wait()
	defer cancel()
	within := func(what string, holds func() bool) {
		t.Helper()
		if !await(t.Context(), 20*time.Second, holds) {
			t.Fatalf("waiting for %s: not within 20 s: %v", what, x.refusal())
		}
	}
	before := nc.Stats().Reconnects
	x.reported(nil, nats.ErrMaxSubscriptionsExceeded) // of the other
	within("it to be found out", func() bool { return x.doubted() == nil })
	if err := x.trouble(); err != nil || nc.Stats().Reconnects != before {
		t.Errorf("where another is left out: %v, and %d reconnects more, want none", err, nc.Stats().Reconnects-before)
	}
	if err := x.refusal(); err == nil || !strings.Contains(err.Error(), "a limit on subscriptions is reached") {
		t.Errorf("where another is left out it tells %v", err)
	}

	stop()
	reconnect(false)
	stop = hearErrors(nc, x.reported)
	defer stop()
	x.reported(nil, nats.ErrMaxSubscriptionsExceeded) // one of many
	within("the refusal to be told", func() bool {
		err := x.trouble()
		return err != nil && strings.Contains(err.Error(), "_INBOX.> in the journal's account: a limit on subscriptions is reached")
	})
	if err := another.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	within("requests to be answered again", func() bool { return x.trouble() == nil && answered() })
}
