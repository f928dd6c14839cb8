package servicetest

import (
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// Server is a NATS server for one test, stopped at its end.
type Server struct {
	url     string
	start   func(listen string) (*broker.Broker, error)
	foreign bool
	broker  *broker.Broker                // nil while it is stopped
	running atomic.Pointer[broker.Broker] // the same, for services
}

// StartBroker starts presenced's own broker without a service.
func StartBroker(t testing.TB, opts ...Option) *Server {
	t.Helper()
	cfg := broker.Config{Listen: anyPort, DataDir: t.TempDir(), Logger: logger(t, slog.LevelWarn)}
	for _, change := range collect(opts).broker {
		change(&cfg)
	}
	first := cfg.Listen
	s := &Server{start: func(listen string) (*broker.Broker, error) {
		cfg.Listen = listen
		return broker.Start(cfg)
	}}
	s.run(t, first)
	return s
}

// Users of a server of StartNATS. All have the same Password. A connection without a user is the
// user client, whom nothing restricts.
const (
	ClientsUser = "presenced-clients" // account APP
	JournalUser = "presenced-journal" // account PRESENCE, with JetStream
	SystemUser  = "presenced-system"  // the system account
	BothUser    = "presenced-both"    // an account ONE, with JetStream, for --single-account
	Password    = "secret"
)

const natsConfig = `
jetstream: enabled
system_account: SYS
no_auth_user: client
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ] }
  ONE      { users: [ { user: presenced-both, password: secret } ], jetstream: enabled }
}
ping_interval: 1s
websocket { listen: "127.0.0.1:-1", no_tls: true }
`

// StartNATS starts a server with accounts, users and passwords, as an operator would run it for
// presenced. More lines of configuration take precedence.
func StartNATS(t testing.TB, more ...string) *Server {
	t.Helper()
	return startForeign(t, natsConfig+strings.Join(more, "\n"))
}

// StartNATSFile starts a server from a configuration file, as nats-server -c does, but on a free
// port. Users are those of the file.
func StartNATSFile(t testing.TB, path string) *Server {
	t.Helper()
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return startForeign(t, string(config))
}

func startForeign(t testing.TB, config string) *Server {
	t.Helper()
	dir, log := t.TempDir(), logger(t, slog.LevelError) // it warns of plain passwords
	s := &Server{foreign: true, start: func(listen string) (*broker.Broker, error) {
		return broker.StartForeign(config, listen, dir, log)
	}}
	s.run(t, anyPort)
	return s
}

const anyPort = "127.0.0.1:0"

func (s *Server) run(t testing.TB, listen string) {
	t.Helper()
	b, err := s.start(listen)
	if err != nil {
		t.Fatalf("starting a broker: %v", err)
	}
	s.broker, s.url = b, b.ClientURL()
	s.running.Store(b)
	// Once, here, and not again after a restart: cleanups run in reverse, and the server must
	// outlive what was started on it.
	t.Cleanup(func() { s.Stop(t) })
}

// Stop stops the server. Its data are safe, and its clients are cut off. Stopping it twice does
// nothing.
func (s *Server) Stop(t testing.TB) {
	if s.broker != nil {
		s.running.Store(nil)
		s.broker.Shutdown()
		s.broker = nil
	}
}

// heard is what presenced gives its service as service.Config.Heard.
func (s *Server) heard(subject string) bool {
	b := s.running.Load()
	return b == nil || b.Interested(subject)
}

// LameDuck has a server of StartNATS enter lame duck mode: it takes no more
// connections, and closes those it has after its lame_duck_grace_period. Stop ends it.
func (s *Server) LameDuck() {
	b := s.broker
	go b.LameDuck() // it returns after Stop, at the test's end at the latest
}

// Restart starts the server again, on the same data and port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody's outgoing connection may have been given the port meanwhile.
	Eventually(t, waitFor, "the port "+u.Host+" to be free", func() bool {
		b, err := s.start(u.Host)
		if err != nil {
			t.Logf("starting the broker again: %v", err)
			return false
		}
		s.broker = b
		s.running.Store(b)
		return true
	})
}

// Reload gives a server of StartNATS other lines of configuration, while it runs.
func (s *Server) Reload(t testing.TB, more ...string) {
	t.Helper()
	if err := s.broker.ReloadForeign(natsConfig + strings.Join(more, "\n")); err != nil {
		t.Fatalf("reloading the configuration: %v", err)
	}
}

// WebSocketURL is where clients connect over WebSocket to a server of StartNATS. A restart changes
// it.
func (s *Server) WebSocketURL() string { return s.broker.WebSocketURL() }

// URLAs is URL with the name and password of one of the users of StartNATS.
func (s *Server) URLAs(user string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		return s.url
	}
	u.User = url.UserPassword(user, Password)
	return u.String()
}

// ConnectAs connects as presenced does: in-process to presenced's own broker,
// over TCP to a server of StartNATS. It is closed with the test.
func (s *Server) ConnectAs(t testing.TB, a broker.Account) *nats.Conn {
	t.Helper()
	if s.foreign {
		user := map[broker.Account]string{broker.Clients: ClientsUser, broker.Answers: ClientsUser, broker.Journal: JournalUser, broker.System: SystemUser}[a]
		return connect(t, s.URLAs(user))
	}
	nc, err := s.broker.Connect(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func connect(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	own := []nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.IgnoreAuthErrorAbort(),
	}
	nc, err := nats.Connect(url, append(own, opts...)...)
	if err != nil {
		t.Fatalf("connecting to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	return nc
}
