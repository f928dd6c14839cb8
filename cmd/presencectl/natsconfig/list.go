package natsconfig

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"presence/pkg/protocol"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

// list writes users with passwords or keys into the configuration.
func (w *writer) list(users []user) error {
	entries := map[string][]string{} // by account
	var passwords strings.Builder
	w.urls, w.passwords = map[string]string{}, map[string]string{}
	for _, u := range users {
		entry, secret, err := u.entry(w.cfg.Auth)
		if err != nil {
			return err
		}
		entries[u.account] = append(entries[u.account], entry)
		switch {
		case w.cfg.Auth == NKey:
			w.add(u.file+w.cfg.Auth.ending(), []byte(secret+"\n"))
		case u.ofPresenced():
			w.urls[u.account] = localURL(w.cfg.Listen, u.name+":"+secret+"@")
		default:
			w.passwords[u.name] = secret
			fmt.Fprintf(&passwords, "%s %s\n", u.name, secret)
		}
	}
	if passwords.Len() > 0 {
		w.add("passwords", []byte(passwords.String()))
	}
	w.accounts = fmt.Sprintf(listText, strings.Join(entries[systemAccount], "\n"), strings.Join(entries[journalAccount], "\n"),
		strings.Join(entries[clientsAccount], "\n\n"))
	return nil
}

func (u user) ofPresenced() bool {
	return u.account != clientsAccount || u.role == protocol.RoleService
}

const listText = `accounts {

  # presenced hears here that a connection closed, so that a session ends seconds
  # after its client died and not with its TTL. Whoever else enters sees every
  # connection, and can close it.
  SYS { users: [
%s
  ] }

  # The journal, snapshots and contacts. Nobody but presenced enters: who does can
  # forge and destroy them. Only this account has JetStream.
  PRESENCE { jetstream: enabled, users: [
%s
  ] }

  # The clients. Every user has a list of what it may do, and may do nothing else.
  # Keep other applications' users in accounts of their own: a user without
  # permissions can forge events and take requests.
  APP { users: [
%s
  ] }
}
system_account: SYS
`

// entry makes a secret, and returns it with the user's entry in the list of the
// configuration. A password has 130 random bits, so a quick hash is safe. With a slow one
// the server would be busy for long when ten thousand clients come back.
func (u user) entry(auth Auth) (entry, secret string, err error) {
	var who string
	if auth == NKey {
		seed, public, err := newKey(nkeys.CreateUser)
		if err != nil {
			return "", "", err
		}
		who, secret = "nkey: "+public, string(seed)
	} else {
		secret = rand.Text()
		hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
		if err != nil {
			return "", "", err
		}
		who = fmt.Sprintf("user: %q, password: %q", u.name, hash)
	}
	if u.permissions == nil {
		return fmt.Sprintf("    %s\n    { %s }", u.comment(), who), secret, nil
	}
	return fmt.Sprintf("    %s\n    { %s, permissions: {\n        publish:   %s\n        subscribe: %s } }",
		u.comment(), who, allowDeny(u.permissions.Publish), allowDeny(u.permissions.Subscribe)), secret, nil
}

// comment says in the configuration whose an entry is.
func (u user) comment() string {
	switch u.role {
	case protocol.RoleUser:
		return "# The user " + u.name + ", who can be nobody else and joins no queue group."
	case protocol.RoleGateway:
		return "# The gateway " + u.name + ": a server of yours that has authenticated its users, and logs in any of them."
	case protocol.RoleReader:
		return "# The reading service " + u.name + ": it only wants to know."
	case protocol.RoleOperator:
		return "# The operator " + u.name + ", who may act as any user and gateway, and finds the instances (nats service list)."
	}
	return "# presenced. Not needed where the server is inside presenced: it enters by keys of its own."
}

// allowDeny writes a list of permissions as the NATS server reads it.
func allowDeny(a protocol.AllowDeny) string {
	allow := quoted(a.Allow)
	if len(a.Deny) == 0 {
		return allow
	}
	return fmt.Sprintf("{ allow: %s, deny: %s }", allow, quoted(a.Deny))
}

func quoted(subjects []string) string {
	list := make([]string, len(subjects))
	for i, s := range subjects {
		list[i] = strconv.Quote(s)
	}
	return "[ " + strings.Join(list, ", ") + " ]"
}

// newKey makes a key pair.
func newKey(create func() (nkeys.KeyPair, error)) (seed []byte, public string, err error) {
	pair, err := create()
	if err != nil {
		return nil, "", err
	}
	if public, err = pair.PublicKey(); err != nil {
		return nil, "", err
	}
	seed, err = pair.Seed()
	return seed, public, err
}
