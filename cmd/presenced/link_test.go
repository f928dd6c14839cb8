package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// answers reports whether a request is answered within a second.
func answers(nc *nats.Conn) bool {
	m, err := nc.Request(subjects.Get(), []byte(`{"userIDList":["alice"]}`), time.Second)
	return err == nil && m.Header.Get(protocol.ErrorHeader) == ""
}

// TestClosedForGood: whichever connection nats.go closes and does not make again,
// presenced makes all of them anew and serves, on somebody else's server and with its
// own.
func TestClosedForGood(t *testing.T) {
	t.Parallel()
	for name, close := range map[string]func(*connections){
		clientsName: func(c *connections) { c.clients.Close() },
		answersName: func(c *connections) { c.answers.Close() },
		journalName: func(c *connections) { c.journal.Close() },
		systemName:  func(c *connections) { c.system.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servicetest.StartNATS(t)
			testClosedForGood(t, config{
				natsURL: s.URLAs(servicetest.ClientsUser), journalURL: s.URLAs(servicetest.JournalUser), systemURL: s.URLAs(servicetest.SystemUser),
				settings: service.Config{Replicas: 1, Prefix: protocol.DefaultPrefix},
			}, name, close)
		})
		t.Run(name+", server inside", func(t *testing.T) {
			t.Parallel()
			testClosedForGood(t, config{data: t.TempDir(), listen: "127.0.0.1:0", sync: syncInterval, settings: service.Config{Prefix: protocol.DefaultPrefix}}, name, close)
		})
	}
}

func testClosedForGood(t *testing.T, cfg config, name string, close func(*connections)) {
	stdout, stderr := &buffer{}, &buffer{}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	conns, err := connect(cfg, &monitor{}, log)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMonitor("", log)
	if err != nil {
		t.Fatal(err)
	}
	// Those that are closed. Others take their place.
	gone := &connections{clients: conns.clients, answers: conns.answers, journal: conns.journal, system: conns.system}
	nc, err := nats.Connect(conns.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveOn(ctx, newLive(nil, cfg), conns, m, stdout, log) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serveOn: %v", err)
		}
		conns.close()
	}()
	serves := func() bool { _, err := m.health(); return err == nil && answers(nc) }
	servicetest.Eventually(t, waitFor, "it to serve", serves)
	login(t, nc, "alice", `{"ttlSeconds":3600}`)
	close(gone)
	servicetest.Eventually(t, waitFor, "all connections to be made anew", func() bool {
		return strings.Contains(stderr.String(), `msg="all connections are made anew"`)
	})
	servicetest.Eventually(t, waitFor, "it to serve again", serves)
	if got := status(t, nc, "alice").StatusType; got != protocol.Online {
		t.Errorf("alice is %v after it, want ONLINE", got)
	}
	if want := fmt.Sprintf("this connection is closed for good: all connections are made anew\" connection=%q", name); !strings.Contains(stderr.String(), want) {
		t.Errorf("got the log\n%s\nwant it to say which connection was closed", stderr)
	}
}

// TestClosedForGood_MaxPayload: a server that takes less than before tells nobody. The
// first answer that is too large for it closes the connection for good. Then what fits
// is answered; where nothing can be served, presenced waits until it can.
func TestClosedForGood_MaxPayload(t *testing.T) {
	t.Parallel()
	for limit, enough := range map[string]bool{"20KB": true, "8KB": false} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			s := servicetest.StartNATS(t)
			d := servicetest.StartDaemon(t, onServer(s)...)
			nc := s.Connect(t)
			var ids []string
			for i := range 100 {
				id := fmt.Sprint("user", i)
				set, _ := subjects.Set(id)
				request(t, nc, set, fmt.Sprintf(`{"customStatus":%q}`, strings.Repeat("x", 200)))
				ids = append(ids, id)
			}
			all, err := protocol.Marshal(protocol.GetRequest{UserIDList: ids})
			if err != nil {
				t.Fatal(err)
			}
			s.Reload(t, "max_payload: "+limit)
			_, _ = nc.Request(subjects.Get(), all, time.Second) // the answer to which is lost
			servicetest.Eventually(t, waitFor, "the log to say what happened", func() bool {
				text := d.Stderr()
				return strings.Contains(text, "closed for good") && strings.Contains(strings.ToLower(text), "maximum payload")
			})
			if !enough {
				servicetest.Eventually(t, waitFor, "the log to say what is needed", func() bool {
					return strings.Contains(d.Stderr(), "presenced needs ")
				})
				s.Reload(t)
			}
			servicetest.Eventually(t, waitFor, "what fits to be answered", func() bool { return answers(nc) })
			d.Stop(t)
		})
	}
}

