package processes

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// exampleConfig is the documented example.
const exampleConfig = "../../cmd/presenced/example/cluster.conf"

// pastAmnesty is when somebody lost is OFFLINE in a cluster that was, while it
// started or elected a leader, without a journal for more than 2 s: after the
// amnesty of 30 s (G6).
const pastAmnesty = 30*time.Second + wire.Soon

// TestEmbeddedCluster runs the example: three presenced, each with its NATS
// server inside. It kills one that follows and one that leads, and starts them
// again.
func TestEmbeddedCluster(t *testing.T) {
	t.Parallel()
	const grace = 500 * time.Millisecond
	c := servicetest.StartDaemonCluster(t, exampleConfig, "--grace", grace.String())
	for i, d := range c.Daemons {
		for line := range strings.Lines(d.Stderr()) {
			if strings.Contains(line, "level=ERROR") {
				t.Errorf("presence-%d: an ordinary start logs %s", i+1, line)
			}
		}
	}
	leader := journalLeader(t, c)
	dies, stays := (leader+1)%servicetest.DaemonClusterSize, (leader+2)%servicetest.DaemonClusterSize
	t.Logf("presence-%d leads the journal; presence-%d dies first", leader+1, dies+1)
	operator := c.Connect(t, stays, "operator")
	events := wire.Record(t, c.Connect(t, stays, "reader"), wire.Subjects.AnyEvent())

	// Who logs in at one server is online at all, until the client is killed,
	// which that server alone sees.
	heard, err := c.Connect(t, stays, "sys").SubscribeSync("$SYS.ACCOUNT.APP.DISCONNECT")
	if err != nil {
		t.Fatal(err)
	}
	phone := c.Connect(t, leader, "operator")
	wire.Login(t, phone, "carol", protocol.LoginRequest{Connection: wire.BoundTo(phone), TTLSeconds: 3600})
	for i := range c.Daemons {
		if got := freshAgain(t, c.Connect(t, i, "reader"), "carol").StatusType; got != protocol.Online {
			t.Errorf("carol, at presence-%d: got %v, want ONLINE", i+1, got)
		}
	}
	server := phone.ConnectedServerId()
	phone.Close()
	events.Await(t, pastAmnesty, "carol", protocol.Offline)
	awaitReport(t, heard, server)

	// alice's client renews and goes on to another server when hers dies. bob's
	// dies with its server, which can tell nobody: he has his TTL.
	nc := c.Connect(t, dies, "alice")
	session := wire.LoginClient(t, wire.NewClient(t, nc, client.Options{Timeout: 2 * time.Second}), "alice", client.LoginOptions{TTL: 3600 * time.Second})
	if _, err := session.SetSelfStatus(t.Context(), "here"); err != nil {
		t.Fatal(err)
	}
	tablet := c.Connect(t, dies, "operator", nats.NoReconnect())
	wire.Login(t, tablet, "bob", protocol.LoginRequest{Connection: wire.BoundTo(tablet), TTLSeconds: int64(protocol.MinTTL / time.Second)})
	killAndRestart(t, c, dies, operator, "first")
	events.Await(t, pastAmnesty, "bob", protocol.Offline)

	// The one that leads the journal, and the one that leads JetStream if that is
	// another or not: writes wait for the election.
	killAndRestart(t, c, leader, operator, "second")
	for i := range c.Daemons {
		if s := freshAgain(t, c.Connect(t, i, "reader"), "alice"); s.StatusType != protocol.Online || s.CustomStatus != "here" {
			t.Errorf("alice, at presence-%d, whose client never ended: got %+v", i+1, s)
		}
	}
	if slices.ContainsFunc(events.Events(t, "alice"), func(e wire.Arrived) bool { return e.StatusType != protocol.Online }) {
		t.Errorf("alice was announced to be away: %+v", events.Events(t, "alice"))
	}
}

