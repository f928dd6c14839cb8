package client_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

var friends = clienttest.Options{FriendNotifications: true}

func TestContacts(t *testing.T) {
	f := newFakeWith(t, friends)
	c, _, _ := f.connect(client.Options{})
	ctx := testContext(t)
	want := func(what string, r protocol.ContactsReply, err error, version uint64, contacts ...string) {
		t.Helper()
		if err != nil || r.Version != version || !slices.Equal(r.Contacts, contacts) || !r.FriendNotifications {
			t.Errorf("%s: %+v, %v, want %v of version %d", what, r, err, contacts, version)
		}
	}
	r, err := c.Contacts(ctx, "alice")
	want("at first", r, err, 0)
	r, err = c.AddContacts(ctx, "alice", "bob", "carol", "bob")
	want("two added", r, err, 1, "bob", "carol")
	r, err = c.AddContacts(ctx, "alice", "carol")
	want("who is there added", r, err, 1, "bob", "carol")
	r, err = c.RemoveContacts(ctx, "alice", "bob", "nobody")
	want("one removed", r, err, 2, "carol")
	r, err = c.ReplaceContacts(ctx, "alice", []string{"erin", "dave"})
	want("replaced", r, err, 3, "dave", "erin")
	r, err = c.ReplaceContacts(ctx, "alice", nil)
	want("replaced by nobody", r, err, 4)

	var many []string
	for i := range protocol.MaxContacts + 1 {
		many = append(many, fmt.Sprint("user", i))
	}
	if _, err := c.ReplaceContacts(ctx, "alice", many); !errors.Is(err, protocol.ErrRequestTooLarge) {
		t.Errorf("too many: %v", err)
	}
	if _, err := c.AddContacts(ctx, "alice", "\n"); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("a contact that cannot be: %v", err)
	}
	if _, err := c.Contacts(ctx, strings.Repeat("x", 129)); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("a user who cannot be: %v", err)
	}
	f.FailNext(protocol.OpContacts, protocol.ErrOutcomeUnknown)
	asked := f.count(protocol.OpContacts)
	if _, err := c.AddContacts(ctx, "alice", "bob"); !errors.Is(err, protocol.ErrOutcomeUnknown) || f.count(protocol.OpContacts) != asked+1 {
		t.Errorf("outcome unknown: %v after %d requests", err, f.count(protocol.OpContacts)-asked)
	}
}

// Contacts are watched by themselves, as they are and as another device changes
// them, and no longer than they are contacts.
func TestContactsAreWatched(t *testing.T) {
	f := newFakeWith(t, friends)
	f.set("bob", "here")
	f.SetContacts("alice", "bob")
	c, _, _ := f.connect(client.Options{})
	other, _, _ := f.connect(client.Options{})
	o := observe(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "bob as he is", func() bool { return o.told("bob", "here") })
	f.set("bob", "busy")
	eventually(t, "bob's change", func() bool { return o.told("bob", "here", "busy") })

	f.set("carol", "new")
	if _, err := other.AddContacts(testContext(t), "alice", "carol"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "who was added elsewhere", func() bool { return o.told("carol", "new") })
	if _, err := other.RemoveContacts(testContext(t), "alice", "bob"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bob is not watched", func() bool { _, ok := c.Watched("bob"); return !ok })
	if _, ok := other.Watched("carol"); ok {
		t.Error("watched by a client where alice is not logged in")
	}
	f.set("bob", "unheard")
	f.set("carol", "heard")
	eventually(t, "carol's change", func() bool { return o.told("carol", "new", "heard") })
	if !o.told("bob", "here", "busy") {
		t.Errorf("told of bob, who is no contact any more: %q", o.texts["bob"])
	}
}

// A user who is subscribed to and a contact stays watched until neither holds.
func TestContactAndSubscribed(t *testing.T) {
	for _, first := range []string{"unsubscribed", "removed", "logged out"} {
		t.Run(first, func(t *testing.T) {
			f := newFakeWith(t, friends)
			c, nc, _ := f.connect(client.Options{})
			o := observe(c)
			ctx := testContext(t)
			subscribe(t, c, "bob")
			before := nc.NumSubscriptions()
			s, err := c.Login(ctx, "alice", client.LoginOptions{})
			must(t, err)
			_, err = c.AddContacts(ctx, "alice", "bob", "carol")
			must(t, err)
			eventually(t, "carol is watched", shows(c, "carol", ""))
			if n := nc.NumSubscriptions(); n != before+2 {
				t.Errorf("%d more subscriptions, want carol's and alice's own", n-before)
			}
			unsubscribe := func() { _, err := c.UnsubscribeUserStatus(ctx); must(t, err) }
			remove := func() { _, err := c.RemoveContacts(ctx, "alice", "bob", "carol"); must(t, err) }
			logout := func() { must(t, s.Close(ctx)) }
			gone := func(id string) func() bool { return func() bool { _, ok := c.Watched(id); return !ok } }
			switch first {
			case "unsubscribed":
				unsubscribe()
			case "removed":
				remove()
				eventually(t, "carol is gone", gone("carol"))
			case "logged out":
				logout()
				eventually(t, "carol is gone", gone("carol"))
			}
			f.set("bob", "still")
			eventually(t, "bob is watched still", func() bool { return o.last("bob", "still") })
			if first == "unsubscribed" {
				remove()
			} else {
				unsubscribe()
			}
			eventually(t, "bob is gone", gone("bob"))
		})
	}
}

// Of two users who are logged in here, each has its contacts watched.
func TestContactOfTwo(t *testing.T) {
	f := newFakeWith(t, friends)
	f.SetContacts("alice", "carol")
	f.SetContacts("bob", "carol", "alice")
	c, _, _ := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{})
	b, err := c.Login(testContext(t), "bob", client.LoginOptions{})
	must(t, err)
	eventually(t, "both's contacts", func() bool { return shows(c, "carol", "")() && shows(c, "alice", "")() })
	must(t, s.Close(testContext(t)))
	f.set("carol", "still")
	eventually(t, "the other's contacts", shows(c, "carol", "still"))
	must(t, b.Close(testContext(t)))
	eventually(t, "nobody's", func() bool {
		_, carol := c.Watched("carol")
		_, alice := c.Watched("alice")
		return !carol && !alice
	})
}

