package integration

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// TestConformance holds the real service to what the fake of pkg/client/clienttest
// is held to, so that what passes there passes here.
func TestConformance(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.FriendNotifications = true }))
	traffic := recordTraffic(t, kit)
	clienttest.Conformance(t, clienttest.Target{
		Connect: func(t testing.TB) *nats.Conn { return kit.Connect(t) },
		Pass:    func(time.Duration) {}, // it does so by itself, and Conformance waits for what follows
	})
	traffic.check(t)
}

// TestOneUserOnTwoDevices is a day of alice, who has a phone and a laptop, with
// contacts that are watched.
func TestOneUserOnTwoDevices(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.FriendNotifications = true }))
	type device struct {
		*client.Client
		session *client.Session
		mu      sync.Mutex
		own     client.Own
		told    map[string]string
	}
	start := func(name string) *device {
		c, err := client.New(kit.Connect(t), client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		d := &device{Client: c, told: map[string]string{}}
		c.OnOwnChanged(func(own client.Own) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.own = own
		})
		c.OnUserStatusUpdated(func(list []protocol.Status) {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, s := range list {
				d.told[s.UserID] = s.StatusType.String() + " " + s.CustomStatus
			}
		})
		if d.session, err = c.Login(t.Context(), "alice", client.LoginOptions{Device: name, Platform: name}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	eventually := func(d *device, what string, holds func() bool) {
		t.Helper()
		servicetest.Eventually(t, 30*time.Second, what, func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return holds()
		})
	}
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	phone, laptop := start("phone"), start("laptop")
	eventually(phone, "the laptop's session", func() bool { return len(phone.own.Sessions) == 2 })

	check(laptop.AddContacts(ctx, "alice", "bob"))
	eventually(phone, "bob, added elsewhere", func() bool { return phone.told["bob"] == "UNLOGINED " && len(phone.own.Contacts) == 1 })
	check(laptop.SetSelfStatus(ctx, "bob", "hello"))
	eventually(phone, "bob's text", func() bool { return phone.told["bob"] == "UNLOGINED hello" })

	check(laptop.session.SetSelfStatus(ctx, "busy", client.AndAvailability(protocol.DND, time.Hour)))
	eventually(phone, "the laptop's text", func() bool {
		return phone.told["alice"] == "ONLINE busy" && phone.own.Availability.Override == protocol.DND
	})
	check(phone.session.SetAvailability(ctx, protocol.Invisible))
	eventually(laptop, "invisible", func() bool {
		return laptop.own.Status.Availability == protocol.Invisible && laptop.told["alice"] == "ONLINE busy"
	})
	r, err := phone.GetUserStatus(ctx, []string{"alice"}, client.Fresh())
	if err != nil || r.SuccessUserList[0].StatusType != protocol.Offline {
		t.Errorf("everybody sees %+v, %v", r.SuccessUserList, err)
	}
	seen, err := phone.Await(ctx, []string{"alice", "bob"}, client.Any, protocol.Offline)
	if err != nil || seen[0].StatusType != protocol.Offline || seen[1].CustomStatus != "hello" {
		t.Errorf("Await: %+v, %v", seen, err)
	}

	check(laptop.RemoveContacts(ctx, "alice", "bob"))
	servicetest.Eventually(t, 30*time.Second, "bob to be watched no more", func() bool { _, ok := phone.Watched("bob"); return !ok })
	check(laptop.Kick(ctx, "alice", phone.session.ID()))
	<-phone.session.Done()
	if phone.session.EndReason() != protocol.EndKicked || !errors.Is(phone.session.Err(), protocol.ErrSessionReplaced) {
		t.Errorf("the phone's session ended with %v, %q", phone.session.Err(), phone.session.EndReason())
	}
	eventually(laptop, "the phone's end", func() bool { return len(laptop.own.Sessions) == 1 })
	check(laptop.Erase(ctx, "alice"))
	<-laptop.session.Done()
	if laptop.session.EndReason() != protocol.EndErased {
		t.Errorf("the laptop's session ended with %v", laptop.session.Err())
	}
}
