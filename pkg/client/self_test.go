package client_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// owns records what OnOwnChanged tells.
type owns struct {
	mu   sync.Mutex
	list []client.Own
}

func observeOwn(c *client.Client) *owns {
	o := &owns{}
	c.OnOwnChanged(func(own client.Own) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.list = append(o.list, own)
	})
	return o
}

// last returns the last that was told, and how many were.
func (o *owns) last() (client.Own, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) == 0 {
		return client.Own{}, 0
	}
	return o.list[len(o.list)-1], len(o.list)
}

// is reports whether the last that was told is so.
func (o *owns) is(holds func(client.Own) bool) func() bool {
	return func() bool { own, n := o.last(); return n > 0 && holds(own) }
}

func TestSetAvailability(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	ctx := testContext(t)
	s := login(t, c, client.LoginOptions{})
	if got, err := s.SetAvailability(ctx, protocol.Busy); err != nil || got.Availability != protocol.Busy {
		t.Errorf("SetAvailability: %+v, %v", got, err)
	}
	if got, err := s.SetAvailability(ctx, protocol.DND, client.ExpiresIn(90*time.Second)); err != nil || got.Availability != protocol.DND {
		t.Errorf("SetAvailability for a while: %+v, %v", got, err)
	}
	got, err := s.SetSelfStatus(ctx, "lunch", client.ExpiresIn(time.Minute), client.AndAvailability(protocol.Away, time.Hour))
	if err != nil || got.CustomStatus != "lunch" || got.Availability != protocol.Away {
		t.Errorf("both: %+v, %v", got, err)
	}
	if _, err := c.SetAvailability(ctx, "alice", protocol.Available); err != nil {
		t.Error(err)
	}
	if _, err := s.SetSelfStatus(ctx, "", client.AndAvailability("asleep", 0)); !errors.Is(err, protocol.ErrInvalidRequest) {
		t.Errorf("an availability that is none: %v", err)
	}
	want := []string{
		`{"availability":"busy","sessionID":"%s"}`,
		`{"availability":"dnd","availabilityExpiresInSeconds":90,"sessionID":"%s"}`,
		`{"customStatus":"lunch","expiresInSeconds":60,"availability":"away","availabilityExpiresInSeconds":3600,"sessionID":"%s"}`,
	}
	for i, r := range f.Requests(protocol.OpSet)[:3] {
		if want := fmt.Sprintf(want[i], s.ID()); string(r.Body) != want {
			t.Errorf("request %d: %s, want %s", i, r.Body, want)
		}
	}
	own, err := s.Status(ctx)
	if want := (protocol.AvailabilitySettings{Lasting: protocol.Available}); err != nil || own.Availability != want {
		t.Errorf("after a lasting one: %+v, %v", own.Availability, err)
	}

	g := openGateway(t, c, "gw1", client.GatewayOptions{})
	if err := g.SetAvailability(ctx, "bob", protocol.Busy, client.ExpiresIn(time.Minute)); err != nil {
		t.Error(err)
	}
	if err := g.SetStatus(ctx, "bob", "hello", client.AndAvailability(protocol.DND, 0)); err != nil {
		t.Error(err)
	}
	if own, err := c.OwnStatus(ctx, "bob"); err != nil || own.Availability.Lasting != protocol.DND || own.Availability.Override != "" {
		t.Errorf("by a gateway: %+v, %v", own.Availability, err)
	}
}

// What one device changes the others are told (user-status: USER_STATUS_UPDATED
// on all devices of an account).
func TestOwnChangesReachAllDevices(t *testing.T) {
	f := newFake(t)
	phone, _, _ := f.connect(client.Options{})
	laptop, _, _ := f.connect(client.Options{})
	statuses, own := observe(phone), observeOwn(phone)
	onLaptop := observe(laptop)
	ctx := testContext(t)
	login(t, phone, client.LoginOptions{Device: "phone", Platform: "ios"})
	eventually(t, "told as it is", own.is(func(o client.Own) bool {
		return o.UserID == "alice" && o.Status.StatusType == protocol.Online && len(o.Sessions) == 1 && o.Availability.Lasting == protocol.Available
	}))
	l := login(t, laptop, client.LoginOptions{Device: "laptop", Platform: "mac", Idle: true})
	eventually(t, "the other session", own.is(func(o client.Own) bool { return len(o.Sessions) == 2 && o.Sessions[1].Platform == "mac" }))

	if _, err := l.SetSelfStatus(ctx, "busy"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the text", func() bool { return statuses.told("alice", "", "busy") && onLaptop.told("alice", "", "busy") })
	if _, err := l.SetAvailability(ctx, protocol.Invisible); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SetSelfStatus(ctx, "hiding"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what only the owner sees", own.is(func(o client.Own) bool {
		return o.Status.Availability == protocol.Invisible && o.Status.StatusType == protocol.Online && o.Status.CustomStatus == "hiding" && o.Availability.Lasting == protocol.Invisible
	}))
	if err := l.SetIdle(ctx, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that it is not idle", own.is(func(o client.Own) bool { return !o.Sessions[1].Idle }))
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the other session", own.is(func(o client.Own) bool { return len(o.Sessions) == 1 }))
	_, before := own.last()
	f.set("bob", "somebody else")
	if s := f.set("alice", "back"); s.CustomStatus != "" {
		t.Errorf("everybody sees %v of an invisible user", s)
	}
	eventually(t, "one more change", func() bool { _, n := own.last(); return n > before })
	for _, o := range own.list {
		if o.UserID != "alice" {
			t.Errorf("told of %s", o.UserID)
		}
	}
}

