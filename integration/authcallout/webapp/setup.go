package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nats-io/nkeys"
)

const (
	issuerFile = "webapp-issuer.nk" // signs the users whom the application vouches for
	ownFile    = "webapp.nk"        // the application's own key
)

// setup adds to the configuration of presencectl nats-config --auth nkey, once:
//
//   - an account AUTH, where nobody but the application is: it hears there whom NATS asks about,
//   - the question itself, which is not asked about those whom the file lists,
//   - WebSocket, for pages of the application's origin.
func setup(dir, webSocket, origin string) error {
	file := filepath.Join(dir, "nats.conf")
	config, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	const accounts = "\naccounts {\n"
	if strings.Contains(string(config), "auth_callout") || strings.Count(string(config), accounts) != 1 {
		return fmt.Errorf("%s is not as presencectl nats-config --auth nkey has written it", file)
	}
	issuer, err := newKey(filepath.Join(dir, issuerFile), nkeys.CreateAccount)
	if err != nil {
		return err
	}
	own, err := newKey(filepath.Join(dir, ownFile), nkeys.CreateUser)
	if err != nil {
		return err
	}
	listed := regexp.MustCompile(`\bU[A-Z2-7]{55}\b`).FindAllString(string(config), -1)
	text := strings.Replace(string(config), accounts, fmt.Sprintf("%s  AUTH { users: [ { nkey: %s } ] }\n", accounts, own), 1) +
		fmt.Sprintf("\nauthorization {\n  auth_callout { issuer: %s, account: AUTH, auth_users: [ %s ] }\n}\n", issuer, strings.Join(append(listed, own), ", ")) +
		fmt.Sprintf("\nwebsocket {\n  listen: %q\n  no_tls: true\n  allowed_origins: [ %q ]\n}\n", webSocket, origin)
	return os.WriteFile(file, []byte(text), 0o600)
}

// newKey makes a key and keeps its seed in a file. It returns the public half.
func newKey(file string, create func() (nkeys.KeyPair, error)) (public string, err error) {
	pair, err := create()
	if err != nil {
		return "", err
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		return "", err
	}
	return pair.PublicKey()
}
