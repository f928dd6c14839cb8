package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is the fake service with what these tests say often. The guarantees are
// tested against the real one elsewhere.
type fake struct {
	*clienttest.Service
	t *testing.T
}

func newFake(t *testing.T) *fake { return newFakeWith(t, clienttest.Options{}) }

func newFakeWith(t *testing.T, opts clienttest.Options) *fake {
	t.Helper()
	return &fake{clienttest.New(t, opts), t}
}

// connect returns a client on a connection of its own, by way of a cable.
func (f *fake) connect(opts client.Options) (*client.Client, *nats.Conn, *clienttest.Cable) {
	f.t.Helper()
	cable := f.Cable()
	nc := f.Connect(nats.InProcessServer(cable))
	c, err := client.New(nc, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c, nc, cable
}

// set makes a user ONLINE with a text.
func (f *fake) set(userID, text string) protocol.Status {
	return f.SetStatus(userID, protocol.Online, text)
}

// setSecretly is a change whose event reaches nobody.
func (f *fake) setSecretly(userID, text string) {
	f.SetMute(true)
	defer f.SetMute(false)
	f.set(userID, text)
}

func (f *fake) count(op string) int { return len(f.Requests(op)) }

// asked returns the requests of a kind as messages.
func asked[T any](f *fake, op string) (list []T) {
	f.t.Helper()
	for _, r := range f.Requests(op) {
		var m T
		if err := r.Into(&m); err != nil {
			f.t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// afterNextGet runs do between the making of a get's reply and its sending.
func (f *fake) afterNextGet(do func()) {
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, err := next()
		if r.Op == "get" {
			f.Intercept(nil)
			do()
		}
		return reply, err
	})
}

// announce publishes an event.
func (f *fake) announce(ev protocol.Event) {
	subject, err := protocol.NewSubjects("").Event(ev.UserID)
	if err != nil {
		f.t.Fatal(err)
	}
	body, err := protocol.Marshal(ev)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Publish(subject, body)
}

// failUser has a get fail for one user.
func (f *fake) failUser(userID string, err error) {
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, e := next()
		get, ok := reply.(protocol.GetReply)
		if !ok {
			return reply, e
		}
		kept := get.SuccessUserList[:0]
		for _, s := range get.SuccessUserList {
			if s.UserID == userID {
				get.FailureUserList = append(get.FailureUserList, protocol.Failure(userID, err))
			} else {
				kept = append(kept, s)
			}
		}
		get.SuccessUserList = kept
		return get, e
	})
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
