package service

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// TestListener_DrainedOverReconnect: a subscription is given up while requests wait. The connection
// for requests is lost and comes back before they are handled. Then the broker must not have the
// subscription: it would send requests there that nobody answers.
func TestListener_DrainedOverReconnect(t *testing.T) {
	t.Parallel()
	b, err := broker.StartForeign("debug: false", "127.0.0.1:0", t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	connect := func() *nats.Conn {
		nc, err := nats.Connect(b.ClientURL(), nats.MaxReconnects(-1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	l := &listener{service: &Service{log: slog.New(slog.DiscardHandler)}, nc: connect()}
	begun, goOn := make(chan struct{}, 1000), make(chan struct{})
	x := &subscription{subject: "asked", queue: "q", handle: func(*nats.Msg) {
		begun <- struct{}{}
		<-goOn
	}}
	l.make(x)
	asking := connect()
	within := func(what string, holds func() bool) {
		t.Helper()
		if !await(t.Context(), 20*time.Second, holds) {
			t.Fatalf("waiting for %s: not within 20 s", what)
		}
	}
	flush := func(nc *nats.Conn) {
		t.Helper()
		if err := nc.FlushTimeout(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	flush(l.nc)
	for range 2 { // one is being handled, the other waits
		if err := asking.Publish(x.subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	flush(asking)
	<-begun
	flush(l.nc) // so the other is there
	l.mu.Lock()
	l.drop(x)
	l.mu.Unlock()
	flush(l.nc)
	if err := l.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	within("the connection to be back", func() bool { return l.nc.Stats().Reconnects == 1 && l.nc.IsConnected() })
	close(goOn)
	within("the broker to have the subscription no more", func() bool {
		_, err := asking.Request("asked", nil, 200*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	})
	if len(begun) == 0 {
		t.Error("the request that waited was not handled")
	}
}