// Whoever watches a user sees what everybody sees, logged in here or not: a
// program that shows users to others must not give an invisible one away.
func TestG09_WatchedUserIsShownAsToEverybody(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	o, own := observe(c), observeOwn(c)
	ctx := testContext(t)
	subscribe(t, c, "alice")
	s := login(t, c, client.LoginOptions{})
	if _, err := s.SetSelfStatus(ctx, "seen"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the text", func() bool { return o.last("alice", "seen") })
	if _, err := s.SetAvailability(ctx, protocol.Invisible); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetSelfStatus(ctx, "hidden"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the owner's view", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "hidden" }))
	eventually(t, "the public view", func() bool { s, _ := c.Watched("alice"); return s.StatusType == protocol.Offline })
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.texts["alice"], "hidden") {
		t.Errorf("told %q", o.texts["alice"])
	}
}

func TestKickedSessionEndsAtOnce(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	s, other := login(t, c, client.LoginOptions{}), login(t, c, client.LoginOptions{})
	logins := f.count(protocol.OpLogin)
	f.Kick("alice", s.ID())
	<-s.Done()
	if !errors.Is(s.Err(), protocol.ErrSessionReplaced) || s.EndReason() != protocol.EndKicked {
		t.Errorf("ended with %v, reason %q", s.Err(), s.EndReason())
	}
	cable.Cut()
	cable.Mend()
	eventually(t, "the other logs in again", func() bool { return f.count(protocol.OpLogin) > logins })
	if _, err := s.SetSelfStatus(testContext(t), "x"); !errors.Is(err, protocol.ErrSessionReplaced) {
		t.Errorf("SetSelfStatus of a kicked session: %v", err)
	}
	for _, l := range asked[protocol.LoginRequest](f, protocol.OpLogin)[logins:] {
		if l.SessionID == s.ID() {
			t.Error("the kicked session logged in again")
		}
	}
	if other.Err() != nil {
		t.Errorf("the other has ended: %v", other.Err())
	}

	// Each reason, and a session of another client.
	far, _, _ := f.connect(client.Options{})
	phone := login(t, far, client.LoginOptions{Device: "phone"})
	login(t, c, client.LoginOptions{Device: "phone"})
	<-phone.Done()
	if phone.EndReason() != protocol.EndReplaced {
		t.Errorf("replaced: %q, %v", phone.EndReason(), phone.Err())
	}
	laptop := login(t, far, client.LoginOptions{})
	if err := c.LogoutAll(testContext(t), "alice"); err != nil {
		t.Error(err)
	}
	<-laptop.Done()
	if laptop.EndReason() != protocol.EndLogout {
		t.Errorf("logged out everywhere: %q, %v", laptop.EndReason(), laptop.Err())
	}
	tablet := login(t, far, client.LoginOptions{})
	if _, err := c.Erase(testContext(t), "alice"); err != nil {
		t.Error(err)
	}
	<-tablet.Done()
	if tablet.EndReason() != protocol.EndErased {
		t.Errorf("erased: %q, %v", tablet.EndReason(), tablet.Err())
	}
}

// The event of its end may come before the answer to its login.
func TestLoginThatIsKickedMeanwhile(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, err := next()
		if r.Op == protocol.OpLogin {
			f.Kick("alice")
		}
		return reply, err
	})
	before := nc.NumSubscriptions()
	s, err := c.Login(testContext(t), "alice", client.LoginOptions{})
	if err == nil { // it ends as soon as the event is read
		<-s.Done()
		err = s.Err()
	}
	if !errors.Is(err, protocol.ErrSessionReplaced) {
		t.Errorf("Login: %v, want session_replaced", err)
	}
	eventually(t, "nothing is heard any more", func() bool { return nc.NumSubscriptions() <= before+1 }) // that for replies stays
}

