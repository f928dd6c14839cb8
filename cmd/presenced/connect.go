package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"presence/cmd/internal/semver"
	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// connections are presenced's, one for each account.
type connections struct {
	clients, answers, journal, system *nats.Conn // system may be nil

	links *links   // what is known of them
	ends  []func() // each ends what own has started, and waits for it

	account string         // the name of the clients' account
	url     string         // where clients connect; without a password
	ws      string         // where those over WebSocket do; empty: nowhere, or not known
	broker  *broker.Broker // nil if the server is not inside
	failed  <-chan error   // the server inside cannot go on; nil if there is none
}

// connect starts the NATS server inside, or connects to one elsewhere.
func connect(cfg config, m *monitor, log *slog.Logger) (c *connections, err error) {
	c = &connections{}
	if !cfg.external() {
		if c.broker, err = startBroker(cfg, m, log); err != nil {
			return nil, err
		}
	}
	if err := c.open(cfg, log); err != nil {
		c.close()
		return nil, err
	}
	if cfg.external() {
		sayStart(cfg, m, log, "nats", c.url, "server", c.clients.ConnectedServerName(), "runs", c.clients.ConnectedServerVersion())
	}
	return c, nil
}

// open makes all connections.
func (c *connections) open(cfg config, log *slog.Logger) error {
	c.links = newLinks()
	if cfg.external() {
		return c.openExternal(cfg, log)
	}
	return c.openEmbedded(cfg, log)
}

func (c *connections) openEmbedded(cfg config, log *slog.Logger) error {
	c.account, c.failed = c.broker.ClientsAccount(), c.broker.Failed()
	c.url, c.ws = c.broker.ClientURL(), c.broker.WebSocketURL()
	if cfg.creds != "" { // the file has an operator
		return c.enter(cfg, log, c.broker.InProcess())
	}
	for _, x := range []struct {
		nc      **nats.Conn
		name    string
		account broker.Account
	}{
		{&c.clients, clientsName, broker.Clients},
		{&c.answers, answersName, broker.Answers},
		{&c.journal, journalName, broker.Journal},
		{&c.system, systemName, broker.System},
	} {
		l := c.links.add(x.name, log)
		nc, err := c.broker.Connect(x.account, l.options()...)
		if err != nil {
			return err
		}
		*x.nc = nc
		c.links.made(l, nc)
	}
	return nil
}

// Names of the connections, as the log and the server's monitoring show them.
const (
	clientsName = "presenced clients"
	answersName = "presenced answers"
	journalName = "presenced journal"
	systemName  = "presenced system"
)

func startBroker(cfg config, m *monitor, log *slog.Logger) (*broker.Broker, error) {
	starting := func(s broker.Setup) {
		sayStart(cfg, m, log, "nats", strings.Join(s.Listeners, ", "), "data", s.DataDir, "sync", syncName(s.SyncAlways))
	}
	if cfg.natsConfig != "" {
		c := fileConfig(cfg, log)
		c.Starting = starting
		return broker.StartFile(c)
	}
	c := brokerConfig(cfg, log)
	c.Starting = starting
	return broker.Start(c)
}

func fileConfig(cfg config, log *slog.Logger) broker.FileConfig {
	return broker.FileConfig{
		Path:           cfg.natsConfig,
		ClientsAccount: cfg.clientsAccount,
		JournalAccount: cfg.journalAccount,
		SingleAccount:  cfg.singleAccount,
		Insecure:       cfg.insecure,
		Credentials:    cfg.creds != "",
		Replicas:       cfg.settings.Replicas,
		Prefix:         cfg.settings.Prefix,
		Logger:         log,
	}
}

func brokerConfig(cfg config, log *slog.Logger) broker.Config {
	return broker.Config{
		Listen:     cfg.listen,
		Insecure:   cfg.insecure,
		WebSocket:  cfg.webSocket,
		Origins:    cfg.origins,
		DataDir:    cfg.data,
		SyncAlways: cfg.sync == syncAlways,
		Prefix:     cfg.settings.Prefix,
		Logger:     log,
	}
}

// sayStart writes the first line of the log: which program runs, where, on what. It comes when
// all is checked that can be checked before, so a start that is refused has one line only.
func sayStart(cfg config, m *monitor, log *slog.Logger, where ...any) {
	about := []any{"version", versionText()}
	if commit := semver.Commit(); commit != "" {
		about = append(about, "commit", commit)
	}
	about = append(about, "name", cfg.settings.Host, "pid", os.Getpid())
	about = append(about, where...)
	about = append(about, "replicas", cfg.settings.Replicas)
	if cfg.natsConfig != "" {
		about = append(about, "config", cfg.natsConfig)
	}
	if m.listener != nil {
		about = append(about, "ready", m.url()+"/readyz")
	}
	log.Info("presenced starts", about...)
}

func syncName(always bool) string {
	if always {
		return syncAlways
	}
	return syncInterval
}

// headName is the name of the file that remembers the journal's end.
const headName = "journal-head"

// headFile is the file that remembers the journal's end, beside the store of the server
// inside; empty if there is no such server.
func (c *connections) headFile() string {
	if c.broker == nil {
		return ""
	}
	return filepath.Join(c.broker.DataDir(), headName)
}

// close closes what is open, and then stops the server inside. The server must outlive the
// connections, so that their last messages arrive.
func (c *connections) close() {
	c.leave()
	if c.broker != nil {
		c.broker.Shutdown()
	}
}

// leave closes the connections that there are, and forgets them.
func (c *connections) leave() {
	c.links.end()
	for _, nc := range []**nats.Conn{&c.clients, &c.answers, &c.journal, &c.system} {
		if *nc != nil {
			_ = (*nc).FlushTimeout(time.Second) // if the server is gone it fails, and nothing helps
			(*nc).Close()
			*nc = nil
		}
	}
	c.links.stop()
	for _, end := range c.ends {
		end()
	}
	c.ends = nil
}

// own runs something that looks after connections, until they are closed.
func (c *connections) own(run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	c.ends = append(c.ends, func() {
		cancel()
		<-done
	})
}

// closedForGood reports whether nats.go has closed one of the connections for good.
func (c *connections) closedForGood() bool {
	return slices.ContainsFunc([]*nats.Conn{c.clients, c.answers, c.journal, c.system}, func(nc *nats.Conn) bool {
		return nc != nil && nc.IsClosed()
	})
}

const (
	// againFirst is the pause before all connections are made anew. It doubles up to
	// againMost each time that this fails, or that it has to be done again before
	// againWithin has passed.
	againFirst  = 250 * time.Millisecond
	againMost   = 10 * time.Second
	againWithin = time.Minute
)

// again makes all connections anew, until that succeeds or ctx is done. why is the
// reason, and pause is before the first attempt.
func (c *connections) again(ctx context.Context, cfg config, why string, pause time.Duration, m *monitor, log *slog.Logger) error {
	log.Warn("making all connections anew", "why", why)
	c.leave()
	for said := time.Now(); ; pause = min(2*pause, againMost) {
		m.starting("making all connections anew: " + why)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		err := c.open(cfg, log)
		if err == nil {
			log.Info("all connections are made anew")
			return nil
		}
		c.leave()
		why = err.Error()
		if now := time.Now(); now.Sub(said) >= sayLostEvery {
			said = now
			log.Warn("the connections cannot be made anew; trying again", "err", err)
		}
	}
}
