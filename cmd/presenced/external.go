package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// askWithin bounds the wait for the server's answer to a question of the start.
const askWithin = 5 * time.Second

func (c *connections) openExternal(cfg config, log *slog.Logger) (err error) {
	if c.url, err = withoutUser(cfg.natsURL); err != nil {
		return usageError{err}
	}
	if c.clients, err = dial("presenced clients", cfg.natsURL, cfg.creds, log); err != nil {
		return err
	}
	if c.answers, err = dial("presenced answers", cfg.natsURL, cfg.creds, log); err != nil {
		return err
	}
	if err := c.openJournal(cfg, log); err != nil {
		return err
	}
	if err := c.checkAccounts(cfg, log); err != nil {
		return err
	}
	if cfg.systemURL == "" && cfg.systemCreds == "" {
		return nil // the service warns of what that means
	}
	systemURL, err := c.urlOr(cfg.systemURL)
	if err != nil {
		return err
	}
	if c.system, err = dial("presenced system", systemURL, cfg.systemCreds, log); err != nil {
		return err
	}
	return checkSystem(c.system)
}

func (c *connections) openJournal(cfg config, log *slog.Logger) (err error) {
	if cfg.journalURL == "" && cfg.journalCreds == "" { // --single-account
		c.journal, err = dial("presenced journal", cfg.natsURL, cfg.creds, log)
		return err
	}
	journalURL, err := c.urlOr(cfg.journalURL)
	if err != nil {
		return err
	}
	c.journal, err = dial("presenced journal", journalURL, cfg.journalCreds, log)
	return err
}

// urlOr returns a URL that was given, or the clients' without the user in it:
// who has credentials of their own must not be taken for another.
func (c *connections) urlOr(given string) (string, error) {
	if given == "" {
		return c.url, nil
	}
	if _, err := withoutUser(given); err != nil {
		return "", usageError{err}
	}
	return given, nil
}

// dial connects to somebody else's server. A server that is not there is an
// error now and a reason to try again for ever later.
func dial(name, urls, creds string, log *slog.Logger) (*nats.Conn, error) {
	opts := append(handlers(name, log),
		nats.ReconnectBufSize(-1), // what cannot be sent now must not be sent later
		nats.Name(name),
		nats.CustomInboxPrefix(protocol.RoleService.InboxPrefix("")),
		nats.Timeout(askWithin),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.IgnoreAuthErrorAbort(), // a server whose accounts are being changed refuses for a while
		// A server that went silent is given up after 15 s rather than 6 min.
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
	)
	if creds != "" {
		opts = append(opts, nats.UserCredentials(creds))
	}
	nc, err := nats.Connect(urls, opts...)
	if err != nil {
		shown, _ := withoutUser(urls)
		return nil, fmt.Errorf("connecting %s to %s: %w", name, shown, err)
	}
	return nc, nil
}

// withoutUser returns a list of URLs without users and passwords. Its error
// does not quote them.
func withoutUser(urls string) (string, error) {
	var shown []string
	for text := range strings.SplitSeq(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return "", errors.New("the URL of the NATS server is not valid: it must be like nats://127.0.0.1:4222")
		}
		u.User = nil
		shown = append(shown, u.String())
	}
	return strings.Join(shown, ","), nil
}

// checkAccounts refuses a journal that clients can reach, and learns the name of
// the clients' account.
func (c *connections) checkAccounts(cfg config, log *slog.Logger) error {
	clients, err := accountOf(c.clients)
	if err == nil {
		c.account = clients
	}
	if cfg.clientsAccount != "" {
		c.account = cfg.clientsAccount
	}
	if cfg.singleAccount {
		log.Warn("the journal is where clients can read and destroy it (--single-account)")
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
		return "", fmt.Errorf("asking %s: %w", subject, err)
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

// checkSystem refuses credentials of another account: subscribing to the system
// account's events works there, and none would ever come.
func checkSystem(nc *nats.Conn) error {
	if _, err := nc.Request("$SYS.REQ.SERVER.PING", nil, askWithin); err != nil {
		return fmt.Errorf("the credentials for the system account are not of the system account: asking $SYS.REQ.SERVER.PING: %w", err)
	}
	return nil
}
