package servicetest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// DaemonClusterSize is the number of daemons of a DaemonCluster.
const DaemonClusterSize = 3

// DaemonCluster is three presenced whose NATS servers, inside them, form one cluster.
type DaemonCluster struct {
	// Daemons are named presence-1 to presence-3.
	Daemons [DaemonClusterSize]*Daemon
}

// StartDaemonCluster starts three presenced from one configuration file and waits until all are
// ready. The file has the variables of the one in cmd/presenced/example. All three get the same
// arguments. The password of each user is the user's name.
//
// Each has an address of its own on the loopback network. So no outgoing connection can take a port
// of one that is down.
func StartDaemonCluster(t testing.TB, config string, args ...string) *DaemonCluster {
	t.Helper()
	config, err := filepath.Abs(config)
	if err != nil {
		t.Fatal(err)
	}
	network := fmt.Sprintf("127.%d.%d.", 2+rand.IntN(250), rand.IntN(250))
	var routes []string
	for i := range DaemonClusterSize {
		routes = append(routes, fmt.Sprintf(`"nats-route://cluster:cluster@%s%d:6222"`, network, i+1))
	}
	c := &DaemonCluster{}
	for i := range c.Daemons {
		host := fmt.Sprint(network, i+1)
		d := &Daemon{
			DataDir: t.TempDir(),
			args:    append([]string{"--nats-config", config, "--replicas", fmt.Sprint(DaemonClusterSize)}, args...),
		}
		d.env = []string{
			fmt.Sprint("SERVER_NAME=presence-", i+1),
			"STORE_DIR=" + d.DataDir,
			"CLIENT_LISTEN=" + host + ":4222",
			"CLUSTER_LISTEN=" + host + ":6222",
			"CLUSTER_ROUTES=[" + strings.Join(routes, ", ") + "]",
			"CLUSTER_PASSWORD=cluster",
		}
		for _, user := range []string{"sys", "alice", "gw1", "reader", "operator"} {
			d.env = append(d.env, strings.ToUpper(user)+"_PASSWORD="+user)
		}
		d.start(t)
		c.Daemons[i] = d
	}
	for _, d := range c.Daemons {
		d.waitReady(t)
	}
	return c
}

// exampleRoles are the roles of the clients in the configuration file.
var exampleRoles = map[string]protocol.Role{
	"alice": protocol.RoleUser, "gw1": protocol.RoleGateway, "reader": protocol.RoleReader, "operator": protocol.RoleOperator,
}

// Connect connects to one of the servers as a user of the configuration file. When that server is
// down, the connection moves to another one. It is closed when the test ends.
func (c *DaemonCluster) Connect(t testing.TB, daemon int, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	own := []nats.Option{nats.UserInfo(user, user)}
	if role := exampleRoles[user]; role != "" {
		own = append(own, nats.CustomInboxPrefix(role.InboxPrefix(user)))
	}
	return c.Daemons[daemon].Connect(t, append(own, opts...)...)
}
