package natsconfig_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/cmd/presencectl/natsconfig"
	"presence/cmd/presencectl/natscontext"
	"presence/pkg/protocol"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// What the configurations do is tested where servers run them, in integration.

func generate(t *testing.T, cfg natsconfig.Config) map[string]string {
	t.Helper()
	files, err := natsconfig.Generate(cfg)
	if err != nil {
		t.Fatalf("Generate(%+v): %v", cfg, err)
	}
	if files[0].Name != natsconfig.ConfigFile {
		t.Errorf("the first file is %s, want %s", files[0].Name, natsconfig.ConfigFile)
	}
	byName := map[string]string{}
	for _, f := range files {
		byName[f.Name] = string(f.Data)
	}
	return byName
}

// No secret is in the configuration.
func TestConfigHasNoSecrets(t *testing.T) {
	for _, auth := range natsconfig.Auths {
		files := generate(t, natsconfig.Config{Auth: auth})
		config, secrets := files[natsconfig.ConfigFile], 0
		for name, text := range files {
			if name == natsconfig.ConfigFile || strings.HasSuffix(name, ".jwt") {
				continue
			}
			for word := range strings.FieldsSeq(text) {
				for _, part := range strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune(":@=/", r) }) {
					if len(part) < 26 || strings.HasPrefix(part, "PRESENCED_") {
						continue
					}
					secrets++
					if strings.Contains(config, part) {
						t.Errorf("%s: %s is in the configuration and in %s", auth, part, name)
					}
				}
			}
		}
		if secrets < 7 {
			t.Errorf("%s: found %d secrets in %d files, want one for each user", auth, secrets, len(files))
		}
	}
}

// Twice is not the same.
func TestSecretsDiffer(t *testing.T) {
	for _, auth := range natsconfig.Auths {
		a, b := generate(t, natsconfig.Config{Auth: auth}), generate(t, natsconfig.Config{Auth: auth})
		for name := range a {
			if holdsNone := name == "presenced.env" || strings.HasPrefix(name, "context/"); a[name] == b[name] && !(holdsNone && auth != natsconfig.Password) {
				t.Errorf("%s: %s is the same twice", auth, name)
			}
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	user := func(ids ...string) (list []natsconfig.Client) {
		for _, id := range ids {
			list = append(list, natsconfig.Client{Role: protocol.RoleUser, ID: id})
		}
		return list
	}
	for _, c := range []struct {
		cfg  natsconfig.Config
		says string
	}{
		{natsconfig.Config{Auth: "plain"}, "plain"},
		{natsconfig.Config{Auth: natsconfig.NKey, Prefix: "a..b"}, "prefix"},
		{natsconfig.Config{Auth: natsconfig.NKey, Listen: "4222"}, "host:port"},
		{natsconfig.Config{Auth: natsconfig.NKey, Clients: user("a\nb")}, "control character"},
		{natsconfig.Config{Auth: natsconfig.NKey, Clients: user("a", "a")}, "two users"},
		{natsconfig.Config{Auth: natsconfig.Password, Clients: append(user("gw1"), natsconfig.Client{Role: protocol.RoleGateway, ID: "gw1"})}, "two users"},
		{natsconfig.Config{Auth: natsconfig.Password, Clients: user("presenced")}, "two users"},
		{natsconfig.Config{Auth: natsconfig.JWT, Clients: []natsconfig.Client{{Role: protocol.RoleGateway, ID: "*"}}}, "gateway"},
	} {
		if _, err := natsconfig.Generate(c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Generate(%+v): got %v, want it to say %q", c.cfg, err, c.says)
		}
	}
}

// Everything written is its owner's only, and nothing is overwritten.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	files, err := natsconfig.Generate(natsconfig.Config{Auth: natsconfig.JWT, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := natsconfig.Write(dir, files...); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !info.IsDir() {
			n++
		}
		return err
	})
	if err != nil || n != len(files) {
		t.Errorf("got %d files, %v, want %d", n, err, len(files))
	}
	before, _ := os.ReadFile(filepath.Join(dir, "presenced.env"))
	os.Remove(filepath.Join(dir, natsconfig.ConfigFile))
	if err := natsconfig.Write(dir, files...); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Errorf("again: got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, natsconfig.ConfigFile)); err == nil {
		t.Error("some files were written although others were there")
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "presenced.env")); string(after) != string(before) {
		t.Error("a file was overwritten")
	}
}

