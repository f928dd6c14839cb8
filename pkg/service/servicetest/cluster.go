package servicetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster is a NATS cluster with the accounts and users of StartNATS. Each server is a process of
// its own, so that it can be killed and paused. The servers do not tell clients of other URLs, so a
// client that is behind a proxy stays there.
type Cluster struct {
	// Servers in the order of their names, nats0, nats1 and so on.
	Servers []*ClusterServer

	admin jetstream.JetStream // of the journal's account
}

// ClusterServer is one server of a Cluster.
type ClusterServer struct {
	// Name is the server's name in JetStream.
	Name string
	// URL is where clients connect. It stays the same over a restart.
	URL string

	config, file, listen, dataDir string
	Process
}

// StartCluster starts a cluster of n servers on free ports, with data in directories of the test.
// It waits until the cluster stores with n replicas. The servers are killed when the test ends.
// More lines of configuration take precedence. The servers are processes of the test binary, so
// its TestMain must call Main.
func StartCluster(t testing.TB, n int, more ...string) *Cluster {
	t.Helper()
	ports := freePorts(t, 2*n)
	var routes []string
	for _, port := range ports[n:] {
		routes = append(routes, "nats://"+port)
	}
	c := &Cluster{}
	for i := range n {
		s := &ClusterServer{Name: fmt.Sprint("nats", i), URL: "nats://" + ports[i], listen: ports[i], dataDir: t.TempDir()}
		s.file = filepath.Join(t.TempDir(), s.Name+".conf")
		s.config = natsConfig + fmt.Sprintf(`
server_name: %s
cluster { name: presence-test, listen: %q, routes: [ %s ], no_advertise: true }
`, s.Name, ports[n+i], strings.Join(routes, ", ")) + strings.Join(more, "\n")
		s.Configure(t)
		c.Servers = append(c.Servers, s)
		s.start(t)
	}
	for _, s := range c.Servers {
		s.waitReady(t)
	}
	var err error
	if c.admin, err = jetstream.New(connect(t, c.URLAs(JournalUser))); err != nil {
		t.Fatal(err)
	}
	c.waitForReplicas(t, n)
	return c
}

// freePorts returns n addresses on loopback that are free at the moment.
func freePorts(t testing.TB, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", anyPort)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, so that all differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// waitForReplicas waits until a stream of n replicas can be created: then there is a leader that
// knows all servers.
func (c *Cluster) waitForReplicas(t testing.TB, n int) {
	t.Helper()
	const probe = "PROBE"
	Eventually(t, 2*waitFor, "the cluster to store", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.admin.CreateStream(ctx, jetstream.StreamConfig{Name: probe, Subjects: []string{probe}, Replicas: n})
		if err == nil {
			err = c.admin.DeleteStream(ctx, probe)
		}
		return err == nil
	})
}

// URLAs is where clients connect: the URLs of all servers, separated by commas, with the name and
// password of one of the users of StartNATS. An empty user is a client.
func (c *Cluster) URLAs(user string) string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, s.URL)
	}
	return URLsAs(user, urls...)
}

// URLsAs puts one of the users of StartNATS into URLs and joins them with commas. An empty user is
// a client.
func URLsAs(user string, urls ...string) string {
	all := slices.Clone(urls)
	for i, text := range all {
		if u, err := url.Parse(text); err == nil && user != "" {
			u.User = url.UserPassword(user, Password)
			all[i] = u.String()
		}
	}
	return strings.Join(all, ",")
}

// Connect connects as a client to any of the servers. It reconnects without
// limit and is closed with the test.
func (c *Cluster) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, c.URLAs(""), opts...)
}

// StartDaemon starts a presenced on the cluster and waits until it is ready. Its journal has a
// replica on each server.
func (c *Cluster) StartDaemon(t testing.TB, args ...string) *Daemon {
	t.Helper()
	return c.StartProgram(t, "", args...)
}

// StartProgram is StartDaemon with another program than presenced of this tree.
func (c *Cluster) StartProgram(t testing.TB, program string, args ...string) *Daemon {
	t.Helper()
	return StartProgram(t, program, nil, c.daemonArgs(args)...)
}

func (c *Cluster) daemonArgs(args []string) []string {
	all := slices.Clone(args)
	for flag, user := range map[string]string{"--nats-url": ClientsUser, "--journal-url": JournalUser, "--system-url": SystemUser} {
		if !has(all, flag) {
			all = append(all, flag, c.URLAs(user))
		}
	}
	if !has(all, "--replicas") {
		all = append(all, "--replicas", fmt.Sprint(len(c.Servers)))
	}
	return all
}