// After a reconnect it is known what happened meanwhile.
func TestOwnIsFetchedAnewAfterAReconnect(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	o, own := observe(c), observeOwn(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "told as it is", own.is(func(client.Own) bool { return true }))
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	f.set("alice", "elsewhere")
	f.SetContacts("alice", "bob")
	f.SetAvailability("alice", protocol.DND)
	cable.Mend()
	eventually(t, "all of it", own.is(func(o client.Own) bool {
		return o.Status.CustomStatus == "elsewhere" && o.Availability.Lasting == protocol.DND && slices.Equal(o.Contacts, []string{"bob"})
	}))
	eventually(t, "the status", func() bool { return o.last("alice", "elsewhere") })
}

// What was dropped, or cannot be read, is fetched.
func TestOwnMissedEvents(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "told as it is", own.is(func(client.Own) bool { return true }))
	f.setSecretly("alice", "unheard")
	f.Publish("presence.v1.self.alice", []byte(`{"type":7}`))
	eventually(t, "the text", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "unheard" }))
	f.Publish("presence.v1.self.alice", []byte(`{"type":"of tomorrow"}`))
	f.NewEpoch()
	f.set("alice", "new journal")
	eventually(t, "the new journal", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "new journal" }))
}

// With another journal nobody is told of what is left of the view until all of it
// is known again.
func TestOwnIsWholeInANewEpoch(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	own := observeOwn(c)
	s := login(t, c, client.LoginOptions{})
	eventually(t, "told as it is", own.is(func(client.Own) bool { return true }))
	f.NewEpoch()
	f.Fail(protocol.OpStatus, protocol.ErrUnavailable)
	if _, err := s.SetSelfStatus(testContext(t), "new journal"); err != nil { // which logs in again
		t.Fatal(err)
	}
	eventually(t, "a fetch that fails", func() bool { return len(f.Requests(protocol.OpStatus)) > 2 })
	f.Fail(protocol.OpStatus, nil)
	eventually(t, "the new journal", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "new journal" }))
	own.mu.Lock()
	defer own.mu.Unlock()
	for _, o := range own.list {
		if o.Availability.Lasting != protocol.Available || len(o.Sessions) == 0 {
			t.Errorf("told %+v", o)
		}
	}
}

// An event that is late, or comes twice, changes nothing.
func TestOwnEventsMergeByRevision(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	f.SetAvailability("alice", protocol.Busy)
	eventually(t, "busy", own.is(func(o client.Own) bool { return o.Availability.Lasting == protocol.Busy }))
	for _, ev := range []protocol.SelfEvent{
		{Type: protocol.SelfAvailability, Availability: &protocol.AvailabilitySettings{Lasting: protocol.Away}, Revision: 1},
		{Type: protocol.SelfSessions, Sessions: []protocol.Session{}, Revision: 1},
		{Type: protocol.SelfStatus, Status: &protocol.Status{UserID: "alice", CustomStatus: "late", Revision: 1}},
		{Type: protocol.SelfStatus, Status: &protocol.Status{UserID: "bob", CustomStatus: "forged", Revision: 1 << 40}},
		{Type: protocol.SelfStatus},
		{Type: protocol.SelfAvailability, Revision: 1 << 40},
	} {
		ev.Epoch = f.Epoch()
		body, _ := protocol.Marshal(ev)
		f.Publish("presence.v1.self.alice", body)
	}
	f.set("alice", "after them")
	eventually(t, "the event after them", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "after them" }))
	if o, _ := own.last(); o.Availability.Lasting != protocol.Busy || len(o.Sessions) == 0 {
		t.Errorf("told %+v", o)
	}
}

