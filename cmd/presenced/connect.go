package main

import (
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// connections are presenced's, one for each account.
type connections struct {
	clients, answers, journal, system *nats.Conn // system may be nil

	account string         // the clients', by name
	url     string         // where clients connect; without a password
	broker  *broker.Broker // nil where the server is somebody else's
	failed  <-chan error   // the server inside cannot go on; nil where there is none
}

// connect starts the NATS server inside, or finds the one of somebody else.
func connect(cfg config, log *slog.Logger) (*connections, error) {
	c := &connections{}
	open := c.openEmbedded
	if cfg.external() {
		open = c.openExternal
	}
	if err := open(cfg, log); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *connections) openEmbedded(cfg config, log *slog.Logger) (err error) {
	if c.broker, err = startBroker(cfg, log); err != nil {
		return err
	}
	c.account, c.url, c.failed = c.broker.ClientsAccount(), c.broker.ClientURL(), c.broker.Failed()
	if cfg.creds != "" { // the file has an operator
		return c.enter(cfg, log, c.broker.InProcess())
	}
	if c.clients, err = c.broker.Connect(broker.Clients, handlers("presenced clients", log)...); err != nil {
		return err
	}
	if c.answers, err = c.broker.Connect(broker.Answers, handlers("presenced answers", log)...); err != nil {
		return err
	}
	if c.journal, err = c.broker.Connect(broker.Journal, handlers("presenced journal", log)...); err != nil {
		return err
	}
	c.system, err = c.broker.Connect(broker.System, handlers("presenced system", log)...)
	return err
}

func startBroker(cfg config, log *slog.Logger) (*broker.Broker, error) {
	if cfg.natsConfig != "" {
		b, err := broker.StartFile(broker.FileConfig{
			Path:           cfg.natsConfig,
			ClientsAccount: cfg.clientsAccount,
			JournalAccount: cfg.journalAccount,
			SingleAccount:  cfg.singleAccount,
			Insecure:       cfg.insecure,
			Credentials:    cfg.creds != "",
			Replicas:       cfg.replicas,
			Prefix:         cfg.prefix,
			Logger:         log,
		})
		if err == nil {
			log.Info("started the NATS server", "version", versionText(), "config", cfg.natsConfig, "server", b.Name())
		}
		return b, err
	}
	b, err := broker.Start(broker.Config{
		Listen:     cfg.listen,
		Insecure:   cfg.insecure,
		DataDir:    cfg.data,
		SyncAlways: cfg.sync == syncAlways,
		Prefix:     cfg.prefix,
		Logger:     log,
	})
	if err == nil {
		log.Info("started the NATS server", "version", versionText(), "data", cfg.data, "sync", cfg.sync)
	}
	return b, err
}

// headFile is where the journal's end is kept, beside the store of the server
// inside; empty where there is none.
func (c *connections) headFile() string {
	if c.broker == nil {
		return ""
	}
	return filepath.Join(c.broker.DataDir(), "journal-head")
}

// close closes what is open and then stops the server inside: it must outlive
// the connections, so that their last messages arrive.
func (c *connections) close() {
	for _, nc := range []*nats.Conn{c.clients, c.answers, c.journal, c.system} {
		if nc != nil {
			_ = nc.FlushTimeout(time.Second) // it fails where the server is gone, and then nothing helps
			nc.Close()
		}
	}
	if c.broker != nil {
		c.broker.Shutdown()
	}
}

// handlers log what happens to a connection. They are set when it is made: the
// service wraps the one for errors.
func handlers(name string, log *slog.Logger) []nats.Option {
	log = log.With("connection", name)
	var lastError atomic.Int64 // when an error was logged
	return []nats.Option{
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() && err != nil {
				log.Warn("lost the NATS server", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Warn("the NATS server is back", "server", nc.ConnectedServerName())
		}),
		// Clients can provoke these, so no more than one a second is logged.
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			now := time.Now().UnixNano()
			last := lastError.Load()
			if now-last < int64(time.Second) || !lastError.CompareAndSwap(last, now) {
				return
			}
			if sub != nil {
				log.Warn("NATS reports an error", "err", err, "subject", sub.Subject)
				return
			}
			log.Warn("NATS reports an error", "err", err)
		}),
	}
}
