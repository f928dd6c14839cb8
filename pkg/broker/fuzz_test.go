package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"
)

// These tests are white-box: a file is read and checked here without a server that
// starts on it. They generate files instead of fuzzing them by coverage, because to
// build nats-server for that takes minutes; make fuzz has them run for longer.

// genFile is a configuration file of which each part may be there or not, and may
// be right or wrong. $STORE is the test's directory.
var genFile = rapid.Custom(func(t *rapid.T) string {
	// usual is drawn seven times of eight, so that some files are right.
	pick := func(label, usual string, other ...string) string {
		if rapid.IntRange(0, 7).Draw(t, label+" unusual") < 7 {
			return usual
		}
		return rapid.SampledFrom(other).Draw(t, label)
	}
	account := func(name, jetstream string) string {
		return pick(name, name+" {"+
			pick("jetstream", jetstream, "", " jetstream: enabled", " JetStream: true", " jetstream { max_file: 1GB }", " jetstream: disabled", " jetstream: false")+
			pick("users", fmt.Sprintf("\nusers: [ { user: %s1, password: p } ]", name), fmt.Sprintf("\nusers [ { user: %s1, password: p, permissions { publish: [ x, \"$SYS.REQ.USER.INFO\" ] } }, { user: %s2, password: p } ]", name, name))+
			" }\n", name+" {"+jetstream+" }\n", "")
	}
	anyone := func() string {
		return rapid.SampledFrom([]string{"APP1", "APP2", "PRESENCE1", "PRESENCE2", "SYS1", "OTHER1", "nobody", "top"}).Draw(t, "anyone")
	}
	address := func() string {
		return pick("address", `"127.0.0.1:-1"`, `"127.0.0.1:-1"`, `"localhost:-1"`, `"192.0.2.1:1"`)
	}
	var b strings.Builder
	add := func(label, usual string, other ...string) { b.WriteString(pick(label, usual, other...)) }
	b.WriteString("listen: " + address() + "\n")
	add("store", "jetstream { store_dir: \"$STORE\" }\n", "jetstream { store_dir: \"$STORE\", sync_interval: always }\n", "jetstream: enabled\n", "")
	add("accounts", "accounts {\n"+account("PRESENCE", " jetstream: enabled")+account("APP", "")+account("SYS", "")+account("OTHER", "")+"}\n",
		"ACCOUNTS { APP {}, PRESENCE { JETSTREAM: enabled } }\n", "")
	add("more accounts", "", "Accounts { APP {}, PRESENCE { jetstream: enabled } }\n", "accounts { APP {}, PRESENCE {} }\n")
	add("system", "system_account: SYS\n", "", "system_account: "+pick("system_account", "APP", "PRESENCE", "OTHER")+"\n")
	if rapid.Bool().Draw(t, "no_auth_user") {
		b.WriteString("no_auth_user: " + anyone() + "\n")
	}
	add("authorization", "", "", "authorization { users: [ { user: top, password: p } ] }\n", "authorization { user: top, password: p }\n")
	add("name", "server_name: s\n", "")
	add("websocket", "", "websocket { no_tls: true, listen: "+address()+" }\n", "websocket { no_tls: true, listen: "+address()+", no_auth_user: "+anyone()+" }\n")
	add("mqtt", "", "", "mqtt { listen: "+address()+" }\n", "mqtt { listen: "+address()+", no_auth_user: "+anyone()+" }\n")
	return b.String()
})

// genFileConfig is what presenced may be told beside it.
var genFileConfig = rapid.Custom(func(t *rapid.T) FileConfig {
	return FileConfig{
		ClientsAccount: rapid.SampledFrom([]string{"", "", "", "", "", "OTHER", "PRESENCE", "SYS"}).Draw(t, "clients"),
		JournalAccount: rapid.SampledFrom([]string{"", "", "", "", "", "OTHER", "SYS"}).Draw(t, "journal"),
		SingleAccount:  rapid.SampledFrom([]bool{false, false, true}).Draw(t, "single"),
		Insecure:       rapid.Bool().Draw(t, "insecure"),
	}
})

