package broker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

// rewritable starts a server of a file, and returns a function that writes the file anew and reloads it.
func rewritable(t *testing.T, text string, changes ...func(*broker.FileConfig)) (b *broker.Broker, reload func(text string) error) {
	t.Helper()
	var path string
	b = startFile(t, text, append(changes, func(c *broker.FileConfig) { path = c.Path })...)
	return b, func(text string) error {
		t.Helper()
		text = strings.ReplaceAll(text, "$STORE", filepath.Join(filepath.Dir(path), "store"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return b.Reload()
	}
}

func usersOf(list ...string) string {
	var users []string
	for _, name := range list {
		users = append(users, "{ user: "+name+", password: \"secret-of-"+name+"\", permissions: { publish: \"_INBOX.>\", subscribe: \"_INBOX.>\" } }")
	}
	return "accounts { " + journal + " APP { users: [ " + strings.Join(users, ", ") + "] } }\n"
}

// TestReload: users come and go, and presenced's own connections stay.
func TestReload(t *testing.T) {
	t.Parallel()
	b, reload := rewritable(t, loopback+stored+usersOf("alice"))
	own := map[string]*nats.Conn{}
	for _, a := range []broker.Account{broker.Clients, broker.Answers, broker.Journal, broker.System} {
		nc := connect(t, b, a)
		own[nc.Opts.Name] = nc
	}
	as := func(name string) error {
		nc, err := nats.Connect(b.ClientURL(), nats.UserInfo(name, "secret-of-"+name))
		if err == nil {
			nc.Close()
		}
		return err
	}
	if as("alice") != nil || as("bob") == nil {
		t.Fatal("alice is let in before, bob is not")
	}
	for n := range 3 {
		if err := reload(loopback + stored + usersOf("bob", "carol")); err != nil {
			t.Fatalf("reload %d: %v", n+1, err)
		}
	}
	if as("alice") == nil || as("bob") != nil || as("carol") != nil {
		t.Errorf("afterwards bob and carol are let in, alice is not: got %v, %v, %v", as("alice"), as("bob"), as("carol"))
	}
	for name, nc := range own {
		if err := nc.FlushTimeout(waitFor); err != nil || nc.Stats().Reconnects != 0 {
			t.Errorf("%s: got %v after %d reconnects, want it to stay", name, err, nc.Stats().Reconnects)
		}
	}
}

// TestReload_Refused: a file that is wrong, or changes what cannot change, changes nothing. The
// error says what and has no secrets.
func TestReload_Refused(t *testing.T) {
	t.Parallel()
	good := loopback + stored + usersOf("alice")
	b, reload := rewritable(t, good+"server_name: s\n")
	for _, c := range []struct{ name, text, says string }{
		{"not the language", good + "accounts {\n", "line "},
		{"unknown field", good + "server_name: s\nlisen: 1\n", "line 6"},
		{"no journal", loopback + stored + "server_name: s\naccounts { APP {} }\n", "no account PRESENCE"},
		{"open elsewhere", elsewhere + stored + "server_name: s\n" + userless, "has no users"},
		{"a listener", good + "server_name: s\nwebsocket { listen: \"127.0.0.1:-1\", no_tls: true, authorization { user: u, password: \"hunter2\" } }\n", "websocket cannot change while the server runs"},
		{"an address", "listen: \"127.0.0.2:-1\"\nserver_name: s\n" + stored + usersOf("alice", "bob"), "listen cannot change while the server runs"},
		{"a name", good + "server_name: another\n", "server_name cannot change"},
		{"the store", loopback + "server_name: s\njetstream { store_dir: /elsewhere, sync_interval: always }\n" + usersOf("alice", "bob"), "jetstream storage directory cannot change"},
		{"durability", loopback + "server_name: s\njetstream { store_dir: $STORE }\n" + usersOf("alice", "bob"), "jetstream sync_interval cannot change"},
		{"no users any more", loopback + stored + "server_name: s\n" + userless, "whether clients need credentials"},
	} {
		err := reload(c.text)
		if _, ok := errors.AsType[*broker.ConfigError](err); !ok || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want a ConfigError that says %q", c.name, err, c.says)
			continue
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %q, want one line without secrets", c.name, err)
		}
		if nc, err := nats.Connect(b.ClientURL(), nats.UserInfo("bob", "secret-of-bob")); err == nil {
			nc.Close()
			t.Errorf("%s: bob of the refused file is let in", c.name)
		}
	}
	if err := reload(good + "server_name: s\n"); err != nil {
		t.Errorf("the first file again: %v", err)
	}
}

// TestReload_Mapping: a mapping that a reload adds makes other subjects of the clients' messages.
// So the broker no longer says that nobody listens.
func TestReload_Mapping(t *testing.T) {
	t.Parallel()
	b, reload := rewritable(t, loopback+stored+"accounts { "+journal+" APP {} }\n")
	if b.Interested("a") {
		t.Fatal("nobody subscribes")
	}
	if err := reload(loopback + stored + "accounts { " + journal + " APP { mappings: { a: b } } }\n"); err != nil {
		t.Fatal(err)
	}
	if !b.Interested("a") {
		t.Error("with a mapping, got that nobody listens")
	}
	if err := reload(loopback + stored + "accounts { " + journal + " APP {} }\n"); err != nil {
		t.Fatal(err)
	}
	if b.Interested("a") {
		t.Error("without it, somebody listens")
	}
}
