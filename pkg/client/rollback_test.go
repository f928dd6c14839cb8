package client_test

import (
	"fmt"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

// TestG11_NextEpoch: a service that is restarted has a new epoch and the same state. Who watches is
// told what changed meanwhile, and that the client was disconnected, and nothing else.
func TestG11_NextEpoch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	o := observe(c)
	f.set("bob", "before")
	f.set("carol", "the same")
	subscribe(t, c, "bob", "carol", "dave")
	s, err := c.Login(testContext(t), "alice", client.LoginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "alice's own view", func() bool { return o.times("alice") > 0 })
	own := o.times("alice")
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	f.NextEpoch()
	f.setSecretly("bob", "after")
	cable.Mend()
	eventually(t, "live again", isLive(c))
	if bob, _ := c.Watched("bob"); bob.CustomStatus != "after" {
		t.Errorf("live again with %+v, want what is", bob)
	}
	if _, err := s.SetSelfStatus(testContext(t), "hello"); err != nil {
		t.Fatal(err)
	}
	f.set("carol", "another")
	eventually(t, "told of carol", func() bool { return o.last("carol", "another") })
	eventually(t, "told of alice", func() bool { return o.last("alice", "hello") })
	if !o.told("bob", "before", "after") || !o.told("carol", "the same", "another") || !o.told("dave", "") || o.times("alice") > own+2 || o.wasBlind(client.EpochChanged) {
		t.Errorf("told %v, and of the states %v, want each change once, and nothing of a journal", o.texts, o.states)
	}
}

// TestG11_JournalWentBack: a journal that is put back to an earlier state in the same epoch gives
// revisions a second time. Whatever the client does next, it notices, says that it is blind, and
// goes on with what is.
func TestG11_JournalWentBack(t *testing.T) {
	t.Parallel()
	for name, notices := range map[string]func(*testing.T, *fake, *client.Client){
		"by a fresh get": func(t *testing.T, _ *fake, c *client.Client) {
			if r, err := c.GetUserStatus(testContext(t), []string{"bob"}, client.Fresh()); err != nil || r.SuccessUserList[0].CustomStatus != "" {
				t.Errorf("got %+v, %v", r, err)
			}
		},
		"by a get that waits for a revision": func(t *testing.T, _ *fake, c *client.Client) {
			if r, err := c.GetUserStatus(testContext(t), []string{"bob"}); err != nil || r.SuccessUserList[0].CustomStatus != "" {
				t.Errorf("got %+v, %v", r, err)
			}
		},
		"by an event": func(t *testing.T, f *fake, _ *client.Client) { f.set("dave", "hello") },
		"by an answer": func(t *testing.T, _ *fake, c *client.Client) {
			if _, err := c.SetSelfStatus(testContext(t), "eve", "hello"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			c, _, _ := f.connect(client.Options{})
			o := observe(c)
			f.set("bob", "lost")
			subscribe(t, c, "bob", "carol", "dave")
			for i := range 20 {
				if _, err := c.SetSelfStatus(testContext(t), "eve", fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			known := time.Now()
			eventually(t, "it is no late answer any more", func() bool { return time.Since(known) > 3*time.Second })
			f.Rollback()
			notices(t, f, c)
			eventually(t, "told of it", func() bool { return o.wasBlind(client.EpochChanged) })
			eventually(t, "live again", isLive(c))
			eventually(t, "bob, of whom nothing is known any more", shows(c, "bob", ""))
			f.set("bob", "now")
			eventually(t, "what comes then", shows(c, "bob", "now"))
			eventually(t, "told of it", func() bool { return o.last("bob", "now") })
			if !o.told("bob", "lost", "", "now") || !o.told("carol", "") {
				t.Errorf("told %v, want what changed, once", o.texts)
			}
		})
	}
}

// TestRollback_LateIsNotBack: answers and events that come late are no journal that went back.
func TestRollback_LateIsNotBack(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o := observe(c)
	old := f.set("bob", "old")
	subscribe(t, c, "bob")
	for range 20 {
		f.set("bob", "on the way")
	}
	f.set("bob", "new")
	eventually(t, "the new text", shows(c, "bob", "new"))
	known := time.Now()
	eventually(t, "a while later", func() bool { return time.Since(known) > 3*time.Second })
	before := f.count("get")
	f.announce(protocol.Event{Status: old, Epoch: f.Epoch()})
	eventually(t, "it is asked about", func() bool { return f.count("get") > before })
	for range 50 {
		f.announce(protocol.Event{Status: old, Epoch: f.Epoch()})
	}
	f.set("bob", "last")
	eventually(t, "the last text", shows(c, "bob", "last"))
	if o.wasBlind(client.EpochChanged) {
		t.Error("a late event made the client blind")
	}
	if asked := f.count("get") - before; asked > 5 {
		t.Errorf("asked %d times, want few", asked)
	}
}

// TestRollback_LogsInAgain: a gateway whose lease went back with the journal has another, and
// everybody logged in again; so does a session, long before its next renewal.
func TestRollback_LogsInAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	g, err := c.OpenGateway(testContext(t), "gw", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"bob", "carol"} {
		if err := g.Login(testContext(t), user, "s", client.GatewayLogin{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Login(testContext(t), "alice", client.LoginOptions{TTL: 10 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	f.Rollback()
	if _, err := c.GetUserStatus(testContext(t), []string{"bob"}, client.Fresh()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob", "carol"} {
		eventually(t, user+" to be ONLINE again", func() bool {
			r, err := c.GetUserStatus(testContext(t), []string{user}, client.Fresh())
			return err == nil && r.SuccessUserList[0].StatusType == protocol.Online
		})
	}
}
