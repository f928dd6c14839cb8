package broker

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// StartForeign starts a NATS server from a configuration text, with none of this
// package's accounts, keys and checks: a server of somebody else, for tests. Test kits
// do not import nats-server. Connect does not work on it.
//
// listen is host:port; port 0 picks a free one. dataDir is where JetStream stores, if
// the text enables it.
func StartForeign(config, listen, dataDir string, logger *slog.Logger) (*Broker, error) {
	opts, err := foreignOptions(config, listen, dataDir)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(dataDir)
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{lock: lock}
	if err := b.start(opts, logger); err != nil {
		b.Shutdown()
		return nil, err
	}
	return b, nil
}

func foreignOptions(config, listen, dataDir string) (*server.Options, error) {
	host, port, err := parseListen(listen, false)
	if err != nil {
		return nil, err
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(config); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	opts.Host, opts.Port, opts.StoreDir, opts.NoSigs = host, port, dataDir, true
	return opts, nil
}

// ReloadForeign makes a server of StartForeign take another configuration text while it
// runs, as "nats-server --signal reload" does. If one setting cannot be changed, none is.
func (b *Broker) ReloadForeign(config string) error {
	_, listen, _ := strings.Cut(b.url, "://") // tls:// where it has a certificate
	opts, err := foreignOptions(config, listen, b.lock.dir)
	if err != nil {
		return err
	}
	return b.server.ReloadOptions(opts)
}

// LameDuck makes a server of StartForeign enter lame duck mode, and waits until it has
// shut down. Shutdown ends it sooner.
func (b *Broker) LameDuck() { b.server.LameDuckShutdown() }

// ConnectPlain opens an in-process connection to a server of StartForeign,
// without credentials. The caller closes it, before Shutdown.
func (b *Broker) ConnectPlain() (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(b.server))
}
