package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

// What the contract does not allow is refused before it is encoded: the encoder would turn
// invalid UTF-8 into something else, silently.
func TestTextsAreCheckedBeforeTheyAreSent(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	ctx := testContext(t)
	g, err := c.OpenGateway(ctx, "gw", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := login(t, c, client.LoginOptions{})
	sent := len(f.Requests(""))
	const latin = "Caf\xe9"
	long := strings.Repeat("x", protocol.MostCustomStatusBytes+1)
	loginWith := func(o client.LoginOptions) error { _, err := c.Login(ctx, "bob", o); return err }
	for what, err := range map[string]error{
		"a text":                      second(c.SetSelfStatus(ctx, "bob", latin)),
		"a session's text":            second(s.SetSelfStatus(ctx, latin)),
		"a control character":         second(c.SetSelfStatus(ctx, "bob", "a\nb")),
		"an expiry without a text":    second(c.SetSelfStatus(ctx, "bob", "", client.ExpiresIn(time.Hour))),
		"an expiry of 400 days":       second(c.SetSelfStatus(ctx, "bob", "x", client.ExpiresIn(400*24*time.Hour))),
		"an availability":             second(c.SetAvailability(ctx, "bob", "asleep")),
		"a session ID of a condition": second(c.SetSelfStatus(ctx, "bob", "x", client.IfSession("a b"))),
		"a device":                    loginWith(client.LoginOptions{Device: latin}),
		"a device that is too long":   loginWith(client.LoginOptions{Device: strings.Repeat("x", protocol.MaxDeviceBytes+1)}),
		"a platform":                  loginWith(client.LoginOptions{Platform: latin}),
		"a session ID":                loginWith(client.LoginOptions{SessionID: latin}),
		"a TTL":                       loginWith(client.LoginOptions{TTL: time.Second}),
		"a session ID to log out":     c.Logout(ctx, "bob", latin),
		"no session ID to log out":    c.Logout(ctx, "bob", ""),
		"a gateway's TTL":             second(c.OpenGateway(ctx, "gw2", client.GatewayOptions{TTL: 2 * time.Hour})),
		"a gateway's text":            g.SetStatus(ctx, "bob", latin),
		"a gateway's device":          g.Login(ctx, "bob", "s", client.GatewayLogin{Device: latin}),
		"a gateway's session ID":      g.Logout(ctx, "bob", latin),
		"a session ID to kick":        second(c.Kick(ctx, "bob", latin)),
		"a cursor":                    listError(c.List(ctx, protocol.ListRequest{Cursor: latin})),
	} {
		if !errors.Is(err, protocol.ErrInvalidRequest) {
			t.Errorf("%s: got %v, want invalid_request", what, err)
		}
	}
	for what, err := range map[string]error{
		"a user":           second(c.SetSelfStatus(ctx, latin, "x")),
		"a contact":        second(c.AddContacts(ctx, "bob", latin)),
		"a contact to be":  second(c.ReplaceContacts(ctx, "bob", []string{latin})),
		"a gateway's user": g.Lost(ctx, latin, "s"),
		"a user to await":  second(c.Await(ctx, []string{latin}, client.Any, protocol.Online)),
		"a user to erase":  second(c.Erase(ctx, latin)),
	} {
		if !errors.Is(err, protocol.ErrInvalidUserID) {
			t.Errorf("%s: got %v, want invalid_user_id", what, err)
		}
	}
	if _, err := c.SetSelfStatus(ctx, "bob", long); !errors.Is(err, protocol.ErrCustomStatusTooLong) {
		t.Errorf("a text over every limit: got %v", err)
	}
	if failures, err := c.SubscribeUserStatus(ctx, []string{latin}); err != nil || len(failures) != 1 {
		t.Errorf("a user to watch: got %v, %v", failures, err)
	}
	for _, r := range f.Requests("")[sent:] {
		if r.Op != "gateway.renew" && r.Op != protocol.OpRenew && r.Op != protocol.OpStatus && r.Op != protocol.OpContacts || r.UserID == "bob" {
			t.Errorf("sent all the same: %s %.80s", r.Op, r.Body)
		}
	}
}

func listError(pages func(func(protocol.ListReply, error) bool)) (err error) {
	for _, err = range pages {
		if err != nil {
			return err
		}
	}
	return nil
}