// killAndRestart kills one of the daemons, wants changes to be made by the others
// meanwhile, and the killed one to catch up with them. operator is connected to
// one that stays.
func killAndRestart(t *testing.T, c *servicetest.DaemonCluster, dies int, operator *nats.Conn, text string) {
	t.Helper()
	before := wire.SetText(t, operator, "dave", text)
	c.Daemons[dies].Kill(t)
	killed := time.Now()
	var changed protocol.ChangeReply
	servicetest.Eventually(t, 30*time.Second, "a change without presence-"+fmt.Sprint(dies+1), func() bool {
		text := text + " after the kill"
		reply, err := wire.Ask[protocol.ChangeReply](operator, wire.To(protocol.OpSet, "dave"), protocol.SetRequest{CustomStatus: &text})
		changed = reply
		return err == nil
	})
	t.Logf("a change %v after the kill of presence-%d", time.Since(killed).Round(time.Millisecond), dies+1)
	if changed.Revision <= before.Revision || changed.Epoch != before.Epoch {
		t.Errorf("after the kill: got revision %d of %s, want one after %d of %s", changed.Revision, changed.Epoch, before.Revision, before.Epoch)
	}

	killed = time.Now()
	c.Daemons[dies].Restart(t)
	t.Logf("presence-%d was ready %v after its start", dies+1, time.Since(killed).Round(time.Millisecond))
	reader := c.Connect(t, dies, "reader")
	if name := reader.ConnectedServerName(); name != fmt.Sprint("presence-", dies+1) {
		t.Errorf("connected to %s, want presence-%d", name, dies+1)
	}
	if got := freshAgain(t, reader, "dave"); got.Revision != changed.Revision || got.CustomStatus != text+" after the kill" {
		t.Errorf("at presence-%d after its restart: got %+v, want revision %d", dies+1, got, changed.Revision)
	}
}

// freshAgain is fresh, asked again while an instance that is cut off from the journal
// answers: NATS may have had the killed server deliver the entries to another one,
// which notices after 2 s, and asks a server that is there.
func freshAgain(t *testing.T, nc *nats.Conn, user string) (status protocol.Status) {
	t.Helper()
	servicetest.Eventually(t, wire.Soon, "an instance to know how "+user+" is", func() bool {
		reply, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{user}, Fresh: true})
		if errors.Is(err, protocol.ErrUnavailable) {
			return false
		}
		if err != nil || len(reply.SuccessUserList) != 1 {
			t.Fatalf("get of %s: got %+v and the error %v", user, reply, err)
		}
		status = reply.SuccessUserList[0]
		return true
	})
	return status
}

// awaitReport waits for the report of a closed connection by a server.
func awaitReport(t *testing.T, sub *nats.Subscription, server string) {
	t.Helper()
	for end := time.Now().Add(wire.Soon); ; {
		m, err := sub.NextMsg(time.Until(end))
		if err != nil {
			t.Fatalf("waiting for a report by server %s: %v", server, err)
		}
		if strings.Contains(string(m.Data), server) {
			return
		}
	}
}

// journalLeader returns the index of the daemon whose server leads the journal's
// stream.
func journalLeader(t *testing.T, c *servicetest.DaemonCluster) int {
	t.Helper()
	sys := c.Connect(t, 0, "sys")
	leader := -1
	servicetest.Eventually(t, wire.Soon, "the journal to have a leader and all replicas", func() bool {
		m, err := sys.Request("$SYS.REQ.SERVER."+sys.ConnectedServerId()+".JSZ", []byte(`{"accounts":true,"streams":true}`), time.Second)
		if err != nil {
			return false
		}
		var reply struct {
			Data struct {
				Accounts []struct {
					Name    string `json:"name"`
					Streams []struct {
						Name    string `json:"name"`
						Cluster struct {
							Leader   string `json:"leader"`
							Replicas []struct {
								Current bool `json:"current"`
							} `json:"replicas"`
						} `json:"cluster"`
					} `json:"stream_detail"`
				} `json:"account_details"`
			} `json:"data"`
		}
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			t.Fatal(err)
		}
		for _, a := range reply.Data.Accounts {
			for _, s := range a.Streams {
				if s.Name == "PRESENCE_JOURNAL" && len(s.Cluster.Replicas) == servicetest.DaemonClusterSize-1 {
					n, err := fmt.Sscanf(s.Cluster.Leader, "presence-%d", &leader)
					return n == 1 && err == nil
				}
			}
		}
		return false
	})
	return leader - 1
}
