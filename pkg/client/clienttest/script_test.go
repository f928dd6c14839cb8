package clienttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// badge is code that is to be tested: the colour of a user's badge.
func badge(ctx context.Context, c *client.Client, userID string) (string, error) {
	r, err := c.GetUserStatus(ctx, []string{userID})
	switch {
	case err != nil:
		return "", fmt.Errorf("the badge of %s: %w", userID, err)
	case r.SuccessUserList[0].StatusType == protocol.Online:
		return "green", nil
	}
	return "grey", nil
}

func TestBadge(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{})
	c := s.Client(client.Options{})
	want := func(colour string, failure error) {
		t.Helper()
		if got, err := badge(t.Context(), c, "bob"); got != colour || !errors.Is(err, failure) {
			t.Errorf("badge: got %q, %v, want %q, %v", got, err, colour, failure)
		}
	}
	want("grey", nil)
	s.SetStatus("bob", protocol.Online, "")
	want("green", nil)
	s.FailNext("get", protocol.ErrInternal)
	want("", protocol.ErrInternal)
	want("green", nil)
	s.SetStatus("bob", protocol.Offline, "")
	want("grey", nil)
	if n := len(s.Requests("get")); n != 5 || len(s.Requests("")) != 5 {
		t.Errorf("%d of %d requests were get, want 5", n, len(s.Requests("")))
	}
}

// What SetStatus brings about is what users do.
func TestSetStatus(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{})
	nc := s.Connect()
	events := make(chan *nats.Msg, 10)
	if _, err := nc.ChanSubscribe("presence.v1.status.bob", events); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		statusType protocol.StatusType
		text       string
		want       string // the event, if any
	}{
		{protocol.Unlogined, "", ""},
		{protocol.Online, "hello", "ONLINE hello login"},
		{protocol.Online, "hello", ""},
		{protocol.Online, "bye", "ONLINE bye set"},
		{protocol.Offline, "", "OFFLINE  lost"},
		{protocol.Online, "", "ONLINE  login"},
		{protocol.Unlogined, "", "UNLOGINED  logout"},
		{protocol.Offline, "", "OFFLINE  lost"},
	} {
		if got := s.SetStatus("bob", tt.statusType, tt.text); got.StatusType != tt.statusType || got.CustomStatus != tt.text {
			t.Errorf("SetStatus(%v, %q): got %+v", tt.statusType, tt.text, got)
		}
		if tt.want == "" {
			continue
		}
		var ev protocol.Event
		if err := protocol.Unmarshal((<-events).Data, &ev); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(ev.StatusType, " ", ev.CustomStatus, " ", ev.Cause); got != tt.want {
			t.Errorf("SetStatus(%v, %q): told %q, want %q", tt.statusType, tt.text, got, tt.want)
		}
	}
}

