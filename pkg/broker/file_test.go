package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/broker"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Parts of configuration files.
const (
	loopback = "listen: \"127.0.0.1:-1\"\n"
	// elsewhere is no address of this machine: a server that is allowed to
	// listen there fails when it tries.
	elsewhere = "listen: \"192.0.2.1:4222\"\n"
	stored    = "jetstream { store_dir: $STORE, sync_interval: always }\n"
	journal   = "PRESENCE { jetstream: enabled }\n"
	userless  = "accounts { " + journal + " APP {} }\n"
	someUser  = "accounts { " + journal + " APP { users: [ { user: u, password: p, permissions: { publish: x } } ] } }\n"
	cluster   = "cluster { name: c, listen: \"127.0.0.1:-1\" }\n"
)

// writeConfig returns the path of a configuration file, whose $STORE is a
// directory of the test.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "nats.conf")
	text = strings.ReplaceAll(text, "$STORE", filepath.Join(dir, "store"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startFile(t *testing.T, text string, changes ...func(*broker.FileConfig)) *broker.Broker {
	t.Helper()
	cfg := broker.FileConfig{Path: writeConfig(t, text)}
	for _, change := range changes {
		change(&cfg)
	}
	b, err := broker.StartFile(cfg)
	if err != nil {
		t.Fatalf("StartFile: %v\n%s", err, text)
	}
	t.Cleanup(b.Shutdown)
	return b
}

func TestFileRefused(t *testing.T) {
	single := func(c *broker.FileConfig) { c.SingleAccount = true }
	clients := func(name string) func(*broker.FileConfig) {
		return func(c *broker.FileConfig) { c.ClientsAccount = name }
	}
	for _, c := range []struct {
		name, text string
		change     func(*broker.FileConfig)
		says       []string
	}{
		{"not the language", loopback + "jetstream {\n", nil, []string{"line "}},
		{"includes itself", loopback + stored + userless + "include nats.conf\n", nil, []string{"nats.conf includes itself"}},
		{"quotation mark in the wrong place", "\"listen: 127.0.0.1:-1\nauthorization { user: u, password: 'hunter 2' }\nserver_name: \": s\n", nil, []string{"unknown field \"…\""}},
		{"a password of digits", loopback + stored + userless + "authorization { user: a, password: 123 }\n", nil, []string{"line 5:", "it is a number, not a text: put it into quotes"}},
		{"a text for a list", loopback + stored + userless + "cluster { name: c, routes: \"nats://a\" }\n", nil, []string{"line 5:", "it is a text, not a list"}},
		{"unknown field", loopback + stored + userless + "lisen: 1\n", nil, []string{"lisen", "line 5"}},
		{"two faults", loopback + stored + userless + "lisen: 1\nportt: 2\n", nil, []string{"and 1 more"}},
		{"missing variable", loopback + stored + userless + "server_name: $NO_SUCH_VARIABLE\n", nil, []string{"NO_SUCH_VARIABLE"}},
		{"no JetStream", loopback + userless, nil, []string{"JetStream is off"}},
		{"no store_dir", loopback + "jetstream: enabled\n" + userless, nil, []string{"store_dir"}},
		{"no accounts", loopback + stored, nil, []string{"no account APP", "--clients-account"}},
		{"no journal", loopback + stored + "accounts { APP {} }\n", nil, []string{"no account PRESENCE", "--journal-account", "there are: APP"}},
		{"other names", loopback + stored + userless, clients("USERS"), []string{"no account USERS"}},
		{"journal without JetStream", loopback + stored + "accounts { PRESENCE {}, APP {} }\n", nil, []string{"PRESENCE has no JetStream"}},
		{"journal with JetStream disabled", loopback + stored + "accounts { PRESENCE { jetstream: disabled }, APP {} }\n", nil, []string{"PRESENCE has no JetStream"}},
		{"single account without JetStream", loopback + stored + userless, single, []string{"APP has no JetStream"}},
		{"accounts twice", loopback + stored + userless + "Accounts { APP {}, PRESENCE { jetstream: false } }\n", nil, []string{"Accounts and accounts are the same"}},
		{"JetStream twice", loopback + stored + "accounts { PRESENCE { jetstream: enabled, JetStream: disabled }, APP {} }\n", nil, []string{"JetStream and jetstream are the same"}},
		{"one account", loopback + stored + userless, clients("PRESENCE"), []string{"both in the account PRESENCE", "--single-account"}},
		{"clients in the system account", loopback + stored + userless + "system_account: APP\n", nil, []string{"APP is the system account"}},
		{"system account missing", loopback + stored + userless + "system_account: SYS\n", nil, []string{"SYS"}},
		{"small max_payload", loopback + stored + userless + "max_payload: 64KB\n", nil, []string{"max_payload", "65536"}},
		{"proxy protocol", loopback + stored + userless + "proxy_protocol: true\n", nil, []string{"proxy_protocol"}},
		{"cluster without server_name", loopback + stored + userless + cluster, nil, []string{"server_name"}},
		{"cluster without name", loopback + stored + userless + "server_name: s\ncluster { listen: \"127.0.0.1:-1\" }\n", nil, []string{"cluster", "name"}},
		{"replicas without cluster", loopback + stored + userless, func(c *broker.FileConfig) { c.Replicas = 3 }, []string{"3 replicas", "no cluster"}},
		{"what nats-server refuses", loopback + stored + userless + "no_auth_user: nobody\n", nil, []string{"no_auth_user"}},
		{"websocket without TLS", loopback + stored + userless + "websocket { listen: \"127.0.0.1:-1\" }\n", nil, []string{"websocket requires TLS"}},

		// Anybody a client.
		{"open to all", stored + userless, nil, []string{"has no users", "--insecure"}},
		{"open to all by address", elsewhere + stored + userless, nil, []string{"192.0.2.1:4222"}},
		{"open by websocket", loopback + stored + userless + "websocket { listen: \"0.0.0.0:1\", no_tls: true }\n", nil, []string{"0.0.0.0:1", "has no users"}},
		{"open by mqtt", loopback + stored + userless + "server_name: s\nmqtt { listen: \"0.0.0.0:1\" }\n", nil, []string{"0.0.0.0:1", "has no users"}},
		{"open by leaf nodes", loopback + stored + userless + "leafnodes { listen: \"0.0.0.0:1\" }\n", nil, []string{"0.0.0.0:1", "has no users"}},
		{"no_auth_user", stored + someUser + "no_auth_user: u\n", nil, []string{"no_auth_user", "--insecure"}},
		{"no_auth_user by websocket", loopback + stored + someUser + "websocket { listen: \"0.0.0.0:1\", no_tls: true, no_auth_user: u }\n", nil, []string{"no_auth_user", "0.0.0.0:1"}},
		{"no_auth_user of the journal", loopback + stored + "accounts { PRESENCE { jetstream: enabled, users: [ { user: j, password: p } ] }, APP {} }\nno_auth_user: j\n",
			func(c *broker.FileConfig) { c.Insecure = true }, []string{"no_auth_user", "PRESENCE"}},
		{"no_auth_user of the system", loopback + stored + "system_account: SYS\naccounts { SYS { users: [ { user: s, password: p } ] }, " + journal + " APP {} }\nno_auth_user: s\n",
			func(c *broker.FileConfig) { c.Insecure = true }, []string{"no_auth_user", "SYS"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := broker.FileConfig{Path: writeConfig(t, c.text)}
			if c.change != nil {
				c.change(&cfg)
			}
			b, err := broker.StartFile(cfg)
			if err == nil {
				b.Shutdown()
				t.Fatalf("StartFile succeeded, want an error about %q", c.says)
			}
			if _, ok := errors.AsType[*broker.ConfigError](err); !ok {
				t.Errorf("got %T, want a *ConfigError", err)
			}
			if strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), cfg.Path) != 1 {
				t.Errorf("want one line that names the file once, got: %v", err)
			}
			if strings.Contains(err.Error(), "hunter 2") {
				t.Errorf("the error has a password: %v", err)
			}
			for _, w := range c.says {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q, want it to say %q", err, w)
				}
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(cfg.Path), "store", "jetstream")); err == nil {
				t.Error("the store was touched")
			}
		})
	}
}