// An issued JWT has the name of the user's token, no permissions of its own, and
// ends when it should.
func TestIssueJWT(t *testing.T) {
	dir := t.TempDir()
	files, err := natsconfig.Generate(natsconfig.Config{Auth: natsconfig.JWT, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := natsconfig.Write(dir, files...); err != nil {
		t.Fatal(err)
	}
	issued, err := natsconfig.Issue(natsconfig.Request{Auth: natsconfig.JWT, Client: natsconfig.Client{Role: protocol.RoleUser, ID: "bob@example.com"}, Dir: dir, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	const token = "bob=40example=2Ecom"
	if issued.Name != token || issued.InboxPrefix != "_INBOX.user."+token || len(issued.Files) != 2 || issued.Files[0].Name != "user-"+token+".creds" || issued.Files[1].Name != "context/"+token+".json" || issued.Entry != "" {
		t.Errorf("got %+v", issued)
	}
	text, err := jwt.ParseDecoratedJWT(issued.Files[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	uc, err := jwt.DecodeUserClaims(text)
	if err != nil {
		t.Fatal(err)
	}
	if uc.Name != token || !uc.HasEmptyPermissions() || uc.IssuerAccount == "" {
		t.Errorf("got the claims %+v", uc)
	}
	if ends := time.Until(time.Unix(uc.Expires, 0)); ends > time.Hour || ends < 50*time.Minute {
		t.Errorf("it expires in %v, want an hour", ends)
	}

	// A key that is not the role's is refused.
	gateway, err := os.ReadFile(filepath.Join(dir, "keys/role-gateway.nk"))
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "keys/role-user.nk"), gateway, 0o600)
	if _, err := natsconfig.Issue(natsconfig.Request{Auth: natsconfig.JWT, Client: natsconfig.Client{Role: protocol.RoleUser, ID: "bob"}, Dir: dir}); err == nil || !strings.Contains(err.Error(), "role user") {
		t.Errorf("with the key of gateways: got %v", err)
	}
	os.Remove(filepath.Join(dir, "keys/role-user.nk"))
	if _, err := natsconfig.Issue(natsconfig.Request{Auth: natsconfig.JWT, Client: natsconfig.Client{Role: protocol.RoleUser, ID: "bob"}, Dir: dir}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the key: got %v", err)
	}
}

func TestIssueEntry(t *testing.T) {
	for _, auth := range []natsconfig.Auth{natsconfig.Password, natsconfig.NKey} {
		issued, err := natsconfig.Issue(natsconfig.Request{Auth: auth, Client: natsconfig.Client{Role: protocol.RoleGateway, ID: "gw7"}, Prefix: "p"})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(issued.Entry, `"p.gateway.gw7.>"`) || strings.Contains(issued.Entry, issued.Secret) || issued.Secret == "" || len(issued.Files) != 0 {
			t.Errorf("%s: got %+v", auth, issued)
		}
		if auth == natsconfig.NKey {
			pair, err := nkeys.FromSeed([]byte(issued.Secret))
			if err != nil {
				t.Fatal(err)
			}
			if public, _ := pair.PublicKey(); !strings.Contains(issued.Entry, public) {
				t.Errorf("the entry %s is not of the key %s", issued.Entry, public)
			}
		}
	}
	if _, err := natsconfig.Issue(natsconfig.Request{Auth: natsconfig.Password, Client: natsconfig.Client{Role: protocol.RoleUser}}); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("without an ID: got %v", err)
	}
}

// The comments say of each file that a path in them is there.
func TestConfigNamesItsFiles(t *testing.T) {
	dir := "/etc/presence"
	for _, auth := range natsconfig.Auths {
		files := generate(t, natsconfig.Config{Auth: auth, Dir: dir})
		for line := range strings.Lines(files[natsconfig.ConfigFile] + files["presenced.env"]) {
			for word := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" \n=\",", r) }) {
				name, ok := strings.CutPrefix(word, dir+"/")
				if known := []string{"data", "server.pem", "server.key"}; ok && files[name] == "" && !slices.Contains(known, name) {
					t.Errorf("%s: %q names %s, which is not written", auth, line, name)
				}
			}
		}
	}
}

