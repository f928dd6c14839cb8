package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"presence/cmd/internal/natsurl"
	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// askWithin bounds the wait for each answer of the server at the start.
const askWithin = 5 * time.Second

func (c *connections) openExternal(cfg config, log *slog.Logger) (err error) {
	if c.url, err = withoutUser(cfg.natsURL); err != nil {
		return usageError{err}
	}
	opts, err := tlsOptions(cfg)
	if err != nil {
		return err
	}
	warnReadable(log, cfg.tlsKey)
	if err := c.enter(cfg, log, opts...); err != nil {
		return err
	}
	w := &payloadWatch{conns: []*nats.Conn{c.clients, c.answers, c.journal}, log: log}
	c.own(w.run)
	return nil
}

// tlsOptions are the options for TLS. The files are read here too, so that an error names
// the one that cannot be used.
func tlsOptions(cfg config) (opts []nats.Option, err error) {
	if cfg.tlsCA != "" {
		text, err := os.ReadFile(cfg.tlsCA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s has no certificate in PEM", cfg.tlsCA)
		}
		if err != nil {
			return nil, fmt.Errorf("--tlsca: %w", err)
		}
		opts = append(opts, nats.RootCAs(cfg.tlsCA))
	}
	if cfg.tlsCert != "" {
		if _, err := tls.LoadX509KeyPair(cfg.tlsCert, cfg.tlsKey); err != nil {
			return nil, fmt.Errorf("--tlscert %s, --tlskey %s: %w", cfg.tlsCert, cfg.tlsKey, err)
		}
		opts = append(opts, nats.ClientCert(cfg.tlsCert, cfg.tlsKey))
	}
	return opts, nil
}

// enter opens the connections to a server that presenced enters by URLs or credentials.
func (c *connections) enter(cfg config, log *slog.Logger, opts ...nats.Option) (err error) {
	warnReadable(log, cfg.creds, cfg.journalCreds, cfg.systemCreds)
	if err := c.enterClients(cfg, log, opts...); err != nil {
		return err
	}
	if err := c.openJournal(cfg, log, opts...); err != nil {
		return err
	}
	if err := c.checkAccounts(cfg, log); err != nil {
		return err
	}
	if cfg.systemURL == "" && cfg.systemCreds == "" {
		return nil // the service logs what that means
	}
	systemURL, err := c.urlOr(cfg.systemURL)
	if err != nil {
		return err
	}
	if c.system, err = c.dial(systemName, systemURL, cfg.systemCreds, log, opts...); err != nil {
		return err
	}
	return checkSystem(c.system)
}

// enterClients makes the two connections in the clients' account.
func (c *connections) enterClients(cfg config, log *slog.Logger, opts ...nats.Option) (err error) {
	if c.broker != nil { // there is one server
		if c.clients, err = c.dial(clientsName, cfg.natsURL, cfg.creds, log, opts...); err != nil {
			return err
		}
		c.answers, err = c.dial(answersName, cfg.natsURL, cfg.creds, log, opts...)
		return err
	}
	p := &pair{}
	if c.clients, err = c.dial(clientsName, cfg.natsURL, cfg.creds, log, slices.Concat(opts, p.requestOptions())...); err != nil {
		return err
	}
	p.requests.set(placeOf(c.clients))
	c.answers, err = c.dial(answersName, p.first(cfg.natsURL), cfg.creds, log, slices.Concat(opts, p.answerOptions())...)
	if err != nil {
		return err
	}
	clients, answers := c.clients, c.answers
	c.own(func(ctx context.Context) { p.run(ctx, clients, answers) })
	return nil
}

func (c *connections) openJournal(cfg config, log *slog.Logger, opts ...nats.Option) (err error) {
	if cfg.journalURL == "" && cfg.journalCreds == "" { // --single-account
		c.journal, err = c.dial(journalName, cfg.natsURL, cfg.creds, log, opts...)
		return err
	}
	journalURL, err := c.urlOr(cfg.journalURL)
	if err != nil {
		return err
	}
	c.journal, err = c.dial(journalName, journalURL, cfg.journalCreds, log, opts...)
	return err
}

// urlOr returns a URL that was given, or the clients' URL without the user in it, because
// the connection has credentials of its own.
func (c *connections) urlOr(given string) (string, error) {
	if given == "" {
		return c.url, nil
	}
	if _, err := withoutUser(given); err != nil {
		return "", usageError{err}
	}
	return given, nil
}

