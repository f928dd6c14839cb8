package processes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"presence/cmd/presencectl/natsconfig"
	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// site is a presenced on a configuration that presencectl nats-config wrote.
type site struct {
	auth natsconfig.Auth
	dir  string // what was written
	// outside says that the server is one beside presenced.
	outside bool
	url     string
	daemon  *servicetest.Daemon
}

// The clients of a site. mallory is the one who attacks, A is who "=41" would be.
var siteArgs = []string{"--users", "alice,mallory,A", "--gateways", "gw1,gw2", "--readers", "reader", "--operators", "operator"}

// TestG13_GeneratedConfigurations attacks what presencectl nats-config wrote, with
// each kind of authentication, with the server inside presenced and beside it.
func TestG13_GeneratedConfigurations(t *testing.T) {
	t.Parallel()
	for _, auth := range natsconfig.Auths {
		for _, outside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,outside=%v", auth, outside), func(t *testing.T) {
				t.Parallel()
				s := startSite(t, auth, outside)
				t.Run("every row", func(t *testing.T) { everyRow(t, s) })
				t.Run("every trick", func(t *testing.T) { everyTrick(t, s) })
				t.Run("one account", func(t *testing.T) { oneAccountIsRefused(t, s) })
				t.Run("secrets", func(t *testing.T) { secretsAreNowhere(t, s) })
			})
		}
	}
}

// oneAccountIsRefused: presenced does not keep its journal where its clients are.
func oneAccountIsRefused(t *testing.T, s *site) {
	if !s.outside {
		return // the file says it: broker.TestFileRefused
	}
	args, env := []string{"--log-level", "error"}, s.env(t)
	if s.auth != natsconfig.Password {
		args = append(args, "--nats-url", s.url)
	}
	for i, v := range env {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PRESENCED_JOURNAL_") {
			_, clients, _ := strings.Cut(env[0], "=")
			env[i] = name + "=" + clients
		}
	}
	code, _, stderr := servicetest.RunDaemonIn(t, env, args...)
	if code != 1 || !strings.Contains(stderr, "both in the account") || !strings.Contains(stderr, "--single-account") {
		t.Errorf("with the clients' account for the journal: got exit code %d and %s", code, stderr)
	}
}

func startSite(t *testing.T, auth natsconfig.Auth, outside bool) *site {
	t.Helper()
	s := &site{auth: auth, outside: outside, dir: writeSite(t, auth)}
	config := filepath.Join(s.dir, natsconfig.ConfigFile)
	if outside {
		s.url = servicetest.StartNATSFile(t, config).URL()
	}
	s.start(t, config)
	return s
}

// writeSite has presencectl write a configuration, of a server on a free port.
func writeSite(t *testing.T, auth natsconfig.Auth) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "presence")
	args := append([]string{"nats-config", dir, "--auth", string(auth), "--listen", "127.0.0.1:-1"}, siteArgs...)
	if out, err := exec.Command(filepath.Join(servicetest.Build(t), "presencectl"), args...).CombinedOutput(); err != nil {
		t.Fatalf("presencectl %q: %v\n%s", args, err, out)
	}
	return dir
}

// start starts presenced as the configuration says, with secrets in the
// environment only.
func (s *site) start(t *testing.T, config string) {
	t.Helper()
	env, args := s.env(t), []string{"--grace", "200ms", "--log-level", "debug"}
	switch {
	case s.outside:
		if s.auth != natsconfig.Password { // there it is in the environment
			args = append(args, "--nats-url", s.url)
		}
	case s.auth == natsconfig.JWT:
		args = append(args, "--nats-config", config)
	default: // presenced enters by keys of its own
		env, args = nil, append(args, "--nats-config", config)
	}
	s.daemon = servicetest.StartDaemonIn(t, env, args...)
	if !s.outside {
		s.url = s.daemon.URL
	}
}

// env is the environment for presenced that was written, with the server's port.
func (s *site) env(t *testing.T) []string {
	t.Helper()
	env := strings.Fields(readFile(t, filepath.Join(s.dir, "presenced.env")))
	for i, v := range env {
		env[i] = strings.Replace(v, "127.0.0.1:-1", strings.TrimPrefix(s.url, "nats://"), 1)
	}
	return env
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// actor is somebody's connection, and what the broker refused on it.
type actor struct {
	*nats.Conn
	mu     sync.Mutex
	denied []string
}

// connect connects as one of the site's clients, or as one of presenced's users.
func (s *site) connect(t *testing.T, r protocol.Role, name string, more ...nats.Option) *actor {
	t.Helper()
	own := []nats.Option{s.credentials(t, r, name), nats.CustomInboxPrefix(r.InboxPrefix(name))}
	return newActor(t, s.url, append(own, more...)...)
}

// newActor connects to a server.
func newActor(t *testing.T, url string, opts ...nats.Option) *actor {
	t.Helper()
	a := &actor{}
	own := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.denied = append(a.denied, err.Error())
	})
	nc, err := nats.Connect(url, append(opts, own)...)
	if err != nil {
		t.Fatalf("connecting to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	a.Conn = nc
	return a
}

// credentials finds what was written for somebody.
func (s *site) credentials(t *testing.T, r protocol.Role, name string) nats.Option {
	t.Helper()
	file := string(r)
	if name != "" {
		file += "-" + name
	}
	path := filepath.Join(s.dir, file)
	switch s.auth {
	case callout:
		return nats.Token(string(r) + " " + name)
	case natsconfig.JWT:
		return nats.UserCredentials(path + ".creds")
	case natsconfig.NKey:
		login, err := nats.NkeyOptionFromSeed(path + ".nk")
		if err != nil {
			t.Fatal(err)
		}
		return login
	}
	if name == "" {
		name = file
	}
	for _, secret := range s.passwords(t) {
		if secret[0] == name {
			return nats.UserInfo(name, secret[1])
		}
	}
	t.Fatalf("there is no password of %s", name)
	return nil
}

// passwords returns all names and passwords of a site with such.
func (s *site) passwords(t *testing.T) (list [][2]string) {
	t.Helper()
	for line := range strings.Lines(readFile(t, filepath.Join(s.dir, "passwords"))) {
		name, password, _ := strings.Cut(strings.TrimSpace(line), " ")
		list = append(list, [2]string{name, password})
	}
	for line := range strings.Lines(readFile(t, filepath.Join(s.dir, "presenced.env"))) {
		_, url, _ := strings.Cut(strings.TrimSpace(line), "nats://")
		userinfo, _, _ := strings.Cut(url, "@")
		name, password, _ := strings.Cut(userinfo, ":")
		list = append(list, [2]string{name, password})
	}
	return list
}

// wasDenied waits until everything that the actor has done is judged, and returns
// what the broker refused since the last call.
func (a *actor) wasDenied(t *testing.T) []string {
	t.Helper()
	const canary = "nobody.may.publish.here"
	if err := a.Publish(canary, nil); err != nil {
		t.Fatal(err)
	}
	var list []string
	servicetest.Eventually(t, wire.Soon, "the broker to refuse the last of what was done", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		n := len(a.denied)
		if n == 0 || !strings.Contains(a.denied[n-1], canary) {
			return false
		}
		list, a.denied = a.denied[:n-1], nil
		return true
	})
	return list
}
