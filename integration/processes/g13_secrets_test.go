package processes

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// secretsAreNowhere looks for every secret of a site in what is written, by
// presenced at its chattiest while it is attacked, by presencectl with the same
// secrets in its environment, and in the command lines of both.
func secretsAreNowhere(t *testing.T, s *site) {
	secrets := s.secrets(t)
	if len(secrets) < 10 {
		t.Fatalf("found no more than %d secrets", len(secrets))
	}
	clean := func(what, text string) {
		t.Helper()
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows the secret %s:\n%s", what, secret, text)
			}
		}
	}
	mallory := s.connect(t, protocol.RoleUser, "mallory")
	mallory.Publish(wire.To(protocol.OpSet, "alice"), nil)
	mallory.wasDenied(t)
	if nc, err := nats.Connect(s.url, nats.UserInfo("alice", "wrong")); err == nil {
		nc.Close()
		t.Error("alice was let in with a wrong password")
	}
	clean("presenced's command line", s.daemon.CommandLine(t))

	ctl := filepath.Join(servicetest.Build(t), "presencectl")
	for _, args := range [][]string{{"get", "alice"}, {"get", "--help"}, {"nats-user", "--help"}, {"--server", "nats://presenced:" + secrets[0] + "@127.0.0.1:1", "get", "alice"}} {
		cmd := exec.Command(ctl, args...)
		cmd.Env = append(cmd.Environ(), "NATS_URL="+s.url, "NATS_USER=alice", "NATS_PASSWORD="+secrets[0], "XDG_CONFIG_HOME=/nonexistent")
		out, _ := cmd.CombinedOutput() // with a wrong password it fails
		clean("presencectl "+args[0], string(out))
	}
	s.daemon.Stop(t)
	clean("presenced", s.daemon.Stdout()+s.daemon.Stderr())

	// The same environment, and what cannot work.
	code, stdout, stderr := servicetest.RunDaemonIn(t, s.env(t), "--help")
	if code != 0 {
		t.Errorf("--help: got exit code %d", code)
	}
	clean("presenced --help", stdout+stderr)
	code, stdout, stderr = servicetest.RunDaemonIn(t, append(s.env(t), "PRESENCED_NATS_URL=nats://presenced:"+secrets[0]+"@127.0.0.1:1"), "--single-account")
	if code == 0 {
		t.Error("presenced started without a server")
	}
	clean("presenced without a server", stdout+stderr)
}

// secrets returns all passwords, seeds and keys of a site.
func (s *site) secrets(t *testing.T) (list []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(s.dir, "keys", "*.nk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, keys...) {
		switch filepath.Ext(path) {
		case ".nk":
			list = append(list, strings.TrimSpace(readFile(t, path)))
		case ".creds":
			text := readFile(t, path)
			for line := range strings.Lines(text) {
				if line = strings.TrimSpace(line); strings.HasPrefix(line, "SU") || strings.HasPrefix(line, "eyJ") {
					list = append(list, line)
				}
			}
		}
	}
	if len(list) == 0 {
		for _, secret := range s.passwords(t) {
			list = append(list, secret[1])
		}
	}
	return list
}
