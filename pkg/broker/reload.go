package broker

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Reload makes a server of StartFile read its file again, and the certificates that it names:
// users, permissions, limits. Those who may not be there any more are disconnected; all others
// stay. presenced's own users and checks are as at the start.
//
// If the file is wrong, or changes what cannot change while the server runs, nothing changes. The
// error is a *ConfigError then.
func (b *Broker) Reload() error {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	if b.file == nil {
		return errors.New("the server has no configuration file")
	}
	f, err := readChecked(*b.file)
	if err != nil {
		return err
	}
	f.complete(b.keys)
	clients := b.clients.Swap(nil) // until it is known whether Interested can still tell
	if err := b.server.ReloadOptions(f.opts); err != nil {
		b.clients.Store(clients)
		return &ConfigError{fmt.Errorf("%s: %w", f.cfg.Path, oneLine(unchangeable(err)))}
	}
	f.warn()
	b.take(f)
	if f.knowsInterest() {
		if err := b.noteClients(); err != nil {
			return err
		}
	}
	if b.guard == nil {
		return nil
	}
	account, err := b.server.LookupAccount(b.names.journal)
	if err != nil {
		return fmt.Errorf("the journal's account %s: %w", b.names.journal, err)
	}
	b.guard.reloaded(account)
	return nil
}

// notSupported finds the setting in nats-server's error. Behind it the error shows the old and the
// new value, which may have secrets in it.
var notSupported = regexp.MustCompile(`config reload not supported for ([A-Za-z ]+)`)

// settings are how nats-server's names of some settings stand in a file.
var settings = map[string]string{
	"Host": "listen", "Port": "listen", "ServerName": "server_name", "SyncAlways": "jetstream sync_interval", "SyncInterval": "jetstream sync_interval",
	"NoAuthUser": "whether clients need credentials (no_auth_user, or users where there were none)", "SystemAccount": "system_account",
}

// unchangeable says in plain words that a setting cannot change.
func unchangeable(err error) error {
	m := notSupported.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	name, ok := settings[m[1]]
	if !ok {
		name = strings.ToLower(m[1])
	}
	return fmt.Errorf("%s cannot change while the server runs, so nothing of the file is in force: put it back, or restart", name)
}

// take notes what the file says of clients.
func (b *Broker) take(f *file) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exposed = f.exposed()
	b.open = f.open() || f.accountOf(f.opts.NoAuthUser) == f.names.clients
	b.passwords = slices.ContainsFunc(f.clients(), func(u fileUser) bool { return u.password })
}
