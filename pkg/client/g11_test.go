package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

func TestG11_SubscribeRace(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o := observe(c)
	f.set("bob", "old")
	var late protocol.Status
	f.afterNextGet(func() { late = f.set("bob", "new") })
	subscribe(t, c, "bob")
	eventually(t, "the change during the snapshot", shows(c, "bob", "new"))

	// The event again, and an older one late.
	f.announce(protocol.Event{Status: late, Epoch: f.Epoch()})
	late.Revision, late.CustomStatus = late.Revision-1, "old"
	f.announce(protocol.Event{Status: late, Epoch: f.Epoch()})
	f.set("bob", "last")
	eventually(t, "the last change", shows(c, "bob", "last"))
	eventually(t, "told in order", func() bool { return o.told("bob", "old", "new", "last") })
}

// In a cluster an event may pass by a subscription that its server has not
// heard of yet.
func TestG11_SecondSnapshotAfterSubscribing(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	subscribe(t, c, "bob", "carol")
	f.setSecretly("bob", "here")
	eventually(t, "the change that was not announced", shows(c, "bob", "here"))
	if n := f.count("get"); n != 2 {
		t.Errorf("%d gets, want 2", n)
	}
}

func TestG11_ReconnectLeadsToNewSnapshot(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	o := observe(c)
	f.set("bob", "before")
	var ids []string
	for i := range 700 {
		ids = append(ids, fmt.Sprint("user", i))
	}
	subscribe(t, c, append(ids, "bob")...)

	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	if s, ok := c.Watched("bob"); !ok || s.StatusType != protocol.Unknown || s.CustomStatus != "" {
		t.Errorf("Watched while blind: %v, %v, want UNKNOWN", s, ok)
	}
	f.set("bob", "during")
	cable.Mend()
	eventually(t, "live again", isLive(c))
	if !shows(c, "bob", "during")() {
		t.Errorf("once live again without what happened meanwhile")
	}
	f.set("bob", "after")
	eventually(t, "changes alone are told", func() bool {
		return o.told("bob", "before", "during", "after") && o.told("user0", "") && o.told("user699", "")
	})
	if !o.wasBlind(client.Disconnected) {
		t.Errorf("told states %v, want one of them disconnected", o.states)
	}
}

// So it is with the subscriptions that nats.go repeats on a new connection.
func TestG11_SecondSnapshotAfterReconnect(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	subscribe(t, c, "bob")
	eventually(t, "the second snapshot", func() bool { return f.count("get") == 2 })
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	cable.Mend()
	eventually(t, "live again", isLive(c))
	f.setSecretly("bob", "here")
	eventually(t, "the change that was not announced", shows(c, "bob", "here"))
}

func TestG11_FailedSnapshotStaysBlind(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{Timeout: 50 * time.Millisecond})
	o := observe(c)
	subscribe(t, c, "bob")
	f.Fail("get", protocol.ErrInternal)
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	cable.Mend()
	eventually(t, "told that fetching fails", func() bool { return o.wasBlind(client.FetchFailed) })
	if s := c.State(); s.Live || !errors.Is(s.Err, protocol.ErrInternal) {
		t.Errorf("state %v, want blind and why", s)
	}
	f.Fail("get", nil)
	f.SetStale(true)
	asked := f.count("get")
	eventually(t, "a stale answer is asked again", func() bool { return f.count("get") > asked+1 })
	if c.State().Live {
		t.Error("live after a stale snapshot")
	}
	f.SetStale(false)
	eventually(t, "live", isLive(c))
}

func TestG11_PeriodicSnapshot(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{Resync: 30 * time.Millisecond, Timeout: 50 * time.Millisecond})
	o := observe(c)
	subscribe(t, c, "bob")
	f.setSecretly("bob", "here")
	eventually(t, "what was never announced", shows(c, "bob", "here"))
	f.SetStale(true)
	eventually(t, "blind while snapshots are stale", func() bool { return o.wasBlind(client.FetchFailed) })
	f.SetStale(false)
	eventually(t, "live", isLive(c))
}

func TestG11_DroppedMessagesLeadToNewSnapshot(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{EventBuffer: 4})
	o := observe(c)
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint("user", i))
	}
	subscribe(t, c, ids...)
	in := nc.Stats().InMsgs
	release := client.StallMerge(c)
	for _, id := range ids {
		f.set(id, "new")
	}
	eventually(t, "all events have come or been dropped", func() bool { return nc.Stats().InMsgs >= in+20 })
	release()
	eventually(t, "told of the drop", func() bool { return o.wasBlind(client.Dropped) })
	for _, id := range ids {
		eventually(t, id+" as it is", shows(c, id, "new"))
		eventually(t, id+" told once", func() bool { return o.told(id, "", "new") })
	}
}

// What is lost while a snapshot is under way may not be in it.
func TestG11_LossDuringSnapshot(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	subscribe(t, c, "bob")
	f.set("bob", "old")
	eventually(t, "the old text", shows(c, "bob", "old"))
	live := make(chan string, 10)
	c.OnState(func(s client.State) {
		if s.Live {
			bob, _ := c.Watched("bob")
			live <- bob.CustomStatus
		}
	})
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	f.afterNextGet(func() {
		f.setSecretly("bob", "new")
		f.Publish("presence.v1.status.bob", []byte("unreadable"))
		eventually(t, "the loss is noticed", func() bool { return c.State().Reason == client.Dropped })
	})
	cable.Mend()
	if text := <-live; text != "new" {
		t.Errorf("live again with %q, want what was lost", text)
	}
}

func TestG11_UnreadableEvent(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o := observe(c)
	subscribe(t, c, "bob")
	f.setSecretly("bob", "here")
	f.Publish("presence.v1.status.bob", []byte(`{"revision":"x"}`))
	eventually(t, "blind for a moment", func() bool { return o.wasBlind(client.Dropped) })
	eventually(t, "what the event was about", shows(c, "bob", "here"))
}

func TestG11_EpochChange(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o := observe(c)
	f.set("bob", "old journal")
	subscribe(t, c, "bob", "carol")
	// From here on nothing but an event can tell.
	eventually(t, "the second snapshot", func() bool { return f.count("get") == 2 })

	// A new journal counts from the beginning.
	old := f.Epoch()
	f.NewEpoch()
	f.set("carol", "new journal")
	eventually(t, "told of it", func() bool { return o.wasBlind(client.EpochChanged) })
	eventually(t, "carol", shows(c, "carol", "new journal"))
	eventually(t, "bob, of whom there was no event", shows(c, "bob", ""))

	// A late event of the old journal, with a high revision, changes nothing.
	f.announce(protocol.Event{Status: protocol.Status{UserID: "bob", CustomStatus: "old journal", Revision: 5000}, Epoch: old})
	f.set("bob", "now")
	eventually(t, "bob", shows(c, "bob", "now"))
	eventually(t, "each told once", func() bool { return o.told("bob", "old journal", "", "now") })
}
