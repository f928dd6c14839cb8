package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// observer records what callbacks are told.
type observer struct {
	mu     sync.Mutex
	texts  map[string][]string // by user
	states []client.State
}

func observe(c *client.Client) *observer {
	o := &observer{texts: map[string][]string{}}
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, s := range list {
			o.texts[s.UserID] = append(o.texts[s.UserID], s.CustomStatus)
		}
	})
	c.OnState(func(s client.State) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.states = append(o.states, s)
	})
	return o
}

// told reports whether a user's texts came in this order and no others. Those
// that waited for the callback to return are told as the last of them.
func (o *observer) told(userID string, want ...string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.texts[userID]
	if len(got) == 0 || len(want) == 0 {
		return len(got) == len(want)
	}
	for _, w := range want {
		if len(got) > 0 && got[0] == w {
			got = got[1:]
		}
	}
	return len(got) == 0 && slices.Equal(o.texts[userID][len(o.texts[userID])-1:], want[len(want)-1:])
}

// times returns how often a user was told of.
func (o *observer) times(userID string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.texts[userID])
}

// last reports whether a user's last text is this one.
func (o *observer) last(userID, want string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.texts[userID]
	return len(list) > 0 && list[len(list)-1] == want
}

// wasBlind reports whether a reason was told.
func (o *observer) wasBlind(r client.Reason) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.states, func(s client.State) bool { return !s.Live && s.Reason == r })
}

func subscribe(t *testing.T, c *client.Client, ids ...string) {
	t.Helper()
	if failures, err := c.SubscribeUserStatus(testContext(t), ids); err != nil || len(failures) > 0 {
		t.Fatalf("SubscribeUserStatus(%q): %v, %v", ids, failures, err)
	}
}

func isLive(c *client.Client) func() bool { return func() bool { return c.State().Live } }

// shows reports whether the local copy has a text and can be trusted.
func shows(c *client.Client, userID, text string) func() bool {
	return func() bool {
		s, ok := c.Watched(userID)
		return ok && s.StatusType != protocol.Unknown && s.CustomStatus == text
	}
}

func TestSubscribeTellsNowAndChanges(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	o := observe(c)
	f.set("bob@example.com", "at first")

	failures, err := c.SubscribeUserStatus(testContext(t), []string{"bob@example.com", "", "carol", "carol"})
	if err != nil || len(failures) != 1 || !errors.Is(failures[0].Err(), protocol.ErrInvalidUserID) {
		t.Fatalf("failures %v, %v, want the empty ID", failures, err)
	}
	if s, ok := c.Watched("bob@example.com"); !ok || s.CustomStatus != "at first" {
		t.Errorf("Watched once subscribed: %v, %v", s, ok)
	}
	f.set("bob@example.com", "then")
	f.set("dave", "nobody watches")
	eventually(t, "the change is told", func() bool { return o.told("bob@example.com", "at first", "then") })
	eventually(t, "who was never seen is told", func() bool { return o.told("carol", "") })

	before := nc.NumSubscriptions()
	subscribe(t, c, "bob@example.com", "carol")
	if n := nc.NumSubscriptions(); n != before {
		t.Errorf("watching twice: %d subscriptions, want %d", n, before)
	}
	if !o.told("bob@example.com", "at first", "then") {
		t.Errorf("watching twice told again: %v", o.texts)
	}

	if failures, err := c.UnsubscribeUserStatus(testContext(t), "carol", "\n", "stranger"); err != nil || len(failures) != 1 {
		t.Errorf("UnsubscribeUserStatus: %v, %v, want one failure", failures, err)
	}
	if s, ok := c.Watched("carol"); ok || s.StatusType != protocol.Unknown {
		t.Errorf("Watched(carol) once unsubscribed: %v, %v", s, ok)
	}
	if _, err := c.UnsubscribeUserStatus(testContext(t)); err != nil {
		t.Error(err)
	}
	if n := nc.NumSubscriptions(); n != before-2 {
		t.Errorf("with all unsubscribed: %d subscriptions, want %d", n, before-2)
	}
}

func TestEventOfAnotherUserIsIgnored(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o := observe(c)
	subscribe(t, c, "bob", "carol")
	body, _ := protocol.Marshal(protocol.Event{Status: protocol.Status{UserID: "carol", CustomStatus: "forged", Revision: 9000}, Epoch: f.Epoch()})
	f.Publish("presence.v1.status.bob", body)
	f.set("bob", "true")
	eventually(t, "the event after it", func() bool { return o.told("bob", "", "true") })
	if !o.told("carol", "") {
		t.Errorf("carol was told as %v", o.texts["carol"])
	}
}

