package clienttest

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// White-box: what a cable keeps of connections that are closed cannot be seen from outside.

// TestCable_ClosedConnections: a cable keeps nothing of connections that are closed, so that
// a program that connects again and again does not grow.
func TestCable_ClosedConnections(t *testing.T) {
	s := New(t, Options{})
	cable := s.Cable()
	open := func() int {
		cable.mu.Lock()
		defer cable.mu.Unlock()
		return len(cable.conns)
	}
	var last *nats.Conn
	for range 5 {
		if last != nil {
			last.Close()
		}
		last = s.Connect(nats.InProcessServer(cable))
	}
	for deadline := time.Now().Add(20 * time.Second); open() != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the cable has %d connections, want the one that is open", open())
		}
	}
	cable.Cut()
	for deadline := time.Now().Add(20 * time.Second); open() != 0 || last.IsConnected(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the cable that is cut has %d connections; connected: %v", open(), last.IsConnected())
		}
	}
}