func TestFileMissing(t *testing.T) {
	_, err := broker.StartFile(broker.FileConfig{Path: "/does/not/exist.conf"})
	if _, ok := errors.AsType[*broker.ConfigError](err); !ok || err.Error() != "/does/not/exist.conf: no such file or directory" {
		t.Errorf("got %T: %v", err, err)
	}
}

func TestFileWithOperatorRefused(t *testing.T) {
	operator, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	key, _ := operator.PublicKey()
	_, err = broker.StartFile(broker.FileConfig{Path: writeConfig(t, loopback+stored+"trusted_keys: [ "+key+" ]\n")})
	if _, ok := errors.AsType[*broker.ConfigError](err); !ok || !strings.Contains(err.Error(), "--creds") || !strings.Contains(err.Error(), "operator") {
		t.Errorf("got %v, want that there is an operator, and --creds", err)
	}
}

func TestFileWithoutOperatorRefusesCredentials(t *testing.T) {
	_, err := broker.StartFile(broker.FileConfig{Path: writeConfig(t, loopback+stored+userless), Credentials: true})
	if _, ok := errors.AsType[*broker.ConfigError](err); !ok || !strings.Contains(err.Error(), "--creds") || !strings.Contains(err.Error(), "no operator") {
		t.Errorf("got %v, want that there is no operator, and --creds", err)
	}
}

