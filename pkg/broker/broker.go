// Package broker is the NATS server that presenced embeds.
//
//	b, err := broker.Start(broker.Config{DataDir: "data", SyncAlways: true})
//	clients, err := b.Connect(broker.Clients) // in-process, as presenced
//	…
//	b.Shutdown()
//
// Start starts it with three accounts, which keep apart what must not mix:
//
//	SYS       the system account: the broker's own events, for presenced only
//	PRESENCE  the journal, snapshots and contacts; the only account with
//	          JetStream, and no client can enter it
//	APP       the clients, and presenced where it answers and announces
//
// A client that connects over TCP without credentials is in APP, and may neither
// publish events nor subscribe to requests (PROTOCOL 9). presenced connects
// in-process, with keys that are made at each start and are never written down. One
// more user can read the journal, see ReaderKeyFile. Because clients are not
// authenticated, the broker listens on loopback only, unless told otherwise.
//
// StartFile starts it from a configuration file of nats-server instead. The file may
// have users, listeners, TLS, and a cluster with the servers of other presenced. If it
// has an operator, presenced enters with credentials.
//
// A message that is acknowledged on PRESENCE is stored below DataDir, and with
// SyncAlways fsynced before. Only one process at a time can use a DataDir. While its
// disk is almost full, messages are refused.
//
// Of the project only this package and the client's test kit import nats-server.
package broker

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"

	"github.com/nats-io/nats-server/v2/server"
)

// Config configures a Broker. Only DataDir has no default.
type Config struct {
	// Listen is the TCP address for clients, host:port with a loopback host;
	// DefaultListen where it is empty. Port 0 or -1 picks a free one.
	Listen string
	// Insecure allows any other host. Then anybody who reaches it is a client and can
	// act as any user.
	Insecure bool
	// WebSocket is where clients connect over WebSocket, an address as Listen; empty: nowhere.
	WebSocket string
	// Origins are those of the web pages that may connect there, such as
	// http://localhost:5173. Pages of any other origin are refused: whatever page somebody
	// on this machine looks at could otherwise act as any user. Programs that are no
	// browsers name no origin, and are let in.
	Origins []string
	// DataDir is made where it is missing. It holds LockFile, ReaderKeyFile and
	// the directory "jetstream".
	DataDir string
	// SyncAlways fsyncs every write before it is acknowledged. Otherwise writes are
	// fsynced every 2 minutes, and a power loss can lose those since.
	SyncAlways bool
	// Prefix begins the subjects that the permissions are about;
	// protocol.DefaultPrefix where it is empty.
	Prefix string
	// Private takes no clients: only presenced itself enters, in-process. Listen and WebSocket
	// mean nothing then.
	Private bool
	// PingInterval and PingMax decide when the broker closes a connection that has
	// gone silent: PingInterval × (PingMax + 1) after its last byte, or up to one
	// interval later. Default: 5 s and 2, so 15 to 20 s.
	PingInterval time.Duration
	PingMax      int
	// Logger gets the server's log: warnings and errors as such, its notices
	// as debug. Default: nothing is logged.
	Logger *slog.Logger
	// Starting is called before anything is logged, when all checks have been made that can be
	// made before stored data is touched. Default: nothing is called.
	Starting func(Setup)
}

// Setup is where a server listens and how it stores.
type Setup struct {
	DataDir    string
	SyncAlways bool
	// Listeners are addresses for clients as they were given. Those that are not for NATS over
	// TCP follow the name of their block in a configuration file, as "websocket 127.0.0.1:9222".
	Listeners []string

	addresses []listenAddress // only of Check and CheckFile
}

const (
	defaultPingInterval = 5 * time.Second
	defaultPingMax      = 2
)

// DefaultListen is where NATS clients look by default.
const DefaultListen = "127.0.0.1:4222"

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	c.Prefix = cmp.Or(c.Prefix, protocol.DefaultPrefix)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Starting == nil {
		c.Starting = func(Setup) {}
	}
	return c
}

// Broker is a running NATS server. Its methods are safe for concurrent use.
type Broker struct {
	server *server.Server
	keys   accountKeys
	names  accountNames
	// clients is the clients' account. nil: not all subscriptions there are known here.
	clients atomic.Pointer[server.Account]
	lock    *dirLock
	file    *FileConfig // nil without a configuration file
	reader  string      // path of ReaderKeyFile; empty for none
	url     string
	failed  <-chan error
	guard   *spaceGuard // nil where there is nothing to guard
	down    sync.Once

	reloading sync.Mutex // held by Reload

	mu   sync.Mutex // guards what follows, which Reload changes
	open bool       // clients need no credentials
	// passwords says that clients have names and passwords.
	passwords bool
	// exposed are the addresses where clients on other machines need none.
	exposed []string
}

