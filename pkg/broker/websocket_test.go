package broker_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

const anyPort = "127.0.0.1:0"

// dialFrom connects over WebSocket, as a page of an origin does.
func dialFrom(b *broker.Broker, origin string) (*nats.Conn, error) {
	headers := http.Header{}
	if origin != "" {
		headers.Set("Origin", origin)
	}
	return nats.Connect(b.WebSocketURL(), nats.WebSocketConnectionHeaders(headers))
}

// Any page that somebody on this machine looks at can open a WebSocket to loopback, and the
// broker asks for no credentials. So what counts is who made the page.
func TestWebSocket_Origins(t *testing.T) {
	with := start(t, broker.Config{WebSocket: anyPort, Origins: []string{"http://127.0.0.1:8222", "http://localhost:8222"}})
	without := start(t, broker.Config{WebSocket: anyPort})
	for origin, want := range map[string]bool{
		"":                                   true, // no browser
		"http://127.0.0.1:8222":              true,
		"http://localhost:8222":              true,
		"https://localhost:8222":             false,
		"http://localhost:8223":              false,
		"http://localhost":                   false,
		"http://localhost:8222.evil.example": false,
		"http://evil.example:8222":           false,
		"http://nobody.invalid:1":            false,
		"null":                               false, // a file, a frame in a sandbox
	} {
		for _, b := range []*broker.Broker{with, without} {
			nc, err := dialFrom(b, origin)
			if want := want && (b == with || origin == ""); (err == nil) != want {
				t.Errorf("from a page of %q: got %v, want it to be let in: %v", origin, err, want)
			}
			if err == nil {
				nc.Close()
			}
		}
	}
	// A name that leads to this machine is no better: the page may have come from elsewhere
	// by the same name (DNS rebinding).
	own := strings.Replace(with.WebSocketURL(), "ws://127.0.0.1", "http://rebound.example", 1)
	if nc, err := dialFrom(with, own); err == nil {
		nc.Close()
		t.Errorf("a page of %s was let in", own)
	}
}

// A client over WebSocket is anyone, and no more: it can forge no event.
func TestWebSocket_Permissions(t *testing.T) {
	b := start(t, broker.Config{WebSocket: anyPort})
	errs := make(chan error, 1)
	nc, err := nats.Connect(b.WebSocketURL(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish(subjects.Prefix()+".status.alice", nil); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, errs, "publishing an event over WebSocket")
}

func TestWebSocket_Refused(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().String()
	for _, c := range []struct {
		webSocket, origin string
		words             []string
	}{
		{"0.0.0.0:0", "", []string{"0.0.0.0:0", "not authenticated"}},
		{"127.0.0.1", "", []string{"not host:port"}},
		{used, "", []string{"cannot listen", used, "in use"}},
		{anyPort, "*", []string{`"*"`, "no origin"}},
		{anyPort, "null", []string{"no origin"}},
		{anyPort, "localhost:5173", []string{"no origin"}},
		{anyPort, "http://*.example.com", []string{"no origin"}},
		{anyPort, "http://localhost:5173/", []string{"without a path"}},
		{anyPort, "http://localhost:5173/app", []string{"without a path"}},
		{anyPort, "ws://localhost:5173", []string{"no origin"}},
		{anyPort, "http://me@localhost:5173", []string{"no origin"}},
		{anyPort, "http://localhost:x", []string{"no origin"}},
	} {
		cfg := broker.Config{Listen: anyPort, WebSocket: c.webSocket, DataDir: dir}
		if c.origin != "" {
			cfg.Origins = []string{c.origin}
		}
		wantError(t, cfg, c.words...)
	}
	l.Close()
	wantError(t, broker.Config{Listen: used, WebSocket: used, DataDir: dir}, used, "two ports")
	start(t, broker.Config{WebSocket: used, DataDir: dir}) // the directory was given up each time
}

// On loopback nobody has to be warned that there is no TLS; anywhere else everybody is.
func TestWebSocket_Log(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	start(t, broker.Config{WebSocket: anyPort, Logger: logger}).Shutdown()
	if out.Len() != 0 {
		t.Errorf("an ordinary start logged: %s", out.String())
	}
	b := start(t, broker.Config{WebSocket: "0.0.0.0:0", Insecure: true, Logger: logger})
	exposed := b.Exposed()
	if !strings.HasPrefix(b.WebSocketURL(), "ws://127.0.0.1:") {
		t.Errorf("got %s, want a URL for a client on this machine", b.WebSocketURL())
	}
	b.Shutdown()
	if len(exposed) != 1 || exposed[0] != "0.0.0.0:0" || strings.Count(out.String(), "ANYBODY") != 1 {
		t.Errorf("exposed: got %q and the log\n%s", exposed, out.String())
	}
}

func TestWebSocket_None(t *testing.T) {
	if url := start(t, broker.Config{}).WebSocketURL(); url != "" {
		t.Errorf("without WebSocket: got %s", url)
	}
}