// StreamLeader waits until a stream of the journal's account has a leader, and returns the index of
// that server.
func (c *Cluster) StreamLeader(t testing.TB, stream string) int {
	t.Helper()
	leader := -1
	Eventually(t, waitFor, "the stream "+stream+" to have a leader", func() bool {
		if info := c.streamInfo(t, stream); info != nil {
			leader = slices.IndexFunc(c.Servers, func(s *ClusterServer) bool { return s.Name == info.Cluster.Leader })
		}
		return leader >= 0
	})
	return leader
}

// Current reports whether every server is up, and has everything of a stream of the journal's
// account.
func (c *Cluster) Current(t testing.TB, stream string) bool {
	t.Helper()
	info := c.streamInfo(t, stream)
	if info == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != len(c.Servers)-1 {
		return false
	}
	return !slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current || p.Lag > 0 })
}

// streamInfo returns nil if nobody answers.
func (c *Cluster) streamInfo(t testing.TB, stream string) *jetstream.StreamInfo {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s, err := c.admin.Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return nil
	}
	return s.CachedInfo()
}

// Restart waits until the server has ended, starts it again on the same data and ports, and waits
// until it takes connections.
func (s *ClusterServer) Restart(t testing.TB) {
	t.Helper()
	s.Wait(t)
	s.start(t)
	s.waitReady(t)
}

// Configure gives the server more lines of configuration. They replace those of an earlier call,
// and take effect at the next Restart or Reload.
func (s *ClusterServer) Configure(t testing.TB, more ...string) {
	t.Helper()
	text := s.config + "\n" + strings.Join(more, "\n")
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Reload is Configure, and has the running server reload its configuration, as
// "nats-server --signal reload" does. It waits until that is done.
func (s *ClusterServer) Reload(t testing.TB, more ...string) {
	t.Helper()
	s.Configure(t, more...)
	before := strings.Count(s.Stdout(), serverReloaded)
	s.Signal(t, syscall.SIGHUP)
	Eventually(t, waitFor, s.Name+" to have taken its configuration", func() bool {
		if strings.Contains(s.Stdout(), serverRefuses) {
			t.Fatalf("%s was reloaded: %s", s.Name, s.Stdout())
		}
		return strings.Count(s.Stdout(), serverReloaded) > before
	})
}

func (s *ClusterServer) waitReady(t testing.TB) {
	t.Helper()
	Eventually(t, waitFor, s.Name+" to be ready", func() bool {
		select {
		case <-s.exited:
			// An outgoing connection may have taken the port meanwhile.
			t.Logf("starting %s again; it said:\n%s", s.Name, s.Stderr())
			s.start(t)
		default:
		}
		return strings.Contains(s.Stdout(), serverReady)
	})
}

// These variables of the environment make the test binary a server of a cluster. They name its
// configuration file, its address and its directory.
const (
	configEnv = "PRESENCE_TEST_NATS_CONFIG"
	listenEnv = "PRESENCE_TEST_NATS_LISTEN"
	dataEnv   = "PRESENCE_TEST_NATS_DATA"
	// serverReady is printed when the server takes connections.
	serverReady = "the server is ready\n"
	// serverReloaded or serverRefuses is printed after a reload.
	serverReloaded = "the server was reloaded\n"
	serverRefuses  = "the server refuses its configuration: "
)

func (s *ClusterServer) start(t testing.TB) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), configEnv+"="+s.file, listenEnv+"="+s.listen, dataEnv+"="+s.dataDir)
	s.Process.start(t, s.Name, cmd)
}

// runServer is the main function of a ClusterServer's process. It serves until SIGTERM, and reads
// its configuration again at SIGHUP.
func runServer(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	config, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b, err := broker.StartForeign(string(config), os.Getenv(listenEnv), os.Getenv(dataEnv), log)
	if err != nil {
		return err
	}
	defer b.Shutdown()
	fmt.Print(serverReady)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-b.Failed():
			return errors.Join(errors.New("the server cannot go on"), err)
		case <-reloads:
			if config, err = os.ReadFile(file); err == nil {
				err = b.ReloadForeign(string(config))
			}
			if err != nil {
				fmt.Println(serverRefuses + err.Error())
				continue
			}
			fmt.Print(serverReloaded)
		}
	}
}
