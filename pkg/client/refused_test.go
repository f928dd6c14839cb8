package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// A reload that narrows permissions ends subscriptions, and one that widens them brings none back.
// Neither does nats.go.
func TestG11_SubscriptionsEndedByAReload(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	o := observe(c)
	var ids []string
	for i := range 40 { // more than are tried first
		ids = append(ids, fmt.Sprint("user", i))
	}
	subscribe(t, c, append(ids, "bob")...)
	login(t, c, client.LoginOptions{})
	for round := range 2 { // the second refusal is as good as the first
		f.DenySubscribe("presence.v1.status.*", "presence.v1.self.*")
		eventually(t, "blind, and says why", func() bool {
			s := c.State()
			return s.Reason == client.Refused && errors.Is(s.Err, nats.ErrPermissionViolation)
		})
		text := fmt.Sprint("unheard ", round)
		f.set("bob", text)
		f.DenySubscribe()
		eventually(t, "live again", isLive(c))
		if !shows(c, "bob", text)() {
			t.Errorf("live without what happened meanwhile")
		}
		before := len(f.Requests("get"))
		for _, id := range ids {
			f.set(id, text)
		}
		for _, id := range ids {
			eventually(t, id+" is heard again", shows(c, id, text))
		}
		if n := len(f.Requests("get")) - before; n > 3 {
			t.Errorf("%d gets: it was fetched, not heard", n)
		}
	}
	if n := nc.Stats().Reconnects; n != 0 || !o.wasBlind(client.Refused) {
		t.Errorf("%d reconnects, states %v", n, o.states)
	}
}

// A refusal of one subscription is not one of another, whatever the connection's last error is.
func TestG11_EachSubscriptionIsRefusedByItself(t *testing.T) {
	t.Parallel()
	f := newFakeWith(t, clienttest.Options{DenySubscribe: []string{"presence.v1.status.secret", "other"}})
	c, nc, _ := f.connect(client.Options{})
	subscribe(t, c, "bob")
	for range 2 {
		if _, err := c.SubscribeUserStatus(testContext(t), []string{"secret"}); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("a subscription that is denied: %v", err)
		}
		if _, err := nc.SubscribeSync("other"); err != nil { // somebody else's trouble
			t.Fatal(err)
		}
		subscribe(t, c, "carol")
	}
	if s := c.State(); !s.Live {
		t.Errorf("%v, want live", s)
	}
}

func TestG11_SubscriptionLimitIsReachedAgain(t *testing.T) {
	t.Parallel()
	f := newFakeWith(t, clienttest.Options{MaxSubscriptions: 40})
	c, _, _ := f.connect(client.Options{})
	subscribe(t, c, "bob")
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprint("user", i))
	}
	for round := range 3 {
		if _, err := c.SubscribeUserStatus(testContext(t), many); !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
			t.Fatalf("more than there may be: got %v", err)
		}
		eventually(t, "live again", isLive(c))
		text := fmt.Sprint("round ", round)
		f.set("bob", text)
		eventually(t, "bob is heard", shows(c, "bob", text))
	}
	subscribe(t, c, many[:20]...)
	f.set("user19", "here")
	eventually(t, "one of those that there is room for", shows(c, "user19", "here"))
}

// What a snapshot shows must have been announced; where it was not, the subscription is dead.
func TestG11_MissedEventMakesSubscriptionsAnew(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{Resync: 50 * time.Millisecond})
	client.ExpectEventsWithin(c, 200*time.Millisecond)
	o := observe(c)
	subscribe(t, c, "bob", "carol")
	f.set("carol", "heard")
	eventually(t, "carol", shows(c, "carol", "heard"))
	f.setSecretly("bob", "unheard")
	eventually(t, "bob", shows(c, "bob", "unheard"))
	eventually(t, "blind for a moment", func() bool { return o.wasBlind(client.Dropped) })
	eventually(t, "live", isLive(c))
}

// Answers are heard by a subscription of nats.go, which comes back with another connection only.
func TestAnswersThatCannotBeHeard(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{Timeout: 200 * time.Millisecond})
	s := login(t, c, client.LoginOptions{})
	f.DenySubscribe("_INBOX.>")
	f.DenySubscribe()
	eventually(t, "another connection", func() bool { return nc.Stats().Reconnects > 0 })
	if _, err := s.SetSelfStatus(testContext(t), "here"); err != nil {
		t.Errorf("a set: %v", err)
	}
}

// An application's own subscription below the inbox prefix may be refused for ever. That is no
// reason to replace the connection: answers are heard. Only that by which they are heard counts.
func TestInboxOfAnApplicationIsRefused(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for prefix, nc := range map[string]*nats.Conn{
		"_INBOX": f.Connect(), "_INBOX.of.mine": f.Connect(nats.CustomInboxPrefix("_INBOX.of.mine")),
	} {
		answers := nc.NewRespInbox()
		answers = answers[:strings.LastIndex(answers, ".")] + ".*"
		for subject, want := range map[string]bool{
			answers: true, nc.NewInbox(): false, nc.NewInbox() + ".*": false,
			prefix + ".app.*": false, prefix + ".app.>": false, prefix + ".one": false, prefix + ".*": false,
		} {
			if got := client.IsForAnswers(nc, subject); got != want {
				t.Errorf("a refused subscription to %q counts as that for answers: %v, want %v", subject, got, want)
			}
		}
	}
}

// A user's own events are heard again as soon as they may be.
func TestOwnEventsAreHeardAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	texts := make(chan string, 1000)
	c.OnOwnChanged(func(o client.Own) { texts <- o.Status.CustomStatus })
	login(t, c, client.LoginOptions{})
	f.DenySubscribe("presence.v1.self.*")
	asked := f.count(protocol.OpStatus)
	eventually(t, "fetched, because it is not heard", func() bool { return f.count(protocol.OpStatus) > asked })
	f.DenySubscribe()
	n := 0
	eventually(t, "a change is heard without being fetched", func() bool {
		n++
		text, asked := fmt.Sprint("text ", n), f.count(protocol.OpStatus)
		f.set("alice", text)
		for timeout := time.After(300 * time.Millisecond); ; {
			select {
			case got := <-texts:
				if got == text {
					return f.count(protocol.OpStatus) == asked
				}
			case <-timeout:
				return false
			}
		}
	})
}