// TestContexts: each client has a context, and the path and the secret in it are its own.
func TestContexts(t *testing.T) {
	dir := t.TempDir()
	clients := []natsconfig.Client{{Role: protocol.RoleUser, ID: "alice"}, {Role: protocol.RoleUser, ID: "bob@example.com"}, {Role: protocol.RoleOperator, ID: "alice"}}
	for _, auth := range []natsconfig.Auth{natsconfig.NKey, natsconfig.JWT} {
		files := generate(t, natsconfig.Config{Auth: auth, Dir: dir, Listen: "0.0.0.0:4333", Clients: clients})
		for name, want := range map[string][2]string{
			"alice": {"user-alice", "_INBOX.user.alice"}, "bob=40example=2Ecom": {"user-bob=40example=2Ecom", "_INBOX.user.bob=40example=2Ecom"},
			"operator-alice": {"operator-alice", "_INBOX.operator.alice"},
		} {
			var c natscontext.Context
			if err := json.Unmarshal([]byte(files["context/"+name+".json"]), &c); err != nil {
				t.Fatalf("%s, %s: %v", auth, name, err)
			}
			secret, found := strings.CutPrefix(c.NKey+c.Creds, dir+"/")
			if !found || files[secret] == "" || !strings.HasPrefix(secret, want[0]+".") || c.InboxPrefix != want[1] || c.URL != "nats://127.0.0.1:4333" {
				t.Errorf("%s, %s: got %+v, want the secret of %s", auth, name, c, want)
			}
		}
	}
	files := generate(t, natsconfig.Config{Auth: natsconfig.Password, Dir: dir, Listen: "127.0.0.1:-1", Clients: clients[:2]})
	var c natscontext.Context
	if err := json.Unmarshal([]byte(files["context/alice.json"]), &c); err != nil || c.User != "alice" || !strings.Contains(files["passwords"], "alice "+c.Password+"\n") || c.URL != "" {
		t.Errorf("by password: got %+v, %v; a port that is not known has no URL", c, err)
	}
}

// TestIssue_Contexts: one more client has a context, too, if there is a directory. It knows
// from the configuration there where to connect.
func TestIssue_Contexts(t *testing.T) {
	dir := t.TempDir()
	files, err := natsconfig.Generate(natsconfig.Config{Auth: natsconfig.NKey, Dir: dir, Listen: "127.0.0.1:4333"})
	if err != nil {
		t.Fatal(err)
	}
	if err := natsconfig.Write(dir, files...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		auth      natsconfig.Auth
		id, url   string
		file, get string
	}{
		{natsconfig.NKey, "bob", "", "context/bob.json", "nats://127.0.0.1:4333"},
		{natsconfig.Password, "carol", "nats://10.0.0.1", "context/carol.json", "nats://10.0.0.1"},
		{natsconfig.NKey, "operator", "", "context/user-operator.json", "nats://127.0.0.1:4333"}, // the operator's is there
	} {
		issued, err := natsconfig.Issue(natsconfig.Request{Auth: c.auth, Client: natsconfig.Client{Role: protocol.RoleUser, ID: c.id}, Dir: dir, URL: c.url})
		if err != nil {
			t.Fatal(err)
		}
		last := issued.Files[len(issued.Files)-1]
		got := last.Context
		if last.Name != c.file || got.URL != c.get || (c.auth == natsconfig.NKey) != (got.NKey == filepath.Join(dir, "user-"+c.id+".nk")) || (c.auth == natsconfig.Password) != (got.Password == issued.Secret) {
			t.Errorf("%s: got %s with %+v", c.id, last.Name, got)
		}
	}
}
