package broker

import (
	"fmt"
	"slices"
	"strings"
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
	// Answers is the account Clients again, for what presenced publishes there:
	// replies, whose subjects it checks itself, and events.
	Answers
)

// ClientsAccount is the name of the account Clients, as the subject
// $SYS.ACCOUNT.<name>.DISCONNECT has it.
const ClientsAccount = "APP"

// anyone is the user of those who connect without credentials. It has a key
// because the server warns of users that could have a password and have none;
// nobody signs with it.
const anyone = Answers + 1

// name is that of presenced's connection, as the broker's monitoring shows it.
func (a Account) name() string {
	return [...]string{"presenced clients", "presenced journal", "presenced system", "presenced answers"}[a]
}

// accountsConfig is the part of the server's configuration that says who may
// do what, in the language of NATS configuration files. Formatted into it are
// the public keys of presenced (1 to 3, 8) and of anyone (7), and lists of
// subjects.
//
// presenced takes requests by a user that may publish neither requests nor
// events: the micro framework answers discovery on any reply subject. What it
// publishes itself leaves by another user, which is not restricted: the broker
// would look up every reply and event, a tenth of all its work.
//
// A subscription with a wider wildcard than a denied subject is accepted, and
// the denied messages are left out of it.
const accountsConfig = `
system_account: SYS
no_auth_user: %[7]s
accounts {
  SYS      { users: [ { nkey: %[1]s } ] }
  PRESENCE { users: [ { nkey: %[2]s } ], jetstream: enabled }
  APP {
    users: [
      { nkey: %[7]s, permissions: {
          publish:   { deny: %[4]s }
          subscribe: { deny: %[5]s } } }
      { nkey: %[3]s, permissions: {
          publish: { deny: %[6]s } } }
      { nkey: %[8]s }
    ]
  }
}
`

// brokerSubjects begin requests to the broker itself. presenced sends none on
// its clients' connection, so that a forged reply subject cannot make its
// answer one.
var brokerSubjects = []string{"$JS.>", "$SYS.>", "$KV.>", "$O.>"}

// monitorSubjects are requests that the broker answers to anyone with what it
// knows of all connections of the account, addresses included. A client has
// no business there; $SYS.REQ.USER.INFO, about itself, it may ask.
var monitorSubjects = []string{"$SYS.REQ.SERVER.>", "$SYS.REQ.ACCOUNT.>"}

func serverOptions(cfg Config, keys accountKeys) (*server.Options, error) {
	subjects := protocol.NewSubjects(cfg.Prefix)
	requests, events := subjects.RequestSubjects(), subjects.EventSubjects()

	opts := &server.Options{}
	if err := opts.ProcessConfigString(fmt.Sprintf(accountsConfig,
		keys[System].public, keys[Journal].public, keys[Clients].public,
		list(slices.Concat(events, monitorSubjects)), list(requests),
		list(slices.Concat(requests, events, brokerSubjects)),
		keys[anyone].public, keys[Answers].public,
	)); err != nil {
		return nil, fmt.Errorf("configuring the broker's accounts: %w", err)
	}
	opts.ServerName = "presence"
	opts.JetStream = true
	opts.DisableJetStreamBanner = true
	opts.StoreDir = cfg.DataDir
	opts.SyncAlways = cfg.SyncAlways
	opts.MaxPayload = 1 << 20 // requests and journal entries have at most half of it
	opts.PingInterval, opts.MaxPingsOut = cfg.PingInterval, cfg.PingMax
	opts.AuthTimeout = 10 // seconds; the default of 2 is short for a machine under full load
	opts.NoSigs = true    // signals belong to the program
	return opts, nil
}

// list writes subjects as a list of the configuration language. They contain
// nothing that needs escaping: protocol.CheckPrefix saw to it.
func list(subjects []string) string {
	return `["` + strings.Join(subjects, `", "`) + `"]`
}

// accountKeys are presenced's keys by Account, and that of anyone.
type accountKeys [anyone + 1]struct {
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
