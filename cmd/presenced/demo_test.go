package main

import (
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

var openLine = regexp.MustCompile(`(?m)^Open (http://127\.0\.0\.1:\d+/demo/) in two browser tabs`)

// The demo page is where the welcome says, and the broker lets in it and no other page.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--demo", "--http", "127.0.0.1:0", "--websocket", "127.0.0.1:0", "--prefix", "test.v9")
	line := openLine.FindStringSubmatch(d.Stdout())
	if line == nil {
		t.Fatalf("the welcome does not say where the page is:\n%s", d.Stdout())
	}
	code, text := fetch(t, line[1])
	servers := regexp.MustCompile(`data-servers="(ws://[^"]+)" data-prefix="test\.v9"`).FindStringSubmatch(text)
	if code != http.StatusOK || servers == nil {
		t.Fatalf("got %d and\n%.400s", code, text)
	}
	own := strings.TrimSuffix(line[1], "/demo/")
	for origin, want := range map[string]bool{
		own: true, strings.Replace(own, "127.0.0.1", "localhost", 1): true,
		"http://127.0.0.1": false, "http://localhost:5173": false, "https://evil.example": false, "null": false,
		strings.Replace(own, "127.0.0.1", "rebound.example", 1): false,
	} {
		nc, err := nats.Connect(servers[1], nats.WebSocketConnectionHeaders(http.Header{"Origin": {origin}}))
		if (err == nil) != want {
			t.Errorf("a page of %s: got %v, want it to be let in: %v", origin, err, want)
		}
		if err == nil {
			nc.Close()
		}
	}
	// Health and metrics are where they were.
	if code, _ := fetch(t, own+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: got %d", code)
	}
	d.Stop(t)
}

func TestDemo_PortsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().String()
	for _, flag := range []string{"--http", "--websocket"} {
		other := map[string]string{"--http": "--websocket", "--websocket": "--http"}[flag]
		code, _, stderr := servicetest.RunDaemon(t, "--demo", "--data", t.TempDir(), "--listen", "127.0.0.1:0", flag, used, other, "127.0.0.1:0", "--log-level", "error")
		if code != 1 {
			t.Errorf("%s on a port in use: got exit code %d, want 1", flag, code)
		}
		wantOneLine(t, flag+" on a port in use", stderr, used, "in use")
	}
}

// Without --demo there is no page.
func TestDemo_Off(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--http", "127.0.0.1:0")
	if code, _ := fetch(t, monitorOf(t, d)+"/demo/"); code != http.StatusNotFound {
		t.Errorf("got %d, want 404", code)
	}
	d.Stop(t)
}
