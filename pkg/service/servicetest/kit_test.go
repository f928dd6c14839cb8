package servicetest_test

import (
	"encoding/json"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

const waitFor = 20 * time.Second

// request sends what the service must accept, and returns its answer.
func request(t *testing.T, nc *nats.Conn, subject string, body string) []byte {
	t.Helper()
	m, err := nc.Request(subject, []byte(body), waitFor)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if e := m.Header.Get(protocol.ErrorHeader); e != "" {
		t.Fatalf("%s: %s", subject, m.Data)
	}
	return m.Data
}

var subjects = protocol.NewSubjects("")

func setText(t *testing.T, nc *nats.Conn, user, text string) {
	t.Helper()
	login, _ := subjects.Login(user)
	set, _ := subjects.Set(user)
	request(t, nc, login, `{"sessionID":"phone"}`)
	request(t, nc, set, `{"customStatus":"`+text+`"}`)
}

func wantText(t *testing.T, nc *nats.Conn, user, want string) {
	t.Helper()
	var reply protocol.GetReply
	if err := json.Unmarshal(request(t, nc, subjects.Get(), `{"userIDList":["`+user+`"],"fresh":true}`), &reply); err != nil {
		t.Fatal(err)
	}
	if got := reply.SuccessUserList[0].CustomStatus; got != want {
		t.Errorf("status of %s: got %q, want %q", user, got, want)
	}
}

func TestStartStopRestart(t *testing.T) {
	servicetest.CheckLeaks(t)
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Minute }))
	nc := kit.Connect(t)
	setText(t, nc, "alice", "before")
	url := kit.URL()

	kit.Restart(t)
	if kit.URL() != url {
		t.Errorf("URL after Restart: got %s, want %s", kit.URL(), url)
	}
	servicetest.Eventually(t, waitFor, "the client to reconnect", nc.IsConnected)
	wantText(t, nc, "alice", "before")
	kit.Stop(t)
	kit.Stop(t)
}

func TestTwoInstances(t *testing.T) {
	kit := servicetest.Start(t)
	kit.AddInstance(t)
	nc := kit.Connect(t)
	setText(t, nc, "alice", "hello")
	kit.Instances[0].Stop(t)
	wantText(t, nc, "alice", "hello")
}

// The server of StartOverNATS goes away under a running service.
func TestOutage(t *testing.T) {
	kit := servicetest.StartOverNATS(t)
	nc := kit.Connect(t)
	setText(t, nc, "alice", "before")
	kit.Server.Restart(t)
	servicetest.Eventually(t, waitFor, "the service to answer", func() bool {
		m, err := nc.Request(subjects.Get(), []byte(`{"userIDList":["alice"],"fresh":true}`), time.Second)
		return err == nil && m.Header.Get(protocol.ErrorHeader) == ""
	})
	wantText(t, nc, "alice", "before")
	select {
	case <-kit.Instances[0].Done():
		t.Errorf("the service did not survive the outage: %v", kit.Instances[0].Err())
	default:
	}
}

// The leader of a stream is killed: another is elected, and the one that comes
// back catches up.
func TestCluster(t *testing.T) {
	servicetest.CheckLeaks(t)
	cl := servicetest.StartCluster(t, 3)
	d := cl.StartDaemon(t)
	nc := cl.Connect(t)
	setText(t, nc, "alice", "before")
	killed := cl.StreamLeader(t, "PRESENCE_JOURNAL")
	cl.Servers[killed].Kill(t)
	servicetest.Eventually(t, 3*waitFor, "another leader", func() bool {
		return cl.StreamLeader(t, "PRESENCE_JOURNAL") != killed
	})
	cl.Servers[killed].Restart(t)
	servicetest.Eventually(t, 3*waitFor, "the server to catch up", func() bool { return cl.Current(t, "PRESENCE_JOURNAL") })
	servicetest.Eventually(t, waitFor, "the client to reconnect", nc.IsConnected)
	after := d.Connect(t)
	servicetest.Eventually(t, waitFor, "the service to answer", func() bool {
		m, err := after.Request(subjects.Get(), []byte(`{"userIDList":["alice"],"fresh":true}`), time.Second)
		return err == nil && m.Header.Get(protocol.ErrorHeader) == ""
	})
	wantText(t, after, "alice", "before")
}