// Start starts a server and returns when it accepts connections and has
// recovered what is stored. The error is one line for the operator. Every
// check that can be made is made before stored data is touched.
func Start(cfg Config) (*Broker, error) {
	cfg = cfg.withDefaults()
	addresses, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	if err := protocol.CheckPrefix(cfg.Prefix); err != nil {
		return nil, err
	}
	keys, err := newAccountKeys()
	if err != nil {
		return nil, err
	}
	opts, err := serverOptions(cfg, keys)
	if err != nil {
		return nil, err
	}
	if err := addresses.set(opts, cfg.Origins); err != nil {
		return nil, err
	}

	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := addresses.checkFree(); err != nil {
		lock.release()
		return nil, err
	}
	cfg.Starting(Setup{DataDir: cfg.DataDir, SyncAlways: cfg.SyncAlways, Listeners: addresses.names()})
	b := &Broker{keys: keys, lock: lock, names: defaultNames, open: true, exposed: addresses.exposed()}
	for _, address := range b.exposed {
		cfg.Logger.Warn(warnExposed, "address", address)
	}
	err = b.writeReaderKey(cfg.DataDir)
	if err == nil {
		err = b.start(opts, cfg.Logger)
	}
	if err == nil {
		err = b.checkLoaded()
	}
	if err == nil {
		err = b.noteClients()
	}
	if err != nil {
		b.Shutdown()
		return nil, err
	}
	return b, nil
}

// start runs the server. When nats-server cannot start, it logs a fatal error and
// returns as if nothing was wrong. So the logger is asked afterwards.
func (b *Broker) start(opts *server.Options, logger *slog.Logger) (err error) {
	if b.server, err = server.NewServer(opts); err != nil {
		return &ConfigError{fmt.Errorf("configuring the NATS server: %w", err)}
	}
	l := newServerLog(logger)
	l.local = IsLoopback(opts.Websocket.Host)
	b.failed = l.failed
	b.server.SetLoggerV2(l, false, false, false)
	b.server.Start()
	if err := l.startError(); err != nil {
		return err
	}
	if !b.server.ReadyForConnections(readyWithin) {
		return fmt.Errorf("the NATS server accepts no connections on %s:%d", opts.Host, opts.Port)
	}
	b.url = clientURL(b.server.ClientURL(), opts.ClientAdvertise)
	return b.guardSpace(opts.StoreDir, logger)
}

// guardSpace starts a spaceGuard, which Shutdown ends.
func (b *Broker) guardSpace(dir string, logger *slog.Logger) error {
	if b.names.journal == "" || b.server.JetStreamIsClustered() {
		return nil
	}
	account, err := b.server.LookupAccount(b.names.journal)
	if err != nil {
		return fmt.Errorf("the journal's account %s: %w", b.names.journal, err)
	}
	b.guard = startSpaceGuard(account, dir, logger)
	return nil
}

const warnExposed = "ANYBODY who reaches this address is a client and can act as any user (--insecure)"

// readyWithin bounds the wait for a listener that Start already opened.
const readyWithin = 5 * time.Second

// ClientURL is what a client connects to: the advertised address where there is
// one, else the one for a client on this machine.
func (b *Broker) ClientURL() string { return b.url }

// WebSocketURL is what a client on this machine connects to over WebSocket; empty where the
// server has no listener for it.
func (b *Broker) WebSocketURL() string {
	url := b.server.WebsocketURL()
	if strings.HasSuffix(url, ":0") {
		return ""
	}
	return clientURL(url, "")
}

// ClientsAccount is the name of the account Clients.
func (b *Broker) ClientsAccount() string { return b.names.clients }

// Open says that clients need no credentials.
func (b *Broker) Open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// Passwords says that some of the clients prove who they are by a name and a password,
// which the configuration file has.
func (b *Broker) Passwords() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.passwords
}

// Exposed are the addresses where anybody on another machine can be a client and act
// as any user.
func (b *Broker) Exposed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.exposed
}

// DataDir is the directory where the broker stores. No other process uses it.
func (b *Broker) DataDir() string { return b.lock.dir }

// Failed yields an error when a write to the disk has failed: the disk is broken, or was
// filled faster than spaceGuard looks. After that the server stores nothing until it is
// started anew, even if there is space again.
func (b *Broker) Failed() <-chan error { return b.failed }

// Shutdown stops the server, waits until it is down, and gives up the data directory.
// Close all connections before. Calling it again does nothing.
func (b *Broker) Shutdown() {
	b.down.Do(func() {
		if b.guard != nil {
			b.guard.end()
		}
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
		if b.reader != "" {
			_ = os.Remove(b.reader) // if it stays it does no harm: the key is of no use now
		}
		b.lock.release()
	})
}