// dial connects to a server that is not inside. If there is no server it is an error now;
// later the connection is tried again for ever.
func (c *connections) dial(name, urls, creds string, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	l := c.links.add(name, log)
	opts := append(l.options(),
		nats.ReconnectBufSize(-1), // what cannot be sent now must not be sent later
		nats.Name(name),
		nats.CustomInboxPrefix(protocol.RoleService.InboxPrefix("")),
		nats.Timeout(askWithin),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.IgnoreAuthErrorAbort(), // a server whose accounts are being changed refuses for a while
		// A server that has gone silent is given up after 15 s, by default after 6 min.
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
	)
	if creds != "" {
		login, err := credentials(creds)
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("connecting %s: %w for user %d, who runs presenced: make the file that user's (chown), with mode 0600", name, err, os.Getuid())
		}
		if err != nil {
			return nil, fmt.Errorf("connecting %s: %w", name, err)
		}
		opts = append(opts, login)
	}
	nc, err := nats.Connect(urls, append(opts, more...)...)
	if err != nil {
		shown, _ := withoutUser(urls)
		err = withHint(err)
		if errors.Is(err, nats.ErrNoServers) {
			return nil, fmt.Errorf("there is no NATS server at %s: start it before presenced", shown)
		}
		return nil, fmt.Errorf("connecting %s to %s: %w", name, shown, err)
	}
	c.links.made(l, nc)
	return nc, nil
}

// credentials returns the option for the secret in a file: a JWT with its key, or the seed
// of an nkey alone.
func credentials(file string) (nats.Option, error) {
	text, err := os.ReadFile(file)
	switch {
	case err != nil:
		return nil, err
	case strings.Contains(string(text), "BEGIN NATS USER JWT"):
		return nats.UserCredentials(file), nil
	}
	login, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, fmt.Errorf("%s has neither credentials nor the seed of an nkey", file)
	}
	return login, nil
}

// warnReadable warns of secret files that everybody on this machine can read.
func warnReadable(log *slog.Logger, files ...string) {
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o004 != 0 {
			log.Warn("everybody on this machine can read this secret: make its mode 0600", "file", file)
		}
	}
}

// withoutUser returns a list of URLs without users and passwords.
func withoutUser(urls string) (string, error) {
	list, err := natsurl.Parse(urls)
	return natsurl.WithoutUsers(list), err
}

// checkAccounts refuses a journal that clients can reach, and finds the name of the
// clients' account.
func (c *connections) checkAccounts(cfg config, log *slog.Logger) error {
	clients, err := accountOf(c.clients)
	if err == nil {
		c.account = clients
	}
	if cfg.clientsAccount != "" {
		c.account = cfg.clientsAccount
	}
	if cfg.singleAccount {
		log.Warn("clients can read and destroy the journal, which is in their account (--single-account)")
		return nil
	}
	if err != nil {
		return fmt.Errorf("the clients' account cannot be told from the journal's (--single-account starts nevertheless): %w", err)
	}
	journal, err := accountOf(c.journal)
	if err != nil {
		return fmt.Errorf("the journal's account cannot be told from the clients' (--single-account starts nevertheless): %w", err)
	}
	if clients == journal {
		return fmt.Errorf("clients and journal are both in the account %s, where clients can read and destroy the journal: give it an account of its own, or --single-account", clients)
	}
	return nil
}

// accountOf asks the server which account a connection is in.
func accountOf(nc *nats.Conn) (string, error) {
	const subject = "$SYS.REQ.USER.INFO"
	m, err := nc.Request(subject, nil, askWithin)
	if err != nil {
		return "", unasked(nc, subject, err)
	}
	var reply struct {
		Data struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil || reply.Data.Account == "" {
		return "", fmt.Errorf("asking %s: the answer names no account", subject)
	}
	return reply.Data.Account, nil
}

// checkSystem refuses credentials that are not of the system account: with them it could
// subscribe to the events of that account, but none would come.
func checkSystem(nc *nats.Conn) error {
	if _, err := nc.Request("$SYS.REQ.SERVER.PING", nil, askWithin); err != nil {
		return fmt.Errorf("the credentials for the system account are not of the system account: %w", unasked(nc, "$SYS.REQ.SERVER.PING", err))
	}
	return nil
}

// unasked is the error of a question without an answer. Where the server has refused something the
// question timed out, and only the connection knows why.
func unasked(nc *nats.Conn, subject string, err error) error {
	if refused := nc.LastError(); errors.Is(refused, nats.ErrPermissionViolation) {
		return fmt.Errorf("asking %s: %w (%w)", subject, err, refused)
	}
	return fmt.Errorf("asking %s: %w", subject, err)
}

// withoutJetStream adds to an error of opening the journal that JetStream is switched off,
// if that is the reason.
func (c *connections) withoutJetStream(err error) error {
	if c.broker != nil {
		return err
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, nats.ErrNoResponders), ok && api.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabled:
		return fmt.Errorf("the NATS server has no JetStream, which the journal needs (nats-server --jetstream): %w", err)
	case ok && api.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabledForAccount:
		return fmt.Errorf("the journal's account has no JetStream, which it needs (jetstream: enabled in the account): %w", err)
	}
	return err
}
