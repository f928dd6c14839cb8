package broker

import (
	"cmp"
	"fmt"
	"time"

	"presence/pkg/protocol"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Account is one of the broker's accounts, as presenced enters it.
type Account int

const (
	// Clients is where requests arrive and events are published.
	Clients Account = iota
	// Journal holds the journal; JetStream is here.
	Journal
	// System reports closed connections.
	System
	// Answers is the account of Clients again, entered as another user: presenced
	// publishes replies and events by it. It checks the subjects of replies itself.
	Answers
)

// Names of the accounts, unless a configuration file has others. The first is also in
// the subject $SYS.ACCOUNT.<name>.DISCONNECT.
const (
	ClientsAccount = "APP"
	JournalAccount = "PRESENCE"
)

// anyone is the user that clients without credentials are. It has a key, with which
// nobody signs: the server warns of users that have neither a key nor a password.
const anyone = Answers + 1

// reader is the user of ReaderKeyFile.
const reader = anyone + 1

// name is the name of presenced's connection in the broker's monitoring.
func (a Account) name() string {
	return [...]string{"presenced clients", "presenced journal", "presenced system", "presenced answers"}[a]
}

// accountsConfig is the configuration text of a broker that Start starts.
const accountsConfig = `
system_account: SYS
accounts { SYS {}, PRESENCE { jetstream: enabled }, APP {} }
`

// accountNames are what the accounts are called.
type accountNames struct{ clients, journal, system string }

var defaultNames = accountNames{clients: ClientsAccount, journal: JournalAccount, system: "SYS"}

func serverOptions(cfg Config, keys accountKeys) (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accountsConfig); err != nil {
		return nil, fmt.Errorf("configuring the broker's accounts: %w", err)
	}
	addUsers(opts, defaultNames, keys, cfg.Prefix)
	addAnyone(opts, defaultNames.clients, keys, cfg.Prefix)
	opts.ServerName = "presence"
	opts.JetStream = true
	opts.StoreDir = cfg.DataDir
	opts.SyncAlways = cfg.SyncAlways
	opts.PingInterval, opts.MaxPingsOut = cfg.PingInterval, cfg.PingMax
	setDefaults(opts)
	return opts, nil
}

// setDefaults sets options that are not set, if nats-server's default does not suit
// presenced.
func setDefaults(opts *server.Options) {
	opts.PingInterval = cmp.Or(opts.PingInterval, defaultPingInterval)
	opts.MaxPingsOut = cmp.Or(opts.MaxPingsOut, defaultPingMax)
	// In seconds. The default of 2 is short for a machine under full load.
	opts.AuthTimeout = cmp.Or(opts.AuthTimeout, 10)
	opts.MaxPayload = cmp.Or(opts.MaxPayload, minPayload)
	// In attempts: a line about once a minute. By default each attempt is logged.
	opts.ReconnectErrorReports = cmp.Or(opts.ReconnectErrorReports, 60)
	if opts.JetStreamMaxStore == 0 && opts.Cluster.Port == 0 && opts.Gateway.Port == 0 {
		// By default the limit follows from the free space at the start. A server that
		// starts on an almost full disk would store nothing, even once there is space
		// again. spaceGuard watches the disk instead.
		opts.JetStreamMaxStore = noMaxStore
	}
	// The server can remember which subscriptions match which of the last 1,024 subjects. Here
	// each subject names a user or a caller, so few are among those. To keep them takes longer
	// than to match.
	opts.NoSublistCache = true
	opts.NoSigs = true // signals belong to the program
	opts.DisableJetStreamBanner = true
}

// noMaxStore is more than any disk has.
const noMaxStore = 1 << 60

// minPayload is the smallest max_payload: requests and journal entries have at
// most half of it.
const minPayload = 1 << 20

// addUsers adds presenced's own users to accounts that opts have.
//
// presenced takes requests and answers discovery as a user that may publish neither
// requests nor events, so that no reply subject can make it publish one. It publishes
// replies and events as another user, without restrictions: to check each subject would
// be a tenth of all the broker's work.
func addUsers(opts *server.Options, names accountNames, keys accountKeys, prefix string) {
	add := func(a Account, account string, p *server.Permissions) {
		opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{Nkey: keys[a].public, Account: findAccount(opts, account), Permissions: p})
	}
	add(System, names.system, nil)
	add(Journal, names.journal, nil)
	add(Clients, names.clients, permissions(prefix, protocol.RoleListener))
	add(Answers, names.clients, nil)
	addReader(opts, names, keys)
	if opts.AuthCallout != nil { // it is not asked about presenced
		for _, a := range []Account{System, Journal, Clients, Answers} {
			opts.AuthCallout.AuthUsers = append(opts.AuthCallout.AuthUsers, keys[a].public)
		}
	}
}

// addAnyone lets clients without credentials into the clients' account, as a user who
// can neither forge events nor take requests.
func addAnyone(opts *server.Options, account string, keys accountKeys, prefix string) {
	opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{
		Nkey: keys[anyone].public, Account: findAccount(opts, account), Permissions: permissions(prefix, protocol.RoleAnyone),
	})
	opts.NoAuthUser = keys[anyone].public
}

// permissions returns the permissions of PROTOCOL 9 in nats-server's types.
func permissions(prefix string, r protocol.Role) *server.Permissions {
	p := protocol.NewSubjects(prefix).Permissions(r, "")
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: p.Publish.Allow, Deny: p.Publish.Deny},
		Subscribe: &server.SubjectPermission{Allow: p.Subscribe.Allow, Deny: p.Subscribe.Deny},
	}
}

// findAccount returns nil where opts have no account of that name.
func findAccount(opts *server.Options, name string) *server.Account {
	for _, a := range opts.Accounts {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// accountKeys are presenced's keys by Account, and the keys of anyone and reader.
type accountKeys [reader + 1]struct {
	pair   nkeys.KeyPair
	public string
}

func newAccountKeys() (keys accountKeys, err error) {
	for a := range keys {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return keys, fmt.Errorf("making a key: %w", err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			return keys, fmt.Errorf("making a key: %w", err)
		}
		keys[a].pair, keys[a].public = pair, public
	}
	return keys, nil
}

// InProcess is the option by which a connection with its own credentials reaches the server.
func (b *Broker) InProcess() nats.Option { return nats.InProcessServer(b.server) }

// Connect opens an in-process connection as the presenced user of an account.
// It reconnects without limit while the broker runs: the broker may close it
// as a slow consumer. The caller closes it, before Shutdown. opts come after
// the broker's own.
func (b *Broker) Connect(a Account, opts ...nats.Option) (*nats.Conn, error) {
	key := b.keys[a]
	if key.pair == nil {
		return nil, fmt.Errorf("connecting %s: the broker has no such user", a.name())
	}
	own := []nats.Option{
		nats.InProcessServer(b.server),
		nats.Nkey(key.public, key.pair.Sign),
		nats.Name(a.name()),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),                 // what cannot be sent now must not be sent later
		nats.ReconnectWait(50 * time.Millisecond), // nobody else competes for it
		nats.ReconnectJitter(50*time.Millisecond, 0),
	}
	nc, err := nats.Connect("", append(own, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting %s: %w", a.name(), err)
	}
	return nc, nil
}