func TestAdvance(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{})
	c := s.Client(client.Options{})
	if _, err := c.SetSelfStatus(t.Context(), "bob", "for an hour", client.ExpiresIn(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.Advance(time.Hour - time.Second)
	if got := s.Status("bob"); got.CustomStatus != "for an hour" {
		t.Errorf("a second before: %+v", got)
	}
	s.Advance(time.Second)
	if got := s.Status("bob"); got.CustomStatus != "" {
		t.Errorf("at the end: %+v", got)
	}
	s.SetStatus("bob", protocol.Offline, "")
	s.Advance(protocol.DefaultRetention)
	if got := s.Status("bob"); got.StatusType != protocol.Unlogined {
		t.Errorf("after a week: %+v", got)
	}
}

// Time ends the sessions of clients that are away or do not renew, and no others.
func TestAdvanceEndsSessions(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{})
	cable := s.Cable()
	c, err := client.New(s.Connect(nats.InProcessServer(cable)), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Login(t.Context(), "alice", client.LoginOptions{}); err != nil {
		t.Fatal(err)
	}
	patient := s.Cable() // the network of those who chose a grace
	pc, err := client.New(s.Connect(nats.InProcessServer(patient)), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	if _, err := pc.Login(t.Context(), "carol", client.LoginOptions{Grace: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	g, err := pc.OpenGateway(t.Context(), "gw", client.GatewayOptions{Grace: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Login(t.Context(), "dave", "s1", client.GatewayLogin{}); err != nil {
		t.Fatal(err)
	}
	s.SetStatus("bob", protocol.Online, "")
	after := func(d time.Duration, what string, want protocol.StatusType) {
		t.Helper()
		s.Advance(d)
		if got := s.Status("alice"); got.StatusType != want {
			t.Errorf("%s: got %+v, want %v", what, got, want)
		}
	}
	after(3*time.Hour, "connected", protocol.Online)
	cable.Cut()
	after(protocol.DefaultGrace-100*time.Millisecond, "a moment before the grace ends", protocol.Online)
	after(100*time.Millisecond, "at the end of the grace", protocol.Offline)
	patient.Cut()
	for _, want := range []protocol.StatusType{protocol.Online, protocol.Offline} {
		s.Advance(20*time.Second - 100*time.Millisecond) // a moment before the end, and long after
		for _, id := range []string{"carol", "dave"} {
			if got := s.Status(id); got.StatusType != want {
				t.Errorf("%s, who chose a grace of 20 s: got %+v, want %v", id, got, want)
			}
		}
	}
	cable.Mend()
	for deadline := time.Now().Add(20 * time.Second); s.Status("alice").StatusType != protocol.Online; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("alice does not log in again")
		}
	}
	s.Leave()
	after(time.Hour, "while nobody ran", protocol.Online)
	s.Return()
	after(time.Second, "in the amnesty", protocol.Online)
	s.Fail(protocol.OpLogin, clienttest.ErrNoAnswer)
	s.Fail(protocol.OpRenew, clienttest.ErrNoAnswer)
	after(protocol.DefaultBoundTTL, "without renewals", protocol.Offline)
	if got := s.Status("bob"); got.StatusType != protocol.Online {
		t.Errorf("whom SetStatus made ONLINE: got %+v", got)
	}
}

// An instance that is cut off says so, and changes nothing.
func TestSetStale(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{})
	c := s.Client(client.Options{Patience: time.Second})
	s.SetStale(true)
	if r, err := c.GetUserStatus(t.Context(), []string{"bob"}); err != nil || !r.Stale {
		t.Errorf("get: %+v, %v", r, err)
	}
	if _, err := c.SetSelfStatus(t.Context(), "bob", "x"); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("set: %v", err)
	}
	s.SetStale(false)
	if got := s.Status("bob"); got.Revision != 0 {
		t.Errorf("it was set: %+v", got)
	}
}

// A fake without a test panics where a test would fail.
func TestStart(t *testing.T) {
	s, err := clienttest.Start(clienttest.Options{Prefix: "elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Client(client.Options{})
	s.SetStatus("bob", protocol.Online, "")
	if r, err := c.GetUserStatus(t.Context(), []string{"bob"}); err != nil || r.SuccessUserList[0].StatusType != protocol.Online {
		t.Errorf("get: %+v, %v", r, err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a status that cannot be was set")
			}
		}()
		s.SetStatus("bob", protocol.Offline, "a text")
	}()
	s.Close()
	s.Close()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := clienttest.Start(clienttest.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s.Client(client.Options{})
		s.Close()
	}
}

// TestAdvance_OneRenewalFails: FailNext has one renewal fail, and not all that fall into one
// Advance. The session is renewed soon after, long before its TTL ends.
func TestAdvance_OneRenewalFails(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{})
	c := s.Client(client.Options{})
	if _, err := c.Login(t.Context(), "alice", client.LoginOptions{TTL: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	s.FailNext("renew", protocol.ErrUnavailable)
	s.Advance(10 * time.Minute)
	if got := s.Status("alice").StatusType; got != protocol.Online {
		t.Errorf("after one renewal that failed alice is %v, want %v", got, protocol.Online)
	}
	s.Fail("login", protocol.ErrUnavailable) // or the client logs in again at once
	s.Fail("renew", protocol.ErrUnavailable)
	s.Advance(10 * time.Minute)
	if got := s.Status("alice").StatusType; got != protocol.Offline {
		t.Errorf("while all renewals fail alice is %v, want %v", got, protocol.Offline)
	}
}
