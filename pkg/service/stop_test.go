package service_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

var subjects = protocol.NewSubjects("")

// askLater sends a request whose answer is read later. It returns when the service has taken the
// request: a later request on the same connection to the same endpoint is answered.
func askLater(t *testing.T, nc *nats.Conn, get protocol.GetRequest) *nats.Subscription {
	t.Helper()
	body, err := protocol.Marshal(get)
	if err != nil {
		t.Fatal(err)
	}
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(subjects.Get(), replies.Subject, body); err != nil {
		t.Fatal(err)
	}
	revision(t, nc)
	return replies
}

func revision(t *testing.T, nc *nats.Conn) (now protocol.GetReply) {
	t.Helper()
	if err := request(t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"a"}}, &now); err != nil {
		t.Fatal(err)
	}
	return now
}

// TestStop_AnswersWhoWaits: when the instance stops, queries that wait for a revision are answered.
// If the revision comes while it stops, they get it.
func TestStop_AnswersWhoWaits(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	now := revision(t, nc)
	far := askLater(t, nc, protocol.GetRequest{UserIDList: []string{"a"}, Epoch: now.Epoch, MinRevision: now.Revision + 1<<30})
	next := askLater(t, nc, protocol.GetRequest{UserIDList: []string{"a"}, Epoch: now.Epoch, MinRevision: now.Revision + 1})
	kit.Instances[0].Stop(t)
	for replies, want := range map[*nats.Subscription]string{far: "503", next: ""} {
		m, err := replies.NextMsg(10 * time.Second)
		if err != nil || m.Header.Get(protocol.ErrorCodeHeader) != want {
			t.Errorf("got %v, %v, want the code %q", m, err, want)
		}
	}
}

// TestStop_LosesNoReport: connections close while instances stop, one after the other. The broker
// reports each closed connection to one instance only, and no lease ends within the test.
func TestStop_LosesNoReport(t *testing.T) {
	kit := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.Grace = 100 * time.Millisecond }))
	for range 3 {
		kit.AddInstance(t)
	}
	watcher := kit.Connect(t)
	lost := make(chan string, 1024)
	if _, err := watcher.Subscribe(subjects.AnyEvent(), func(m *nats.Msg) {
		var ev protocol.Event
		if protocol.Unmarshal(m.Data, &ev) == nil && ev.StatusType == protocol.Offline {
			lost <- ev.UserID
		}
	}); err != nil {
		t.Fatal(err)
	}
	const clients = 200
	waiting := map[string]bool{}
	conns := make([]*nats.Conn, clients)
	for i := range conns {
		conns[i] = kit.Connect(t)
		id, err := conns[i].GetClientID()
		if err != nil {
			t.Fatal(err)
		}
		user := fmt.Sprint("user", i)
		subject, _ := subjects.Login(user)
		var reply protocol.LoginReply
		if err := request(t, conns[i], subject, protocol.LoginRequest{
			SessionID: "s", TTLSeconds: 3600, Connection: &protocol.Connection{ServerID: conns[i].ConnectedServerId(), ClientID: id},
		}, &reply); err != nil {
			t.Fatal(err)
		}
		waiting[user] = true
	}
	var closing sync.WaitGroup
	closing.Go(func() {
		for _, nc := range conns {
			nc.Close()
			time.Sleep(100 * time.Microsecond) // spread over all the stops
		}
	})
	for _, i := range kit.Instances[1:] {
		i.Stop(t)
	}
	closing.Wait()
	for deadline := time.After(30 * time.Second); len(waiting) > 0; {
		select {
		case user := <-lost:
			delete(waiting, user)
		case <-deadline:
			t.Fatalf("of %d users whose connection closed %d are still ONLINE", clients, len(waiting))
		}
	}
}
