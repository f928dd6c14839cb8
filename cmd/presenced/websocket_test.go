package main

import (
	"net/http"
	"regexp"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

var webSocketLine = regexp.MustCompile(`(?m)^Over WebSocket: (ws://\S+), from pages of http://localhost:5173 and http://127\.0\.0\.1:5173$`)

// A client over WebSocket is like any other, and only pages that --origin names have one.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--websocket", "127.0.0.1:0", "--origin", "http://localhost:5173", "--origin", "http://127.0.0.1:5173")
	line := webSocketLine.FindStringSubmatch(d.Stdout())
	if line == nil {
		t.Fatalf("the welcome does not say where WebSocket is:\n%s", d.Stdout())
	}
	for origin, want := range map[string]bool{"http://localhost:5173": true, "http://127.0.0.1:5173": true, "http://localhost:8222": false} {
		nc, err := nats.Connect(line[1], nats.WebSocketConnectionHeaders(http.Header{"Origin": {origin}}))
		if (err == nil) != want {
			t.Fatalf("from a page of %s: got %v, want it to be let in: %v", origin, err, want)
		}
		if err == nil {
			defer nc.Close()
			login(t, nc, "alice", "{}")
			if got := status(t, nc, "alice").StatusType; got != protocol.Online {
				t.Errorf("got %v, want ONLINE", got)
			}
		}
	}
	d.Stop(t)
}
