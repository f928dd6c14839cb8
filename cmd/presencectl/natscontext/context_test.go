package natscontext

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"presence/pkg/service/servicetest"
)

// home makes a directory of contexts, and returns what writes a file of it.
func home(t *testing.T) (dir string, write func(name, text string) string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	return dir, func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// options are what a context of this text makes of a connection.
func options(t *testing.T, text string) (o nats.Options, err error) {
	t.Helper()
	_, write := home(t)
	write("nats/context/c.json", text)
	c, err := Load(t.Context(), "c")
	if err != nil {
		return o, err
	}
	list, err := c.Options(t.Context())
	if err != nil {
		return o, err
	}
	for _, opt := range list {
		if err := opt(&o); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return o, nil
}

func TestLoad(t *testing.T) {
	_, write := home(t)
	if name, err := Selected(); name != "" || err != nil {
		t.Errorf("none is selected: got %q, %v", name, err)
	}
	if url := new(Context).ServerURL(); url != nats.DefaultURL {
		t.Errorf("without a context: got %s, want %s", url, nats.DefaultURL)
	}
	dev := write("nats/context/dev.json", `{"description":"d","url":"nats://a,nats://b","jetstream_domain":"x","color_scheme":"","unknown":1}`)
	write("nats/context.txt", "dev\n")
	selected, err := Selected()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{selected, "dev", dev} {
		if c, err := Load(t.Context(), name); err != nil || c.Name != "dev" || c.ServerURL() != "nats://a,nats://b" {
			t.Errorf("Load(%q): got %+v, %v", name, c, err)
		}
	}
	if _, err := Load(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	for _, name := range []string{"../context/dev", "a/b", `a\b`, dev + ".json"} {
		if _, err := Load(t.Context(), name); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("Load(%q): got %v, want that it is no name", name, err)
		}
	}
}

// TestSelected_Unreadable: where it cannot be read which context is selected, that is an
// error. To go on without a context would ask another server, without credentials.
func TestSelected_Unreadable(t *testing.T) {
	_, write := home(t)
	write("nats/context.txt/in-the-way", "")
	if name, err := Selected(); err == nil {
		t.Errorf("got the name %q, want an error", name)
	}
}

// TestLoad_WrongTypes: the error names the field as the file does, and nothing of Go.
func TestLoad_WrongTypes(t *testing.T) {
	for text, want := range map[string]string{
		`{"url":7}`:                  "url cannot be a JSON number",
		`{"creds":["a"]}`:            "creds cannot be a JSON array",
		`{"tls_first":"yes"}`:        "tls_first cannot be a JSON string",
		`["nats://127.0.0.1:4222"]`:  "it is a JSON array, not an object",
		`"nats://127.0.0.1:4222"`:    "it is a JSON string, not an object",
		`{"url":"nats://a"} {"b":1}`: "invalid character '{' after top-level value",
	} {
		if _, err := options(t, text); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestExpand: ~bob is the home directory of bob.
func TestExpand(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DIR", "/dir")
	for path, want := range map[string]string{
		"~/x": me.HomeDir + "/x", "~": me.HomeDir, "~" + me.Username + "/x": me.HomeDir + "/x", "~" + me.Username: me.HomeDir,
		"~no-such-user-here/x": "~no-such-user-here/x", "/a/~/x": "/a/~/x", "$DIR/x": "/dir/x", "x": "x",
	} {
		if got := expand(path); got != want {
			t.Errorf("expand(%q): got %q, want %q", path, got, want)
		}
	}
}

func TestOptions_Secrets(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, []byte("hidden\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET", "hidden")
	encoded := "data:;base64," + base64.StdEncoding.EncodeToString([]byte("hidden"))
	for text, want := range map[string]string{
		"hidden": "hidden", "file://" + kept: "hidden", "env://SECRET": "hidden", "ENV://SECRET": "hidden", encoded: "hidden",
		"a:b": "a:b", "https://x": "https://x", "env:SECRET": "env:SECRET", "$SECRET": "$SECRET",
	} {
		o, err := options(t, `{"user":"u","password":"`+text+`"}`)
		if err != nil || o.User != "u" || o.Password != want {
			t.Errorf("password %q: got %q, %v, want %q", text, o.Password, err, want)
		}
		if o, err = options(t, `{"token":"`+text+`"}`); err != nil || o.Token != want {
			t.Errorf("token %q: got %q, %v, want %q", text, o.Token, err, want)
		}
		if o, err = options(t, `{"user_jwt":"`+text+`"}`); err != nil {
			t.Errorf("user_jwt %q: %v", text, err)
		} else if jwt, err := o.UserJWT(); jwt != want || err != nil {
			t.Errorf("user_jwt %q: got %q, %v, want %q", text, jwt, err, want)
		}
	}
}

// TestOptions_Keys has a seed in each place where it can be, and signs with it.
func TestOptions_Keys(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := pair.Seed()
	public, _ := pair.PublicKey()
	creds := "-----BEGIN NATS USER JWT-----\nthe.jwt.x\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n" + string(seed) + "\n------END USER NKEY SEED------\n"
	dir := t.TempDir()
	for name, text := range map[string]string{"u.creds": creds, "u.nk": string(seed)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HERE", dir)
	t.Setenv("CREDS", creds)
	t.Setenv("SEED", string(seed))
	encode := func(text string) string { return "data:;base64," + base64.StdEncoding.EncodeToString([]byte(text)) }
	for text, jwt := range map[string]string{
		`{"creds":"` + dir + `/u.creds"}`:                   "the.jwt.x",
		`{"creds":"file://` + dir + `/u.creds"}`:            "the.jwt.x",
		`{"creds":"$HERE/u.creds"}`:                         "the.jwt.x",
		`{"creds":"env://CREDS","nkey":"not used"}`:         "the.jwt.x",
		`{"creds":"` + encode(creds) + `"}`:                 "the.jwt.x",
		`{"nkey":"$HERE/u.nk"}`:                             "",
		`{"nkey":"env://SEED"}`:                             "",
		`{"nkey":"` + encode(string(seed)) + `"}`:           "",
		`{"user_jwt":"the.jwt.x","user_seed":"env://SEED"}`: "the.jwt.x",
	} {
		o, err := options(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if jwt != "" {
			if got, err := o.UserJWT(); got != jwt || err != nil {
				t.Errorf("%s: got the JWT %q, %v", text, got, err)
			}
		} else if o.Nkey != public {
			t.Errorf("%s: got the key %q, want %q", text, o.Nkey, public)
		}
		if signed, err := o.SignatureCB([]byte("nonce")); err != nil || pair.Verify([]byte("nonce"), signed) != nil {
			t.Errorf("%s: the signature is not the user's: %v", text, err)
		}
	}
}

func TestOptions_TLS(t *testing.T) {
	file := servicetest.Certificates(t)
	o, err := options(t, `{"cert":"`+file("client.pem")+`","key":"`+file("client.key")+`","ca":"file://`+file("ca.pem")+`","tls_first":true,"inbox_prefix":"_I.x"}`)
	if err != nil || o.TLSCertCB == nil || o.RootCAsCB == nil || !o.TLSHandshakeFirst || o.InboxPrefix != "_I.x" {
		t.Fatalf("got %+v, %v", o, err)
	}
	if _, err := o.TLSCertCB(); err != nil {
		t.Error(err)
	}
	if _, err := o.RootCAsCB(); err != nil {
		t.Error(err)
	}
}

// TestOptions_Refused: what is set and cannot be used is told, without the secret.
func TestOptions_Refused(t *testing.T) {
	for text, want := range map[string]string{
		`{"url":`:                                "unexpected end",
		`{"cert":"/c.pem"}`:                      "cert and key",
		`{"key":"/k.pem"}`:                       "cert and key",
		`{"ca":"env://CA"}`:                      "ca: it must be a file",
		`{"windows_cert_store":"user"}`:          "windows_cert_store",
		`{"user_seed":"sekrit"}`:                 "user_seed",
		`{"token":"env://NOT_SET_ANYWHERE"}`:     "token: the variable NOT_SET_ANYWHERE",
		`{"token":"data:,sekrit"}`:               "token: the data is not base64",
		`{"creds":"data:;base64,c2Vrcml0"}`:      "creds: ",
		`{"nkey":"/not/there"}`:                  "no such file",
		`{"nkey":"data:;base64,c2Vrcml0"}`:       "nkey: ",
		`{"user":"u","password":"file:///no"}`:   "password: open /no",
		`{"socks_proxy":"socks5://u:sekrit@:x"}`: "socks_proxy: the URL is not valid",
		`{"socks_proxy":"gopher://localhost"}`:   "socks_proxy: ",
	} {
		_, err := options(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sekrit") {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}

// TestOptions_Programs: nsc and op are run, with what the context says.
func TestOptions_Programs(t *testing.T) {
	dir, write := home(t)
	creds := write("creds", "-----BEGIN NATS USER JWT-----\nthe.jwt.x\n------END NATS USER JWT------\n")
	write("nsc", "#!/bin/sh\n[ \"$*\" = 'generate profile nsc://O/A/u' ] || { echo no such user >&2; exit 1; }\n"+
		`echo '{"user_creds":"`+creds+`","operator":{"service":["nats://a","nats://b"]}}'`)
	write("op", "#!/bin/sh\n[ \"$*\" = 'read op://v/i/f' ] && echo hidden")
	for _, name := range []string{"nsc", "op"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, ref := range []string{"nsc://O/A/u", "O/A/u"} {
		write("nats/context/n.json", `{"nsc":"`+ref+`"}`)
		if c, err := Load(t.Context(), "n"); err != nil || c.Creds != creds || c.ServerURL() != "nats://a,nats://b" {
			t.Errorf("nsc %s: got %+v, %v", ref, c, err)
		}
	}
	write("nats/context/n.json", `{"nsc":"O/A/none"}`)
	if _, err := Load(t.Context(), "n"); err == nil || !strings.Contains(err.Error(), "no such user") {
		t.Errorf("got %v, want what nsc said", err)
	}
	if o, err := options(t, `{"token":"op://v/i/f"}`); err != nil || o.Token != "hidden" {
		t.Errorf("op: got %q, %v", o.Token, err)
	}
}

// TestOptions_Proxy: the connection is made through the proxy, to where it says.
func TestOptions_Proxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	greeting := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 3)
		_, _ = io.ReadFull(c, b)
		greeting <- string(b)
	}()
	o, err := options(t, `{"socks_proxy":"socks5://`+l.Addr().String()+`"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.CustomDialer.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a proxy that hangs up is no error")
	}
	if got := <-greeting; got != "\x05\x01\x00" { // version 5, one method: none
		t.Errorf("the proxy was greeted by %q", got)
	}
}
