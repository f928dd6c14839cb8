package broker

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// check refuses a file with which presenced cannot work, or not safely.
func (f *file) check() error {
	checks := []func() error{f.checkMode, f.checkJetStream, f.checkSpelling, f.checkAccounts, f.checkAnyone}
	if f.operator() { // its accounts are JWTs, and nobody enters without one
		checks = checks[:2]
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// operator says that only users with a JWT can enter the server.
func (f *file) operator() bool {
	return len(f.opts.TrustedOperators) > 0 || len(f.opts.TrustedKeys) > 0
}

// checkMode refuses servers that presenced cannot enter.
func (f *file) checkMode() error {
	switch o := f.opts; {
	case f.operator() && !f.cfg.Credentials:
		return errors.New("it has an operator, so only users with a JWT can enter: give presenced its credentials with --creds, --journal-creds and --system-creds")
	case !f.operator() && f.cfg.Credentials:
		return errors.New("it has no operator, so presenced enters its server by keys of its own: leave out --creds, --journal-creds and --system-creds")
	case o.ProxyProtocol:
		return errors.New("it has proxy_protocol, which presenced's own connections do not speak: run nats-server with this file, and presenced with --nats-url")
	case o.MaxPayload != 0 && o.MaxPayload < minPayload:
		return fmt.Errorf("max_payload must be at least 1MB (%d), not %d", minPayload, o.MaxPayload)
	}
	return nil
}

func (f *file) checkJetStream() error {
	switch o := f.opts; {
	case !o.JetStream:
		return errors.New("JetStream is off, and the journal needs it: add  jetstream { store_dir: DIRECTORY, sync_interval: always }")
	case o.StoreDir == "":
		return errors.New("jetstream has no store_dir: without it nats-server would keep the journal among temporary files")
	case f.clustered() && o.ServerName == "":
		return errors.New("it has a cluster and no server_name, which JetStream needs there: give each server a name of its own, and never change it")
	case f.clustered() && o.Cluster.Name == "":
		return errors.New("its cluster has no name, which JetStream needs: the same in the files of all its servers")
	case !f.clustered() && f.cfg.Replicas > 1:
		return fmt.Errorf("%d replicas of the journal need a cluster of as many servers, and the file has no cluster", f.cfg.Replicas)
	}
	return nil
}

func (f *file) clustered() bool { return f.opts.Cluster.Port != 0 }

// checkSpelling refuses a key that is there twice, in two spellings.
func (f *file) checkSpelling() error {
	journal, _ := f.accounts[f.names.journal].(map[string]any)
	for _, list := range [][]string{spellings(f.text, "accounts"), spellings(journal, "jetstream")} {
		if len(list) > 1 {
			return fmt.Errorf("%s are the same to nats-server, which takes one of them by chance: keep one of them", strings.Join(list, " and "))
		}
	}
	return nil
}

func (f *file) checkAccounts() error {
	n := f.names
	for _, a := range []struct{ what, name, flag string }{
		{"clients", n.clients, "--clients-account"},
		{"journal", n.journal, "--journal-account"},
	} {
		switch {
		case findAccount(f.opts, a.name) == nil:
			return fmt.Errorf("it has no account %s, for the %s: add it to accounts { … }, or name another with %s (there are: %s)", a.name, a.what, a.flag, f.accountList())
		case a.name == n.system:
			return fmt.Errorf("%s is the system account, which cannot be the account of the %s: name another with %s", a.name, a.what, a.flag)
		}
	}
	switch {
	case findAccount(f.opts, n.system) == nil:
		return fmt.Errorf("its system_account %s is not among its accounts", n.system)
	case n.clients == n.journal && !f.cfg.SingleAccount:
		return fmt.Errorf("clients and journal are both in the account %s, where clients can read and destroy the journal: give it an account of its own, or --single-account", n.clients)
	case !f.hasJetStream(n.journal):
		return fmt.Errorf("the journal's account %s has no JetStream: add  jetstream: enabled  to it", n.journal)
	}
	return nil
}

func (f *file) accountList() string {
	var names []string
	for _, a := range f.opts.Accounts {
		names = append(names, a.Name)
	}
	return strings.Join(names, ", ")
}

// hasJetStream reads the account's setting as parseJetStreamForAccount of nats-server does.
func (f *file) hasJetStream(account string) bool {
	a, _ := f.accounts[account].(map[string]any)
	switch v := lookup(a, "jetstream").(type) {
	case bool:
		return v
	case string:
		return strings.HasPrefix(strings.ToLower(v), "enable")
	case map[string]any:
		return true
	}
	return false
}

// open says that there are only clients without credentials.
func (f *file) open() bool {
	return !f.operator() && f.opts.NoAuthUser == "" && f.opts.AuthCallout == nil && len(f.clients()) == 0
}

// fileUser is a user of the file.
type fileUser struct {
	name         string // or the nkey
	account      string
	password     bool // it has a password and no nkey
	unrestricted bool
}

func (f *file) users() (list []fileUser) {
	add := func(name string, a *server.Account, p *server.Permissions, password bool) {
		u := fileUser{name: name, account: server.DEFAULT_GLOBAL_ACCOUNT, password: password, unrestricted: p == nil}
		if a != nil {
			u.account = a.Name
		}
		list = append(list, u)
	}
	for _, u := range f.opts.Users {
		add(u.Username, u.Account, u.Permissions, true)
	}
	for _, u := range f.opts.Nkeys {
		add(u.Nkey, u.Account, u.Permissions, false)
	}
	return list
}

// clients are the users of the clients' account.
func (f *file) clients() []fileUser {
	return slices.DeleteFunc(f.users(), func(u fileUser) bool { return u.account != f.names.clients })
}

// accountOf returns the account of a user, by its name or nkey.
func (f *file) accountOf(user string) string {
	for _, u := range f.users() {
		if u.name == user {
			return u.account
		}
	}
	return ""
}

// listener is an address where clients connect. anyone is the user that they are there
// without credentials.
type listener struct{ block, host, port, anyone string }

func (l listener) address() string { return net.JoinHostPort(l.host, l.port) }

func (f *file) listeners() (list []listener) {
	o := f.opts
	add := func(block, host string, port int, anyone string) {
		anyone = cmp.Or(anyone, o.NoAuthUser)
		list = append(list, listener{block, host, strconv.Itoa(port), anyone})
	}
	add("", o.Host, cmp.Or(o.Port, server.DEFAULT_PORT), "")
	if o.Websocket.Port != 0 {
		add("websocket", o.Websocket.Host, o.Websocket.Port, o.Websocket.NoAuthUser)
	}
	if o.MQTT.Port != 0 {
		add("mqtt", o.MQTT.Host, o.MQTT.Port, o.MQTT.NoAuthUser)
	}
	if o.LeafNode.Port != 0 {
		add("leafnodes", o.LeafNode.Host, o.LeafNode.Port, "")
	}
	return list
}

// checkAnyone refuses a file that lets anybody on another machine be a client, or lets
// anybody into the journal's account.
func (f *file) checkAnyone() error {
	for _, l := range f.listeners() {
		account := f.accountOf(l.anyone)
		if f.open() && l.anyone == "" {
			account = f.names.clients
		}
		switch {
		case account == f.names.system, account == f.names.journal && !f.cfg.SingleAccount:
			return fmt.Errorf("its no_auth_user lets anybody without credentials into the account %s, where the journal can be destroyed: give it a user of the account %s, or none", account, f.names.clients)
		case account != f.names.clients || IsLoopback(l.host) || f.cfg.Insecure:
		case f.open():
			return fmt.Errorf("the account %s has no users, so anybody who reaches %s would be a client and could act as any user: add users, listen on loopback, or allow it with --insecure", account, l.address())
		default:
			return fmt.Errorf("its no_auth_user lets anybody who reaches %s into the account %s, to act as any user its permissions allow: remove it, listen on loopback, or allow it with --insecure", l.address(), account)
		}
	}
	return nil
}

// exposed returns the addresses where anybody on another machine is a client.
func (f *file) exposed() (addresses []string) {
	for _, l := range f.listeners() {
		if !IsLoopback(l.host) && (f.open() || f.accountOf(l.anyone) == f.names.clients) {
			addresses = append(addresses, l.address())
		}
	}
	return addresses
}

// warn logs what is allowed but may surprise the operator.
func (f *file) warn() {
	o, n, log := f.opts, f.names, f.cfg.Logger.With("file", f.cfg.Path)
	for _, w := range f.oddities {
		log.Warn("the configuration file: " + withoutPath(w, f.cfg.Path).Error())
	}
	if o.LogFile != "" || o.Syslog || o.RemoteSyslog != "" || o.Debug || o.Trace {
		log.Warn("what the file says of logging is ignored: presenced writes the log")
	}
	if f.clustered() && f.cfg.Replicas == 1 {
		log.Warn("a new journal will be on one server of the cluster, and nobody serves while that one is down: give --replicas 3")
	}
	switch {
	case !o.SyncAlways && f.cfg.Replicas == 1:
		log.Warn("an acknowledged change may not survive a power loss: the file's jetstream has no sync_interval: always")
	case !o.SyncAlways:
		log.Warn("an acknowledged change may not survive a power loss that several servers share: the file's jetstream has no sync_interval: always")
	}
	if n.clients == n.journal {
		log.Warn("the journal is where clients can read and destroy it (--single-account)")
	}
	for _, address := range f.exposed() {
		log.Warn(warnExposed, "address", address)
	}
	var free []string
	for _, u := range f.clients() {
		if u.unrestricted {
			free = append(free, u.name)
		}
	}
	if len(free) > 0 {
		log.Warn("users without permissions can forge events and take requests (PROTOCOL section 9)", "account", n.clients, "users", strings.Join(free, " "))
	}
	if c := o.Cluster; f.clustered() && c.Username == "" && c.TLSConfig == nil && !IsLoopback(c.Host) {
		log.Warn("the cluster has neither authorization nor TLS: anybody who reaches its address can join it as a server, and read everything",
			"address", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	}
}
