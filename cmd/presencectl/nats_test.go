package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNATSConfigIntoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "presence")
	c := ctl(t, "nats-config", dir, "--auth", "jwt", "--users", "alice,bob@example.com", "--gateways", "gw1", "--prefix", "p.q").want(t, exitDone, "presencectl: wrote "+dir+": nats.conf …")
	if c.stdout.String() != "" {
		t.Errorf("stdout %q, want none", c.stdout.String())
	}
	for _, name := range []string{"nats.conf", "presenced.env", "user-alice.creds", "user-bob=40example=2Ecom.creds", "gateway-gw1.creds", "keys/role-user.nk"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	ctl(t, "nats-config", dir, "--auth", "jwt").want(t, exitFailed, "presencectl: "+filepath.Join(dir, "nats.conf")+" is there already and is not overwritten")

	ctl(t, "nats-user", "--auth", "jwt", "--dir", dir, "reader", "dash").want(t, exitDone,
		"presencectl: wrote "+filepath.Join(dir, "reader-dash.creds")+" and "+filepath.Join(dir, "context/dash.json")+", of dash, whose inbox prefix is _INBOX.reader.dash")
	if all := c.stderr.String(); !strings.Contains(all, "all other files but keys/account-APP.jwt are secret") {
		t.Errorf("stderr %q", all)
	}
	empty := t.TempDir()
	ctl(t, "nats-user", "--auth", "jwt", "--dir", empty, "reader", "dash").want(t, exitFailed,
		"presencectl: "+empty+" is not a directory of nats-config --auth jwt: there is no keys/account-APP.jwt")
	c = ctl(t, "nats-config", empty).want(t, exitDone, "presencectl: wrote …")
	if all := c.stderr.String(); !strings.Contains(all, "all other files are secret") {
		t.Errorf("stderr %q", all)
	}
	file := filepath.Join(empty, "nats.conf")
	ctl(t, "nats-config", file).want(t, exitFailed, "presencectl: lstat "+filepath.Join(file, "nats.conf")+": not a directory")
}

// Without a directory the configuration can be piped, and the secrets are on
// stderr.
func TestNATSConfigToStdout(t *testing.T) {
	c := ctl(t, "nats-config", "--readers", "", "--listen", "127.0.0.1:4333")
	if out := c.stdout.String(); c.code != exitDone || !strings.HasPrefix(out, "# NATS for the presence service") || !strings.Contains(out, `listen: "127.0.0.1:4333"`) || strings.Contains(out, "_INBOX.reader.reader") {
		t.Errorf("got %d and\n%s", c.code, out)
	}
	_, secrets, _ := strings.Cut(c.stderr.String(), "# passwords\n")
	name, password, ok := strings.Cut(strings.SplitN(secrets, "\n", 2)[0], " ")
	if !ok || name != "alice" || len(password) < 26 || strings.Contains(c.stdout.String(), password) {
		t.Errorf("got on stderr\n%s", c.stderr.String())
	}

	c = ctl(t, "nats-user", "user", "bob")
	if out := c.stdout.String(); c.code != exitDone || !strings.Contains(out, `"presence.v1.user.bob.>"`) || !strings.Contains(c.stderr.String(), "_INBOX.user.bob") {
		t.Errorf("nats-user: got %d, %s%s", c.code, out, c.stderr.String())
	}
}

func TestNATSConfigWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"nats-config a b", exitUsage, "presencectl: name one DIRECTORY, not 2 (see presencectl nats-config --help)"},
		{"nats-config --auth none", exitUsage, "presencectl: …"},
		{"nats-config --listen 4222", exitFailed, `presencectl: the listen address "4222" is not host:port`},
		{"nats-config --gateways a.b", exitFailed, `presencectl: gateway "a.b": …`},
		{"nats-user user", exitUsage, "presencectl: name a role (user, gateway, reader or operator) and an ID (see presencectl nats-user --help)"},
		{"nats-config --contexts", exitUsage, "presencectl: --contexts goes with a DIRECTORY, where the secrets are"},
		{"nats-user user bob --contexts", exitUsage, "presencectl: --contexts goes with --dir, where the secret is then"},
		{"nats-user user bob --dir x --force", exitUsage, "presencectl: --force goes with --contexts"},
		{"nats-user presenced x", exitUsage, "presencectl: the role …"},
		{"nats-user user alice --expires 1h", exitUsage, "presencectl: --expires goes with --auth jwt"},
		{"nats-user operator *", exitFailed, `presencectl: operator "*": …`},
	} {
		if out := ctl(t, strings.Fields(c.args)...).want(t, c.code, c.stderr).stdout.String(); out != "" {
			t.Errorf("%s: stdout %q, want none", c.args, out)
		}
	}
}

// TestNATSConfig_Contexts: with --contexts each client's context is found by its name. One
// that somebody else wrote is in the way, and then nothing is written.
func TestNATSConfig_Contexts(t *testing.T) {
	home, dir := t.TempDir(), filepath.Join(t.TempDir(), "presence")
	t.Setenv("XDG_CONFIG_HOME", home)
	alice := filepath.Join(home, "nats", "context", "alice.json")
	addr := closedPort(t)
	if err := os.MkdirAll(filepath.Dir(alice), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alice, []byte(`{"url":"nats://other"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctl(t, "nats-config", dir, "--contexts", "--listen", addr).want(t, exitFailed,
		"presencectl: the nats context "+alice+" is there already, and is another's (--force replaces it)")
	if _, err := os.Stat(dir); err == nil {
		t.Error("some files were written although a context is in the way")
	}
	ctl(t, "nats-config", dir, "--listen", addr).want(t, exitDone, "presencectl: wrote …") // it is nobody's business then
	ctl(t, "nats-config", dir+"2", "--contexts", "--force", "--auth", "nkey", "--listen", addr).want(t, exitDone, "presencectl: wrote nats contexts …")
	ctl(t, "nats-user", "--dir", dir+"2", "--auth", "nkey", "--contexts", "user", "bob").want(t, exitDone, "presencectl: wrote nats contexts …")
	for _, name := range []string{"alice", "bob", "operator", filepath.Join(dir, "context", "gw1.json")} {
		ctl(t, "get", "x", "--context", name).want(t, exitFailed, "presencectl: no NATS server at "+addr+` (nats context "`+strings.TrimSuffix(filepath.Base(name), ".json")+`"): is presenced running? (start it with: presenced)`)
	}
}