func TestSubscribeThatFailsLeavesNothing(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	subscribe(t, c, "bob")
	before := nc.NumSubscriptions()
	f.Fail("get", protocol.ErrInternal)
	if _, err := c.SubscribeUserStatus(testContext(t), []string{"bob", "carol"}); !errors.Is(err, protocol.ErrInternal) {
		t.Errorf("got %v, want internal", err)
	}
	if _, ok := c.Watched("carol"); ok || nc.NumSubscriptions() != before {
		t.Errorf("carol is watched: %v, with %d subscriptions, want %d", ok, nc.NumSubscriptions(), before)
	}
	if s, ok := c.Watched("bob"); !ok || s.StatusType == protocol.Unknown {
		t.Errorf("bob, watched before, is %v, %v", s, ok)
	}
	f.Fail("get", nil)
	f.failUser("dave", protocol.ErrInternal)
	failures, err := c.SubscribeUserStatus(testContext(t), []string{"carol", "dave"})
	if err != nil || len(failures) != 1 || failures[0].UserID != "dave" {
		t.Errorf("failures %v, %v, want dave", failures, err)
	}
	if _, ok := c.Watched("dave"); ok {
		t.Error("dave is watched")
	}
	if _, ok := c.Watched("carol"); !ok {
		t.Error("carol is not watched")
	}
}

// A subscription that the broker refuses would be deaf for ever.
func TestRefusedSubscriptionIsAnError(t *testing.T) {
	f := newFakeWith(t, clienttest.Options{DenySubscribe: []string{"presence.v1.status.*"}})
	c, _, _ := f.connect(client.Options{})
	if _, err := c.SubscribeUserStatus(testContext(t), []string{"bob"}); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("got %v, want a permissions violation", err)
	}
	if _, ok := c.Watched("bob"); ok {
		t.Error("bob is watched")
	}
}

func TestCallbacksMayCallTheClient(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	done := make(chan error, 1)
	var remove func()
	remove = c.OnUserStatusUpdated(func(list []protocol.Status) {
		remove()
		_, err := c.GetUserStatus(context.Background(), []string{"bob"})
		_, err2 := c.UnsubscribeUserStatus(context.Background(), "bob")
		_, err3 := c.SubscribeUserStatus(context.Background(), []string{"carol"})
		done <- errors.Join(err, err2, err3)
	})
	subscribe(t, c, "bob")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSlowCallbackGetsTheLatest(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	entered, release := make(chan struct{}, 10), make(chan struct{})
	var got [][]protocol.Status
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		got = append(got, list)
		entered <- struct{}{}
		<-release
	})
	subscribe(t, c, "bob")
	<-entered
	subscribe(t, c, "carol")
	for i := range 1000 {
		f.set("bob", fmt.Sprint("text ", i))
	}
	eventually(t, "all is merged", shows(c, "bob", "text 999"))
	if _, err := c.UnsubscribeUserStatus(testContext(t), "carol"); err != nil {
		t.Error(err)
	}
	close(release)
	<-entered
	if len(got) != 2 || len(got[1]) != 1 || got[1][0].CustomStatus != "text 999" {
		t.Errorf("told %v, want bob as at first and at last", got)
	}
}

// Who was unsubscribed is not told of by a callback that begins later, though an
// earlier one was told with the same change.
func TestUnsubscribedWhileCallbacksRun(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	entered, release := make(chan struct{}, 10), make(chan struct{})
	c.OnUserStatusUpdated(func([]protocol.Status) {
		entered <- struct{}{}
		<-release
	})
	second := observe(c)
	subscribe(t, c, "bob")
	<-entered
	if _, err := c.UnsubscribeUserStatus(testContext(t), "bob"); err != nil {
		t.Error(err)
	}
	close(release)
	subscribe(t, c, "carol")
	eventually(t, "told of carol", func() bool { return second.times("carol") > 0 })
	if n := second.times("bob"); n > 0 {
		t.Errorf("told of bob %d times after the unsubscription", n)
	}
}

func TestCloseEndsWatching(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	before := nc.NumSubscriptions()
	subscribe(t, c, "bob", "carol")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { _ = c.Close() })
	}
	wg.Wait()
	if n := nc.NumSubscriptions(); n > before+1 { // nats.go keeps the one for replies
		t.Errorf("%d subscriptions are left", n)
	}
	if _, err := c.SubscribeUserStatus(testContext(t), []string{"bob"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("SubscribeUserStatus: %v, want ErrClosed", err)
	}
	if _, err := c.GetUserStatus(testContext(t), []string{"bob"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("GetUserStatus: %v, want ErrClosed", err)
	}
	if s := c.State(); s.Live || s.Reason != client.Closed {
		t.Errorf("state %v, want closed", s)
	}
}

// Subscribing and unsubscribing at random ends with the interest that is
// wanted, and no more.
func TestWatchConcurrently(t *testing.T) {
	f := newFake(t)
	c, nc, cable := f.connect(client.Options{})
	subscribe(t, c, "kept")
	before := nc.NumSubscriptions()
	ctx := testContext(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				ids := []string{"a", "b", fmt.Sprint("own", i)}
				if _, err := c.SubscribeUserStatus(ctx, ids); err != nil {
					t.Error(err)
				}
				f.set("a", fmt.Sprint(i, j))
				if _, err := c.UnsubscribeUserStatus(ctx, ids...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	cable.Cut()
	cable.Mend()
	wg.Wait()
	if n := nc.NumSubscriptions(); n != before {
		t.Errorf("%d subscriptions, want %d", n, before)
	}
	eventually(t, "live", isLive(c))
	f.set("kept", "end")
	eventually(t, "the one that is watched", shows(c, "kept", "end"))
}