// TestFile_Garbage: whatever a file holds, it is accepted, or refused in one line
// that does not show its passwords.
func TestFile_Garbage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nats.conf")
	rapid.Check(t, func(rt *rapid.T) {
		text := []byte(strings.ReplaceAll(genFile.Draw(rt, "file"), "password: p", "password: 'hunter 2'"))
		for range rapid.IntRange(0, 4).Draw(rt, "faults") {
			at := rapid.IntRange(0, len(text)).Draw(rt, "at")
			fault := rapid.OneOf(rapid.SampledFrom([]string{"{", "}", "[", "]", "\"", "'", "(", ")", "#", ":", "=", "$x", "x: $x\n", "\ninclude nats.conf\n", "include \"./nats.conf\"", "\x00", "\xff"}),
				rapid.String()).Draw(rt, "fault")
			upTo := min(len(text), at+rapid.IntRange(0, 8).Draw(rt, "lost"))
			text = append(append(append([]byte{}, text[:at]...), fault...), text[upTo:]...)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			rt.Fatal(err)
		}
		f, err := readFile(FileConfig{Path: path}.withDefaults())
		if err == nil {
			err = f.check()
		}
		if err != nil {
			err = oneLine(err)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(err.Error(), "hunter 2")) {
			rt.Errorf("several lines, or a password: %q", err)
		}
	})
}

// TestG13_AcceptedFiles: on whatever file presenced starts, who brings no credentials
// is neither where the journal is nor in the system account, on every listener, and
// the journal is where it should be.
func TestG13_AcceptedFiles(t *testing.T) {
	started := 0
	rapid.Check(t, func(rt *rapid.T) {
		text, cfg := genFile.Draw(rt, "file"), genFileConfig.Draw(rt, "config")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		cfg.Path = filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(cfg.Path, []byte(strings.ReplaceAll(text, "$STORE", filepath.Join(dir, "store"))), 0o600); err != nil {
			rt.Fatal(err)
		}
		b, err := StartFile(cfg)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				rt.Errorf("several lines: %q", err)
			}
			return
		}
		defer b.Shutdown()
		started++
		cfg = cfg.withDefaults()
		urls := []string{b.ClientURL()}
		if u := b.WebSocketURL(); strings.HasPrefix(u, "ws://127.") || strings.HasPrefix(u, "ws://localhost:") {
			urls = append(urls, u)
		}
		for _, url := range urls {
			account := anyoneAt(rt, url)
			if account == b.names.system || account == cfg.JournalAccount && !cfg.SingleAccount {
				rt.Errorf("on %s who brings no credentials is in the account %s", url, account)
			}
		}
		if cfg.ClientsAccount == cfg.JournalAccount && !cfg.SingleAccount {
			rt.Error("clients and journal share an account, and nobody said so")
		}
		checkPlaces(rt, b, cfg)
	})
	t.Logf("presenced started on %d of them", started)
	if started == 0 {
		t.Error("presenced started on none")
	}
}

// anyoneAt returns the account of who connects without credentials; empty where
// that is refused.
func anyoneAt(t *rapid.T, url string) string {
	var nc *nats.Conn
	for attempt := 0; nc == nil; attempt++ {
		var err error
		nc, err = nats.Connect(url, nats.NoReconnect(), nats.Timeout(10*time.Second))
		if errors.Is(err, nats.ErrAuthorization) {
			return ""
		}
		if err != nil && attempt == 10 { // it may be closed before it says why
			t.Fatalf("connecting to %s: %v", url, err)
		}
	}
	defer nc.Close()
	return accountOn(t, nc)
}

// accountOn asks the server in which account a connection is.
func accountOn(t *rapid.T, nc *nats.Conn) string {
	m, err := nc.Request("$SYS.REQ.USER.INFO", nil, 10*time.Second)
	if err != nil {
		t.Fatalf("asking who one is: %v", err)
	}
	var reply struct {
		Data struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		t.Fatal(err)
	}
	return reply.Data.Account
}

// checkPlaces checks that presenced's own connections are where they should be.
func checkPlaces(t *rapid.T, b *Broker, cfg FileConfig) {
	for a, want := range map[Account]string{Answers: cfg.ClientsAccount, Journal: cfg.JournalAccount} {
		nc, err := b.Connect(a)
		if err != nil {
			t.Fatalf("connecting as %v: %v", a, err)
		}
		defer nc.Close()
		if got := accountOn(t, nc); got != want {
			t.Errorf("as %v presenced is in the account %s, want %s", a, got, want)
		}
		if a != Journal {
			continue
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.AccountInfo(t.Context()); err != nil {
			t.Errorf("the journal's account has no JetStream: %v", err)
		}
	}
}
