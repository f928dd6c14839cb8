package service

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// TestListener_RepairedIsKnown: a subscription that was refused counts as accepted when the broker
// has answered after it. Without that answer it does not, and is made once more. White-box: the
// moment without an answer is short.
func TestListener_RepairedIsKnown(t *testing.T) {
	b := startBroker(t, broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	nc, err := nats.Connect(b.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for name, refused := range map[string]error{"not permitted": errNotPermitted, "a limit": errLimit} {
		var log bytes.Buffer
		s := &Service{log: slog.New(slog.NewTextHandler(&log, nil))}
		x := &subscription{subject: "a.subject", handle: func(*nats.Msg) {}, refused: refused, logged: true}
		l := &listener{service: s, nc: nc, subscriptions: []*subscription{x}}
		s.replies = &replies{}
		s.replies.requestsUp.Store(true)
		every := func(*subscription) bool { return true }

		unanswered, cancel := context.WithCancel(t.Context())
		cancel()
		l.subscribe(unanswered, l.missing(every))
		if got := log.String(); strings.Contains(got, "accepts the subscription again") {
			t.Errorf("%s: without an answer of the broker the log says %q", name, got)
		}
		x.endpoint = &endpoint{leases: true}
		if l.reachable() {
			t.Errorf("%s: without an answer of the broker requests are said to arrive", name)
		}
		x.endpoint = nil // that leases are extended again is told to a journal, which is not here
		l.subscribe(t.Context(), l.missing(every))
		if got := log.String(); strings.Count(got, "accepts the subscription again") != 1 || x.logged {
			t.Errorf("%s: once the broker has answered the log says %q, want that it is accepted again", name, got)
		}
	}
}
