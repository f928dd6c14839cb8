package processes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"presence/cmd/presencectl/natsconfig"
	"presence/integration/authcallout"
	"presence/integration/internal/wire"
	"presence/pkg/protocol"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// callout is the authentication of a site whose clients come with the token
// "role name", which the recipe believes.
const callout natsconfig.Auth = "callout"

// TestG13_AuthCallout runs the recipe: what each role may do is what it may with a
// configuration that lists it.
func TestG13_AuthCallout(t *testing.T) {
	t.Parallel()
	s := &site{auth: callout, dir: writeSite(t, natsconfig.NKey)}
	issuer, issuerID, _ := newNKey(t, nkeys.CreateAccount)
	_, serviceID, serviceSeed := newNKey(t, nkeys.CreateUser)
	config := filepath.Join(s.dir, natsconfig.ConfigFile)
	text := strings.Replace(readFile(t, config), "accounts {\n", fmt.Sprintf("accounts {\n  AUTH { users: [ { nkey: %s } ] }\n", serviceID), 1)
	text += fmt.Sprintf("authorization { auth_callout { issuer: %s, account: AUTH, auth_users: [ %s ] } }\n", issuerID, serviceID)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, config)

	login, err := nats.NkeyOptionFromSeed(serviceSeed)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.url, login)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, err = authcallout.Service{Issuer: issuer, Account: "APP", Who: func(o jwt.ConnectOptions) (protocol.Role, string, error) {
		role, id, _ := strings.Cut(o.Token, " ")
		if !slices.Contains(protocol.ClientRoles, protocol.Role(role)) {
			return "", "", errors.New("not a token of ours")
		}
		return protocol.Role(role), id, nil
	}}.Serve(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	everyRow(t, s)

	for _, token := range []string{"", "presenced x", "nobody x", "gateway *", "user "} {
		if nc, err := nats.Connect(s.url, nats.Token(token)); err == nil {
			nc.Close()
			t.Errorf("the token %q was let in", token)
		}
	}
	// An ID that would be a wildcard is one user's token.
	star := s.connect(t, protocol.RoleUser, "=2A", nats.Token("user *"))
	wire.Must[protocol.ChangeReply](t, star.Conn, wire.To(protocol.OpSet, "*"), `{"customStatus":"mine"}`)
	star.Publish(wire.To(protocol.OpSet, "alice"), nil)
	if denied := star.wasDenied(t); len(denied) != 1 {
		t.Errorf("the user *, as alice: refused were %q", denied)
	}
}

// newNKey makes a key, and a file with its seed.
func newNKey(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public, file string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key.nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return pair, public, file
}