func TestContactsWithTheSwitchOff(t *testing.T) {
	f := newFake(t)
	f.SetContacts("alice", "bob")
	c, _, cable := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "the contacts are told", own.is(func(o client.Own) bool {
		return slices.Equal(o.Contacts, []string{"bob"}) && !o.FriendNotifications
	}))
	f.SetContacts("alice", "bob", "carol")
	eventually(t, "their change", own.is(func(o client.Own) bool { return len(o.Contacts) == 2 }))
	if _, ok := c.Watched("bob"); ok {
		t.Error("a contact is watched")
	}
	// The service comes back with the switch on, and with it off.
	f.SetFriendNotifications(true)
	cable.Cut()
	cable.Mend()
	eventually(t, "they are watched", func() bool { return shows(c, "bob", "")() && shows(c, "carol", "")() })
	f.SetFriendNotifications(false)
	cable.Cut()
	cable.Mend()
	eventually(t, "they are not", func() bool { _, ok := c.Watched("bob"); return !ok })
}

// Changes that were not heard are noticed by the next, and after a reconnect.
func TestContactsMissed(t *testing.T) {
	f := newFakeWith(t, friends)
	f.SetContacts("alice", "bob")
	c, _, cable := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	is := func(contacts ...string) func() bool {
		return own.is(func(o client.Own) bool { return slices.Equal(o.Contacts, contacts) })
	}
	eventually(t, "bob", is("bob"))
	f.SetMute(true)
	f.SetContacts("alice", "carol")
	f.SetMute(false)
	f.SetContacts("alice", "carol", "dave")
	eventually(t, "carol, of whom there was no event", is("carol", "dave"))
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	f.SetContacts("alice", "erin")
	cable.Mend()
	eventually(t, "erin", is("erin"))
	eventually(t, "erin alone is watched", func() bool {
		_, dave := c.Watched("dave")
		return shows(c, "erin", "")() && !dave
	})

	// An answer that is older than an event is asked for again.
	asked := f.count(protocol.OpContacts)
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, err := next()
		if r.Op == protocol.OpContacts {
			f.Intercept(nil)
			f.SetContacts("alice", "frank")
			eventually(t, "the event is heard before the answer", is("frank"))
		}
		return reply, err
	})
	f.Publish("presence.v1.self.alice", []byte("unreadable"))
	eventually(t, "asked again", func() bool { return f.count(protocol.OpContacts) >= asked+2 })
	eventually(t, "frank alone is watched", func() bool {
		_, erin := c.Watched("erin")
		return is("frank")() && shows(c, "frank", "")() && !erin
	})
}

// A service without contacts, or with them switched off, is no obstacle.
func TestContactsDisabled(t *testing.T) {
	f := newFakeWith(t, friends)
	f.Fail(protocol.OpContacts, protocol.ErrFeatureDisabled)
	c, _, _ := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "told without contacts", own.is(func(o client.Own) bool { return o.Contacts == nil && !o.FriendNotifications }))
	f.Fail(protocol.OpContacts, protocol.ErrInternal) // and then it works
	f.Publish("presence.v1.self.alice", []byte("unreadable"))
	asked := f.count(protocol.OpContacts)
	eventually(t, "asked again", func() bool { return f.count(protocol.OpContacts) > asked+1 })
	f.SetContacts("alice", "bob")
	f.Fail(protocol.OpContacts, nil)
	eventually(t, "bob", own.is(func(o client.Own) bool { return slices.Equal(o.Contacts, []string{"bob"}) }))
}

// After an erasure contacts count from the beginning, and the event has no version.
func TestContactsErased(t *testing.T) {
	f := newFakeWith(t, friends)
	f.SetContacts("alice", "bob")
	c, _, _ := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "bob", own.is(func(o client.Own) bool { return len(o.Contacts) == 1 }))
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		if r.Op == protocol.OpContacts {
			return protocol.ContactsReply{Contacts: []string{}, FriendNotifications: true}, nil
		}
		return next()
	})
	f.Publish("presence.v1.self.alice", []byte(`{"type":"contacts","removed":["bob"]}`))
	eventually(t, "nobody", own.is(func(o client.Own) bool { return len(o.Contacts) == 0 }))
	eventually(t, "bob is not watched", func() bool { _, ok := c.Watched("bob"); return !ok })
}
