package service

import (
	"errors"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/internal/state"

	"github.com/nats-io/nats.go"
)

// TestMark_AnotherBroker: an answer of a broker that is not the one which got the
// events does not make them count, even where nobody has said yet that the
// connection was lost. White-box: what nats.go says comes too soon to be overtaken.
func TestMark_AnotherBroker(t *testing.T) {
	cfg := broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}
	b := startBroker(t, cfg)
	cfg.Listen = strings.TrimPrefix(b.ClientURL(), "nats://")
	nc, err := nats.Connect(b.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	a := newAnnouncer(&Service{cfg: Config{Answers: nc}})
	publish := func() { a.ledger.Published(a.turn(), state.Cursor{}, 7, false) }

	publish()
	a.finish() // what the broker has counts at once
	if err := a.mark(); err != nil || a.flushed() != 7 {
		t.Fatalf("mark: %v, flushed up to %d, want 7", err, a.flushed())
	}
	before := a.turn()
	b.Shutdown()
	startBroker(t, cfg)
	for begun := time.Now(); nc.Stats().Reconnects == 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the connection did not come back")
		}
	}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if err = a.mark(); errors.Is(err, errLost) {
			break
		}
		if err == nil || time.Since(begun) > 20*time.Second {
			t.Fatalf("mark by another broker: got %v, want %v", err, errLost)
		}
	}
	if a.flushed() != 0 || a.turn() == before {
		t.Errorf("flushed up to %d after the broker was lost, want that all is announced again", a.flushed())
	}
	publish()
	if err := a.mark(); err != nil || a.flushed() != 7 {
		t.Errorf("once it is announced again: %v, flushed up to %d, want 7", err, a.flushed())
	}
}

func startBroker(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	return b
}