// TestPayloadWatch: that a server takes larger messages again, or smaller ones, is
// noticed by itself: connections learn it only when they are made.
func TestPayloadWatch(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t, `max_payload: 8KB`)
	c := &connections{links: newLinks()}
	defer c.close()
	log := slog.New(slog.DiscardHandler)
	if err := c.enterClients(config{natsURL: s.URLAs(servicetest.ClientsUser)}, log); err != nil {
		t.Fatal(err)
	}
	w := &payloadWatch{conns: []*nats.Conn{c.clients, c.answers}, log: log}
	for _, limit := range []struct {
		config string
		bytes  int64
	}{{`max_payload: 8KB`, 8 << 10}, {"", 1 << 20}, {`max_payload: 16KB`, 16 << 10}} {
		s.Reload(t, limit.config)
		servicetest.Eventually(t, waitFor, "both connections to know of "+fmt.Sprint(limit.bytes), func() bool {
			w.look(t.Context())
			return c.clients.MaxPayload() == limit.bytes && c.answers.MaxPayload() == limit.bytes && together(c)
		})
	}
	// Lowered and raised between two looks, and a connection was made meanwhile.
	s.Reload(t, `max_payload: 8KB`)
	if err := c.answers.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, waitFor, "the connection to know less", func() bool { return c.answers.MaxPayload() == 8<<10 })
	s.Reload(t, `max_payload: 16KB`)
	servicetest.Eventually(t, waitFor, "the connection to know more again", func() bool {
		w.look(t.Context())
		return c.answers.MaxPayload() == 16<<10 && together(c)
	})
	before := c.clients.Stats().Reconnects + c.answers.Stats().Reconnects
	for range 3 {
		w.look(t.Context())
	}
	if after := c.clients.Stats().Reconnects + c.answers.Stats().Reconnects; after != before {
		t.Errorf("%d connections were made anew although nothing changed", after-before)
	}
}

// TestReconnect_WhyNot: why connections do not come back is in the log, seldom, and in
// /readyz.
func TestReconnect_WhyNot(t *testing.T) {
	t.Parallel()
	ours, theirs := servicetest.Certificates(t), servicetest.Certificates(t)
	server := servicetest.Certificates(t) // whose files change
	use := func(of func(string) string) {
		t.Helper()
		for _, name := range []string{"server.pem", "server.key"} {
			text, err := os.ReadFile(of(name))
			if err == nil {
				err = os.WriteFile(server(name), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	use(ours)
	s := servicetest.StartNATS(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q }", server("server.pem"), server("server.key")))
	d := servicetest.StartDaemon(t, onServer(s, "--system-url", s.URLAs(servicetest.SystemUser), "--tlsca", ours("ca.pem"), "--http", "127.0.0.1:0")...)
	url := monitorOf(t, d)
	use(theirs)
	begun := time.Now()
	s.Restart(t)
	const why = "certificate signed by unknown authority"
	names := []string{clientsName, answersName, journalName, systemName}
	servicetest.Eventually(t, waitFor, "/readyz to say why", func() bool {
		_, text := fetch(t, url+"/readyz")
		return strings.Contains(text, why) && strings.Contains(text, "--tlsca names") && strings.Count(strings.TrimSpace(text), "\n") == 0 &&
			!slices.ContainsFunc(names, func(n string) bool { return !strings.Contains(text, n) })
	})
	said := func(name string) (n int) {
		for line := range strings.Lines(d.Stderr()) {
			if strings.Contains(line, why) && strings.Contains(line, fmt.Sprintf("connection=%q", name)) {
				n++
			}
		}
		return n
	}
	servicetest.Eventually(t, waitFor, "the log to say why", func() bool { return strings.Contains(d.Stderr(), why) })
	for _, name := range names {
		if most := 1 + int(time.Since(begun)/sayLostEvery); said(name) > most {
			t.Errorf("the log says %d times why %s is lost, want %d at most", said(name), name, most)
		}
	}
	use(ours)
	s.Restart(t)
	servicetest.Eventually(t, waitFor, "it to be ready again", func() bool { code, _ := fetch(t, url+"/readyz"); return code == 200 })
	d.Stop(t)
}

// TestLink_Seldom: attempts that fail many times a second are in the log once in 10 s,
// and the first reason is there at once.
func TestLink_Seldom(t *testing.T) {
	out := &buffer{}
	l := newLink("presenced test", slog.New(slog.NewTextHandler(out, nil)), func() {})
	l.failed(errors.New("EOF")) // when it is lost, which is logged elsewhere
	for range 100 {
		l.failed(errors.New("refused"))
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "err=refused") {
		t.Errorf("got %d lines, want one with the reason:\n%s", n, out)
	}
	if err := l.trouble(); err == nil || err.Error() != "refused" {
		t.Errorf("trouble: got %v", err)
	}
	l.back()
	if err := l.trouble(); err != nil {
		t.Errorf("trouble when it is back: got %v", err)
	}
	l.failed(nil)
	if err := l.trouble(); err == nil || err.Error() != "lost" {
		t.Errorf("trouble without a reason: got %v", err)
	}
}
