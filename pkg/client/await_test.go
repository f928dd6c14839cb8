package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

// awaiting is a call of Await under way.
type awaiting struct {
	t    *testing.T
	done chan struct{}
	list []protocol.Status
	err  error
}

func await(t *testing.T, ctx context.Context, c *client.Client, q client.Quorum, want protocol.StatusType, ids ...string) *awaiting {
	a := &awaiting{t: t, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.list, a.err = c.Await(ctx, ids, q, want)
	}()
	return a
}

func (a *awaiting) isDone() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// want waits for the result, as "bob ONLINE".
func (a *awaiting) want(want ...string) {
	a.t.Helper()
	<-a.done
	var got []string
	for _, s := range a.list {
		got = append(got, fmt.Sprint(s.UserID, " ", s.StatusType))
	}
	if a.err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		a.t.Errorf("Await: got %v, %v, want %v", got, a.err, want)
	}
}

func TestAwait(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	o := observe(c)
	ctx := testContext(t)
	subscribe(t, c, "mark")
	before := nc.NumSubscriptions()

	f.set("bob", "")
	await(t, ctx, c, client.Any, protocol.Online, "bob", "carol", "bob").want("bob ONLINE", "carol UNLOGINED") // at once
	all := await(t, ctx, c, client.All, protocol.Online, "bob", "carol")
	none := await(t, ctx, c, client.Any, protocol.Offline, "bob", "carol")
	eventually(t, "both are under way", func() bool { return f.count("get") >= 4 && nc.NumSubscriptions() == before+2 })
	if all.isDone() || none.isDone() {
		t.Error("done before it was true")
	}
	f.SetStatus("bob", protocol.Offline, "")
	none.want("bob OFFLINE", "carol UNLOGINED")
	f.set("carol", "") // carol is, and bob is not any more
	f.set("mark", "x")
	eventually(t, "mark", shows(c, "mark", "x"))
	if all.isDone() {
		t.Error("done when one of two was")
	}
	f.set("bob", "")
	all.want("bob ONLINE", "carol ONLINE")

	eventually(t, "nothing is left", func() bool { return nc.NumSubscriptions() == before && client.Awaiting(c) == 0 })
	if !o.told("bob") || !o.told("carol") {
		t.Error("callbacks were told of who was awaited only")
	}
	if _, ok := c.Watched("bob"); ok {
		t.Error("bob is watched")
	}
}

// A state that does not last is not missed.
func TestAwaitShortStates(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	before := nc.NumSubscriptions()
	a := await(t, testContext(t), c, client.Any, protocol.Online, "bob")
	eventually(t, "it has begun", func() bool { return f.count("get") >= 2 }) // the second comes a second after the first
	f.set("bob", "")
	f.SetStatus("bob", protocol.Unlogined, "")
	a.want("bob ONLINE")
	eventually(t, "nothing is left", func() bool { return nc.NumSubscriptions() <= before+1 })
}

// Who is subscribed to besides is watched before, meanwhile and after.
func TestAwaitOfWatched(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o := observe(c)
	subscribe(t, c, "bob")
	ctx, cancel := context.WithCancel(testContext(t))
	a := await(t, ctx, c, client.All, protocol.Online, "bob", "carol")
	eventually(t, "it has begun", func() bool { return f.count("get") >= 3 })
	subscribe(t, c, "carol")
	eventually(t, "carol is told", func() bool { return o.told("carol", "") })
	if _, err := c.UnsubscribeUserStatus(ctx); err != nil {
		t.Error(err)
	}
	if _, ok := c.Watched("bob"); ok {
		t.Error("bob is watched")
	}
	f.set("bob", "unheard")
	subscribe(t, c, "carol")
	eventually(t, "carol is told again", func() bool { return o.times("carol") == 2 })
	cancel()
	<-a.done
	if !errors.Is(a.err, context.Canceled) {
		t.Errorf("Await: %v", a.err)
	}
	f.set("carol", "heard")
	eventually(t, "carol is watched", func() bool { return o.told("carol", "", "", "heard") })
	if !o.told("bob", "") {
		t.Errorf("bob was told %q", o.texts["bob"])
	}
}

// While the client is blind nothing is believed; afterwards what is true counts.
func TestG11_AwaitOverAnOutage(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{Timeout: 200 * time.Millisecond}) // for the stale answers
	a := await(t, testContext(t), c, client.Any, protocol.Offline, "bob")
	eventually(t, "it has begun", func() bool { return f.count("get") >= 2 })
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	f.SetStatus("bob", protocol.Offline, "")
	cable.Mend()
	a.want("bob OFFLINE")
	b := await(t, testContext(t), c, client.Any, protocol.Unlogined, "bob")
	f.NewEpoch() // in which nobody is known
	f.set("carol", "")
	f.announce(protocol.Event{Status: protocol.Status{UserID: "bob", StatusType: protocol.Online, Revision: 2}, Epoch: f.Epoch()})
	b.want("bob UNLOGINED")

	// Blind with a connection: events come, and there is no snapshot to trust.
	o := observe(c)
	subscribe(t, c, "mark")
	d := await(t, testContext(t), c, client.Any, protocol.Online, "dave")
	eventually(t, "it has begun", func() bool { return client.Awaiting(c) == 1 && f.asksFor("dave") })
	f.SetStale(true)
	f.Publish("presence.v1.status.mark", []byte("unreadable"))
	eventually(t, "blind", func() bool { return c.State().Reason == client.FetchFailed })
	f.set("dave", "")
	f.set("mark", "after it")
	eventually(t, "both events have come", func() bool { return o.last("mark", "after it") })
	if d.isDone() {
		t.Error("done while blind")
	}
	f.SetStale(false)
	d.want("dave ONLINE")
}

// asksFor reports whether a get for a user was answered.
func (f *fake) asksFor(userID string) bool {
	return slices.ContainsFunc(asked[protocol.GetRequest](f, "get"), func(g protocol.GetRequest) bool { return slices.Contains(g.UserIDList, userID) })
}

func TestAwaitFails(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	ctx := testContext(t)
	for what, err := range map[string]error{
		"nobody":                second(c.Await(ctx, nil, client.All, protocol.Online)),
		"a status that is none": second(c.Await(ctx, []string{"bob"}, client.All, 4)),
		"UNKNOWN":               second(c.Await(ctx, []string{"bob"}, client.All, protocol.Unknown)),
	} {
		if !errors.Is(err, protocol.ErrInvalidRequest) {
			t.Errorf("%s: got %v, want invalid_request", what, err)
		}
	}
	if err := second(c.Await(ctx, []string{"bob", ""}, client.Any, protocol.Online)); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("an empty ID: %v", err)
	}
	f.FailNext("get", protocol.ErrInternal)
	if err := second(c.Await(ctx, []string{"bob"}, client.Any, protocol.Online)); !errors.Is(err, protocol.ErrInternal) {
		t.Errorf("where the service fails: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := second(c.Await(short, []string{"bob"}, client.Any, protocol.Online)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in vain: %v", err)
	}
	eventually(t, "nothing is left", func() bool { return nc.NumSubscriptions() <= 1 })
	a := await(t, ctx, c, client.Any, protocol.Online, "bob")
	eventually(t, "it has begun", func() bool { return nc.NumSubscriptions() == 2 })
	must(t, c.Close())
	<-a.done
	if !errors.Is(a.err, client.ErrClosed) {
		t.Errorf("once closed: %v", a.err)
	}
}

func second[T any](_ T, err error) error { return err }
