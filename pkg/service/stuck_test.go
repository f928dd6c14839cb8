package service_test

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// valve is a dialer whose connections write nothing while it is shut.
type valve struct{ open sync.RWMutex }

func (v *valve) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return valved{c, v}, err
}

type valved struct {
	net.Conn
	v *valve
}

func (c valved) Write(b []byte) (int, error) {
	c.v.open.RLock()
	defer c.v.open.RUnlock()
	return c.Conn.Write(b)
}

// stuckInstance starts an instance whose answers and events wait while the valve is shut.
func stuckInstance(t *testing.T, change func(*service.Config)) (*servicetest.Server, *servicetest.Instance, *valve) {
	t.Helper()
	s, v := servicetest.StartNATS(t, `ping_interval: "1m"`), &valve{} // it would take a stuck client for dead
	answers, err := nats.Connect(s.URLAs(servicetest.ClientsUser), nats.SetCustomDialer(v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(answers.Close)
	return s, s.StartInstance(t, func(c *service.Config) { c.Answers = answers; change(c) }), v
}

// TestStuckAnswers: while the connection for answers and events takes nothing, entries are packed
// and applied as usual. When it takes something again, every caller gets the answer. Packing once
// waited for the announcer, which was publishing.
func TestStuckAnswers(t *testing.T) {
	t.Parallel()
	s, i, v := stuckInstance(t, func(*service.Config) {})
	nc := s.Connect(t)
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}

	v.open.Lock()
	release := sync.OnceFunc(v.open.Unlock)
	defer release()
	const changes = 2000 // whose events are more than nats.go buffers
	for k := range changes {
		if err := nc.PublishRequest(userSubject(t, fmt.Sprint("user", k), protocol.OpSet), replies.Subject, []byte(`{"customStatus":"x"}`)); err != nil {
			t.Fatal(err)
		}
	}
	users := func() int { u := i.Service.Figures().Users; return u.Online + u.Offline + u.Unlogined }
	servicetest.Eventually(t, waitFor, "all changes to be applied", func() bool { return users() == changes })
	stuck := i.Service.Figures().Position
	servicetest.Eventually(t, waitFor, "more entries to be appended", func() bool { return i.Service.Figures().Position >= stuck+4 })
	release()

	for range changes {
		m, err := replies.NextMsg(waitFor)
		if err != nil || m.Header.Get(protocol.ErrorCodeHeader) != "" {
			t.Fatalf("after it: %v, %v", m, err)
		}
	}
}

// TestStuckAnswers_Refusals: only so many refusals that cannot be sent wait. Those beyond count as
// unanswered, and each request counts once.
func TestStuckAnswers_Refusals(t *testing.T) {
	t.Parallel()
	s, i, v := stuckInstance(t, func(c *service.Config) { c.Limits.UserChanges = 1 })
	nc := s.Connect(t)
	v.open.Lock()
	release := sync.OnceFunc(v.open.Unlock)
	defer release()
	const sent = 20_000
	for range sent {
		if err := nc.PublishRequest(userSubject(t, "alice", protocol.OpSet), "_INBOX.nobody", []byte(`{"customStatus":"x"}`)); err != nil {
			t.Fatal(err)
		}
	}
	set := func() (f service.EndpointFigures) {
		for _, f = range i.Service.Figures().Endpoints {
			if f.Name == protocol.OpSet {
				break
			}
		}
		return f
	}
	servicetest.Eventually(t, waitFor, "refusals without an answer", func() bool { return set().Unanswered > 0 })
	release()
	servicetest.Eventually(t, waitFor, "all of them to be counted", func() bool { f := set(); return f.Requests+f.Unanswered == sent })
}