// A file with users: they have the permissions that the file gives them, nobody
// comes in without being one, and presenced's own users are added.
func TestFileWithUsers(t *testing.T) {
	b := startFile(t, loopback+stored+`
	  accounts {
	    PRESENCE { jetstream: enabled }
	    APP { users: [ { user: alice, password: pw, permissions: {
	      publish: [ "presence.v1.user.alice.>", "presence.v1.get" ], subscribe: [ "presence.v1.status.*", "_INBOX.alice.>" ] } } ] }
	  }`)
	if b.Open() {
		t.Error("Open: got true with users")
	}
	if nc, err := nats.Connect(b.ClientURL()); err == nil {
		nc.Close()
		t.Error("somebody without credentials was let in")
	}
	answer(t, connect(t, b, broker.Clients))
	client, errs := dial(t, b, nats.UserInfo("alice", "pw"), nats.CustomInboxPrefix("_INBOX.alice"))
	set, _ := subjects.Set("alice")
	if m, err := client.Request(set, nil, waitFor); err != nil || string(m.Data) != set {
		t.Errorf("Request(%s): got %v, %v", set, m, err)
	}
	other, _ := subjects.Set("bob")
	client.Publish(other, nil)
	wantDenied(t, errs, "publish "+other)

	// What presenced may not do as with Start, and may.
	denied := make(chan error, 10)
	nc := connect(t, b, broker.Clients, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	nc.Publish(set, nil)
	wantDenied(t, denied, "a request by presenced")
	events, err := client.SubscribeSync(subjects.AnyEvent())
	if err != nil {
		t.Fatal(err)
	}
	client.Flush()
	event, _ := subjects.Event("alice")
	connect(t, b, broker.Answers).Publish(event, nil)
	if _, err := events.NextMsg(waitFor); err != nil {
		t.Errorf("an event of presenced: %v", err)
	}
	js, err := jetstream.New(connect(t, b, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Errorf("creating a stream in the journal's account: %v", err)
	}
	if _, err := connect(t, b, broker.System).Request("$SYS.REQ.SERVER.PING", nil, waitFor); err != nil {
		t.Errorf("asking as a user of the system account: %v", err)
	}
}

// A file whose clients' account has no users is as Start: anybody on this
// machine is a client, and no client can forge or intercept.
func TestG13_FileWithoutUsers(t *testing.T) {
	b := startFile(t, loopback+stored+"system_account: SYS\naccounts { SYS {}, "+journal+" APP {} }\n")
	if !b.Open() || b.ClientsAccount() != broker.ClientsAccount {
		t.Errorf("Open: got %v in account %s", b.Open(), b.ClientsAccount())
	}
	answer(t, connect(t, b, broker.Clients))
	client, errs := dial(t, b)
	if _, err := client.Request(subjects.Get(), nil, waitFor); err != nil {
		t.Errorf("Request: %v", err)
	}
	event, _ := subjects.Event("alice")
	client.Publish(event, nil)
	wantDenied(t, errs, "publish "+event)
	set, _ := subjects.Set("alice")
	client.SubscribeSync(set)
	wantDenied(t, errs, "subscribe "+set)
}

func TestFileAllowsInAsManyWords(t *testing.T) {
	_, err := broker.StartFile(broker.FileConfig{Path: writeConfig(t, elsewhere+stored+userless), Insecure: true})
	if _, ok := errors.AsType[*broker.ConfigError](err); ok || err == nil || !strings.Contains(err.Error(), "cannot listen") {
		t.Errorf("with Insecure: got %v, want only that it cannot listen there", err)
	}
	b := startFile(t, loopback+stored+"accounts { ONE { jetstream: enabled } }\n", func(c *broker.FileConfig) {
		c.ClientsAccount, c.SingleAccount = "ONE", true
	})
	if b.ClientsAccount() != "ONE" {
		t.Errorf("ClientsAccount: got %s", b.ClientsAccount())
	}
	connect(t, b, broker.Journal)
}

// What should not come as a surprise is warned of, and nothing else is.
func TestFileWarnings(t *testing.T) {
	insecure := func(c *broker.FileConfig) { c.Insecure = true }
	for _, c := range []struct {
		name, text string
		change     func(*broker.FileConfig)
		says       []string
	}{
		{"none", loopback + stored + userless, nil, nil},
		{"not synced", loopback + "jetstream { store_dir: $STORE }\n" + userless, nil, []string{"power loss"}},
		{"a log", loopback + stored + userless + "log_file: x.log\n", nil, []string{"logging"}},
		{"without permissions", loopback + stored + "accounts { " + journal + " APP { users: [ { nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4 } ] } }\n", nil, []string{"can forge events"}},
		{"insecure", `listen: "0.0.0.0:-1"` + "\n" + stored + userless, insecure, []string{"ANYBODY"}},
		{"insecure for nothing", loopback + stored + userless, insecure, nil},
		{"one account", loopback + stored + "accounts { APP { jetstream: enabled } }\n", func(c *broker.FileConfig) { c.SingleAccount = true }, []string{"destroy"}},
	} {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))
		cfg := broker.FileConfig{Path: writeConfig(t, c.text), Logger: log}
		if c.change != nil {
			c.change(&cfg)
		}
		b, err := broker.StartFile(cfg)
		if err != nil {
			t.Fatalf("%s: StartFile: %v", c.name, err)
		}
		b.Shutdown()
		if got := strings.Count(out.String(), "\n"); got != len(c.says) {
			t.Errorf("%s: got %d warnings, want %d:\n%s", c.name, got, len(c.says), out.String())
		}
		for _, w := range c.says {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: got %s, want it to say %q", c.name, out.String(), w)
			}
		}
	}
}

