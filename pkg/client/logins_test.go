package client_test

import (
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

// connectionOf returns what a session is bound to.
func (f *fake) connectionOf(id string) (c protocol.Connection) {
	for _, s := range f.Sessions("alice") {
		if s.SessionID == id && s.Live && s.Connection != nil {
			c = *s.Connection
		}
	}
	return c
}

// Who learns that its session was lost while it lives does not wait for its next renewal.
func TestSessionLostWhileItLives(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{}) // renewed after 30 s and more
	eventually(t, "it is known to be live", func() bool { return f.count(protocol.OpStatus) > 0 })
	for range 2 {
		f.Lose("alice")
		eventually(t, "logged in again", func() bool { return f.isLive(s.ID()) })
	}
	// Another device is there: alice stays ONLINE.
	other, _, _ := f.connect(client.Options{})
	login(t, other, client.LoginOptions{SessionID: "other", Unbound: true})
	f.Lose("alice")
	eventually(t, "logged in again", func() bool { return f.isLive(s.ID()) })
	if n := f.count(protocol.OpRenew); n != 0 {
		t.Errorf("%d renewals: that was no answer to the loss", n)
	}
}

// Two clients with one session ID must not take the session from each other for ever.
func TestSessionSharedWithAnotherClient(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	opts := client.Options{Resync: 100 * time.Millisecond}
	tab := client.LoginOptions{SessionID: "tab", Device: "browser"}
	one, nc1, cable1 := f.connect(opts)
	s1 := login(t, one, tab)
	two, _, cable2 := f.connect(opts)
	s2 := login(t, two, tab)

	eventually(t, "the first has a session of its own", func() bool { return s1.ID() != "tab" && f.isLive(s1.ID()) })
	owner := f.connectionOf("tab")
	for range 2 { // nobody goes back, on new connections either
		cable1.Cut()
		cable1.Mend()
		eventually(t, "the first is bound again", func() bool {
			id, err := nc1.GetClientID()
			return err == nil && f.connectionOf(s1.ID()).ClientID == id
		})
	}
	if f.connectionOf("tab") != owner {
		t.Error("the first has bound the shared session again")
	}
	// One's own earlier connection is not another client's.
	cable2.Cut()
	cable2.Mend()
	eventually(t, "the second is bound again", func() bool { c := f.connectionOf("tab"); return c.ClientID != 0 && c != owner })
	asked := f.count(protocol.OpStatus)
	eventually(t, "it looks at its sessions", func() bool { return f.count(protocol.OpStatus) > asked+4 })
	if s2.ID() != "tab" || s1.Err() != nil || s2.Err() != nil {
		t.Errorf("the second has the session %q; ended: %v, %v", s2.ID(), s1.Err(), s2.Err())
	}
	for _, x := range f.Sessions("alice") {
		if want := map[string]string{"tab": "browser"}[x.SessionID]; x.Device != want || !x.Live {
			t.Errorf("session %+v, want the device %q", x, want)
		}
	}
}
