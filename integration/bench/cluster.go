package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// natsCommand, as the first argument, makes this program a NATS server.
const natsCommand = "nats"

// runNATS serves until stdin closes or a signal ends it.
func runNATS(args []string, stdin io.Reader, stdout io.Writer) error {
	fs := flag.NewFlagSet(natsCommand, flag.ContinueOnError)
	config := fs.String("config", "", "configuration file")
	listen := fs.String("listen", "", "address for clients")
	data := fs.String("data", "", "directory of the server's store")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*config)
	if err != nil {
		return err
	}
	s, err := broker.StartForeign(string(text), *listen, *data, nil)
	if err != nil {
		return err
	}
	defer s.Shutdown()
	fmt.Fprintln(stdout, "nats listens on", s.ClientURL())
	_, err = io.Copy(io.Discard, stdin)
	return err
}

const (
	natsServers = 3
	// clusterWithin bounds the wait for a new cluster to store something.
	clusterWithin = time.Minute
	// journalStream is presenced's, in the account of journalUser.
	journalStream = "PRESENCE_JOURNAL"

	clientsUser = "presenced:secret"
	journalUser = "journal:secret"
	systemUser  = "system:secret"
)

// clusterConfig is what each server is configured by, with its name, the address
// of its routes, and the routes. Who gives no name is a client.
const clusterConfig = `
jetstream: enabled
system_account: SYS
no_auth_user: client
accounts {
  SYS      { users: [ { user: system, password: secret } ] }
  PRESENCE { users: [ { user: journal, password: secret } ], jetstream: enabled }
  APP      { users: [ { user: presenced, password: secret }, { user: client, password: secret } ] }
}
ping_interval: "10s"
server_name: %s
cluster { name: bench, listen: %q, routes: [ %s ], no_advertise: true }
`

// cluster is a NATS cluster like somebody else's with several presenced on it.
type cluster struct {
	b         *bench
	dir       string
	hosts     []string            // host:port of the servers, for clients
	nats      map[string]*process // by the server's name
	instances []*process          // presenced, in the order of their starts
	load      *target             // no process, connections only
}

// startCluster starts the NATS servers and waits until they store with as many
// replicas. On an error the caller closes what there is as well.
func (b *bench) startCluster(ctx context.Context) (*cluster, error) {
	c := &cluster{b: b, nats: make(map[string]*process), load: &target{}}
	b.targets = append(b.targets, c.load)
	var err error
	if c.dir, err = b.tempDir("cluster"); err != nil {
		return c, err
	}
	addresses, err := freeAddresses(2 * natsServers)
	if err != nil {
		return c, err
	}
	var routes []string
	for _, at := range addresses[natsServers:] {
		routes = append(routes, "nats://"+at)
	}
	c.hosts = addresses[:natsServers]
	for i, host := range c.hosts {
		name := fmt.Sprint("nats", i)
		config := fmt.Sprintf(clusterConfig, name, addresses[natsServers+i], strings.Join(routes, ", "))
		server, err := c.startServer(ctx, name, host, config)
		if err != nil {
			return c, err
		}
		c.nats[name] = server
	}
	return c, c.awaitStorage(ctx)
}

// freeAddresses returns addresses on loopback that are free at the moment.
func freeAddresses(n int) (list []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that all differ
		list = append(list, l.Addr().String())
	}
	return list, nil
}

func (c *cluster) startServer(ctx context.Context, name, host, config string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(c.dir, name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	data := filepath.Join(c.dir, name)
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	return startProcess(ctx, self, []string{natsCommand, "--config", file, "--listen", host, "--data", data}, nil)
}

// awaitStorage waits until a stream with all replicas can be created.
func (c *cluster) awaitStorage(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterWithin)
	defer cancel()
	return c.asJournal(func(js jetstream.JetStream) error {
		for {
			probing, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := js.CreateOrUpdateStream(probing, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"PROBE"}, Replicas: natsServers})
			if err == nil {
				err = js.DeleteStream(probing, "PROBE")
			}
			cancel()
			if err == nil {
				return nil
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return errors.Join(errors.New("the cluster does not store"), err)
			}
		}
	})
}

// asJournal does something in the journal's account.
func (c *cluster) asJournal(do func(jetstream.JetStream) error) error {
	nc, err := nats.Connect(c.urls(journalUser), stubborn()...)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return do(js)
}

// journalLeader returns the name of the NATS server that leads the journal.
func (c *cluster) journalLeader(ctx context.Context) (name string, err error) {
	err = c.asJournal(func(js jetstream.JetStream) error {
		s, err := js.Stream(ctx, journalStream)
		if err != nil {
			return err
		}
		if info := s.CachedInfo().Cluster; info != nil {
			name = info.Leader
		}
		if c.nats[name] == nil {
			return fmt.Errorf("the journal's leader is %q, none of the cluster's servers", name)
		}
		return nil
	})
	return name, err
}

// urls are all servers, separated by commas, with a name and password or "".
func (c *cluster) urls(user string) string {
	if user != "" {
		user += "@"
	}
	var list []string
	for _, host := range c.hosts {
		list = append(list, "nats://"+user+host)
	}
	return strings.Join(list, ",")
}

// addInstance starts one more presenced and waits until it is ready.
func (c *cluster) addInstance(ctx context.Context) error {
	p, err := startProcess(ctx, c.b.presenced, slices.Concat(withFigures, []string{
		"--nats-url", c.urls(clientsUser), "--journal-url", c.urls(journalUser), "--system-url", c.urls(systemUser),
		"--replicas", fmt.Sprint(natsServers),
	}), nil)
	if err == nil {
		c.instances = append(c.instances, p)
	}
	return err
}

// connect opens the load's connections, which survive a server.
func (c *cluster) connect() error {
	for range connections {
		nc, err := nats.Connect(c.urls(""), stubborn()...)
		if err != nil {
			return err
		}
		c.load.conns = append(c.load.conns, nc)
	}
	return nil
}

// stubborn are the options of a connection that is back soon after its server
// was lost.
func stubborn() []nats.Option {
	return []nats.Option{nats.Name("bench"), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond)}
}

func (c *cluster) close() {
	c.load.close()
	for _, p := range c.instances {
		p.stop()
	}
	for _, p := range c.nats {
		p.stop()
	}
}