// A file that requires TLS of clients requires none of presenced, and the URL
// says what clients need.
func TestFileWithTLS(t *testing.T) {
	file := servicetest.Certificates(t)
	for _, first := range []bool{false, true} {
		b := startFile(t, fmt.Sprintf("%s%s%s\ntls { cert_file: %q, key_file: %q, handshake_first: %v }\nclient_advertise: \"localhost\"\n", loopback, stored, someUser, file("server.pem"), file("server.key"), first))
		for _, a := range []broker.Account{broker.Clients, broker.Answers, broker.Journal, broker.System} {
			connect(t, b, a)
		}
		if !strings.HasPrefix(b.ClientURL(), "tls://localhost:") {
			t.Errorf("ClientURL: got %s, want the advertised one", b.ClientURL())
		}
		opts := []nats.Option{nats.UserInfo("u", "p"), nats.RootCAs(file("ca.pem"))}
		if first {
			opts = append(opts, nats.TLSHandshakeFirst())
		}
		dial(t, b, opts...)
	}
}

// An auth_callout decides about clients, and is not asked about presenced.
func TestFileWithAuthCallout(t *testing.T) {
	b := startFile(t, loopback+stored+`
	  accounts { PRESENCE { jetstream: enabled }, APP {}, AUTH { users: [ { user: auth, password: p } ] } }
	  authorization { auth_callout { issuer: ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA, account: AUTH, auth_users: [ auth ] } }`)
	for _, a := range []broker.Account{broker.Clients, broker.Answers, broker.Journal, broker.System} {
		connect(t, b, a)
	}
	if b.Open() {
		t.Error("Open: got true with an auth_callout")
	}
}

// The system account can ask a server to read its file again, in which there
// are no users of presenced.
func TestFileIsNotReadAgain(t *testing.T) {
	b := startFile(t, loopback+stored+userless)
	system := connect(t, b, broker.System)
	m, err := system.Request("$SYS.REQ.SERVER."+system.ConnectedServerId()+".RELOAD", nil, waitFor)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct{ Error json.RawMessage }
	if err := json.Unmarshal(m.Data, &reply); err != nil || !strings.Contains(string(reply.Error), "file") {
		t.Errorf("reload: got %s, want that there is no file", m.Data)
	}
	connect(t, b, broker.Journal)
}

func TestFileStoreInUse(t *testing.T) {
	path := writeConfig(t, loopback+stored+userless)
	b, err := broker.StartFile(broker.FileConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown()
	_, err = broker.StartFile(broker.FileConfig{Path: path})
	if err == nil || !strings.Contains(err.Error(), "in use by another presenced") {
		t.Errorf("got %v, want that the store is in use", err)
	}
	if _, ok := errors.AsType[*broker.ConfigError](err); ok {
		t.Error("a store in use is no fault of the file")
	}
}