// Two devices that set different things come to rest with the last of them: no
// client sets anything by itself, after a reconnect neither.
func TestTwoDevicesNeverLoop(t *testing.T) {
	f := newFake(t)
	ctx := testContext(t)
	var sessions []*client.Session
	var cables []*clienttest.Cable
	var heard []*owns
	for _, device := range []string{"phone", "laptop"} {
		c, _, cable := f.connect(client.Options{Resync: 50 * time.Millisecond})
		heard = append(heard, observeOwn(c))
		s := login(t, c, client.LoginOptions{Device: device})
		sessions, cables = append(sessions, s), append(cables, cable)
	}
	var wg sync.WaitGroup
	for i, s := range sessions {
		wg.Go(func() {
			for j := range 20 {
				if _, err := s.SetSelfStatus(ctx, fmt.Sprint("text ", i, j), client.AndAvailability(protocol.Busy, 0)); err != nil {
					t.Error(err)
				}
				if _, err := s.SetAvailability(ctx, protocol.Away); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cables[0].Cut()
	cables[0].Mend()
	logins := f.count(protocol.OpLogin)
	eventually(t, "logged in again", func() bool { return f.count(protocol.OpLogin) > logins || f.count(protocol.OpLogin) == 3 })
	asked := f.count(protocol.OpStatus)
	eventually(t, "fetched a few times more", func() bool { return f.count(protocol.OpStatus) > asked+6 })
	if sets, logins := f.count(protocol.OpSet), f.count(protocol.OpLogin); sets != 80 || logins != 3 {
		t.Errorf("%d sets and %d logins, want the 80 that were called and 3", sets, logins)
	}
	want := f.Status("alice")
	for i, o := range heard {
		eventually(t, "at rest with the last", o.is(func(o client.Own) bool { return o.Status.CustomStatus == want.CustomStatus }))
		if sessions[i].Err() != nil {
			t.Errorf("session %d has ended: %v", i, sessions[i].Err())
		}
	}
}

// After the last session nothing of the user is heard.
func TestOwnEndsWithTheLastSession(t *testing.T) {
	f := newFakeWith(t, clienttest.Options{FriendNotifications: true})
	f.SetContacts("alice", "bob")
	c, nc, _ := f.connect(client.Options{})
	own := observeOwn(c)
	subscribe(t, c, "mark") // so that there is a subscription for replies
	before := nc.NumSubscriptions()
	s, s2 := login(t, c, client.LoginOptions{}), login(t, c, client.LoginOptions{})
	eventually(t, "bob is watched", shows(c, "bob", ""))
	if n := nc.NumSubscriptions(); n != before+2 {
		t.Errorf("%d subscriptions for two sessions and a contact, want 2", n-before)
	}
	for i, s := range []*client.Session{s, s2} {
		if _, ok := c.Watched("bob"); !ok {
			t.Errorf("bob is not watched before session %d is closed", i)
		}
		if err := s.Close(testContext(t)); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing is heard", func() bool { return nc.NumSubscriptions() == before })
	_, told := own.last()
	f.set("alice", "unheard")
	f.set("mark", "heard")
	eventually(t, "mark", shows(c, "mark", "heard"))
	if _, n := own.last(); n != told {
		t.Error("told of a user who is not logged in any more")
	}
	login(t, c, client.LoginOptions{})
	eventually(t, "told again", own.is(func(o client.Own) bool {
		return o.Status.CustomStatus == "unheard" || o.Status.StatusType == protocol.Online && len(o.Sessions) > 0
	}))
	eventually(t, "bob is watched again", shows(c, "bob", ""))
}

// Where the broker does not let a user hear of oneself, the client says so once,
// and asks.
func TestOwnWithoutPermission(t *testing.T) {
	f := newFakeWith(t, clienttest.Options{DenySubscribe: []string{"presence.v1.self.*"}})
	var log lockedBuffer
	said := func() int { return strings.Count(log.String(), "not heard") }
	c, _, _ := f.connect(client.Options{Resync: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	eventually(t, "the broker refuses", func() bool { return said() > 0 })
	f.set("alice", "asked for")
	eventually(t, "the text", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "asked for" }))
	f.set("alice", "again")
	eventually(t, "the text", own.is(func(o client.Own) bool { return o.Status.CustomStatus == "again" }))
	must(t, c.Close())
	if n := said(); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

// An answer that is older than an event, by an instance that is a moment behind, is
// asked for again.
func TestOwnAnswerOlderThanAnEvent(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	own := observeOwn(c)
	login(t, c, client.LoginOptions{})
	f.Lose("alice")
	eventually(t, "OFFLINE", own.is(func(o client.Own) bool {
		return o.Status.StatusType == protocol.Offline && len(o.Sessions) == 1 && !o.Sessions[0].Live
	}))
	old, err := c.OwnStatus(testContext(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		if r.Op != protocol.OpStatus {
			return next()
		}
		f.Intercept(nil)
		return old, nil
	})
	f.set("alice", "another device")
	want := len(f.Sessions("alice"))
	eventually(t, "all sessions", own.is(func(o client.Own) bool { return o.Status.StatusType == protocol.Online && len(o.Sessions) == want }))
}
