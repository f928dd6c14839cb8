package natsconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"presence/pkg/protocol"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// The files for JWT, beside the credentials of users. A role's key can issue users of that
// role and no others. The other keys can change everything, and are better kept elsewhere.
//
//	keys/role-<role>.nk          signs users of a role
//	keys/account-APP.jwt         says which key is for which role; no secret
//	keys/account-<account>.nk    signs any user of an account
//	keys/nats-operator.nk        signs accounts
const keysDir = "keys"

func roleKeyFile(r protocol.Role) string { return filepath.Join(keysDir, "role-"+string(r)+".nk") }

var clientsJWTFile = filepath.Join(keysDir, "account-"+clientsAccount+".jwt")

// operator makes an operator, its accounts, and the users.
func (w *writer) operator(users []user) error {
	operator, err := nkeys.CreateOperator()
	if err != nil {
		return err
	}
	accounts, ids := map[string]nkeys.KeyPair{}, map[string]string{}
	for _, name := range []string{systemAccount, journalAccount, clientsAccount} {
		if accounts[name], err = nkeys.CreateAccount(); err != nil {
			return err
		}
		if ids[name], err = accounts[name].PublicKey(); err != nil {
			return err
		}
	}
	scopes, roles, err := w.scopes()
	if err != nil {
		return err
	}

	operatorID, err := operator.PublicKey()
	if err != nil {
		return err
	}
	oc := jwt.NewOperatorClaims(operatorID)
	oc.Name, oc.SystemAccount = "presence", ids[systemAccount]
	operatorJWT, err := oc.Encode(operator)
	if err != nil {
		return err
	}
	jwts := map[string]string{}
	for name, id := range ids {
		ac := jwt.NewAccountClaims(id)
		ac.Name = name
		switch name {
		case journalAccount:
			ac.Limits.JetStreamLimits = jwt.JetStreamLimits{
				MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
			}
		case clientsAccount:
			for _, s := range scopes {
				ac.SigningKeys.AddScopedSigner(s)
			}
		}
		if jwts[name], err = ac.Encode(operator); err != nil {
			return err
		}
	}
	w.accounts = fmt.Sprintf(operatorText, operatorJWT, ids[systemAccount],
		ids[systemAccount], jwts[systemAccount], ids[journalAccount], jwts[journalAccount], ids[clientsAccount], jwts[clientsAccount])

	for _, u := range users {
		key, scoped := roles[u.role]
		if !scoped { // presenced's own
			key = accounts[u.account]
		}
		creds, err := u.credentials(key, scoped, ids[u.account], 0)
		if err != nil {
			return err
		}
		w.add(u.file+JWT.ending(), creds)
	}
	return w.addKeys(operator, accounts, roles, jwts[clientsAccount])
}

// scopes makes a signing key for each role of clients. Its users may do what the key's
// template says, with their name in it.
func (w *writer) scopes() (scopes []*jwt.UserScope, keys map[protocol.Role]nkeys.KeyPair, err error) {
	keys = map[protocol.Role]nkeys.KeyPair{}
	for _, r := range protocol.ClientRoles {
		if keys[r], err = nkeys.CreateAccount(); err != nil {
			return nil, nil, err
		}
		s := jwt.NewUserScope()
		if s.Key, err = keys[r].PublicKey(); err != nil {
			return nil, nil, err
		}
		s.Role, s.Description = string(r), "PROTOCOL section 9"
		s.Template.Permissions = jwtPermissions(w.subjects.Permissions(r, protocol.NameTemplate))
		scopes = append(scopes, s)
	}
	return scopes, keys, nil
}

func jwtPermissions(p protocol.Permissions) jwt.Permissions {
	return jwt.Permissions{
		Pub: jwt.Permission{Allow: p.Publish.Allow, Deny: p.Publish.Deny},
		Sub: jwt.Permission{Allow: p.Subscribe.Allow, Deny: p.Subscribe.Deny},
	}
}

func (w *writer) addKeys(operator nkeys.KeyPair, accounts map[string]nkeys.KeyPair, roles map[protocol.Role]nkeys.KeyPair, clientsJWT string) error {
	add := func(file string, key nkeys.KeyPair) error {
		seed, err := key.Seed()
		if err == nil {
			w.add(file, append(seed, '\n'))
		}
		return err
	}
	var errs []error
	for _, r := range protocol.ClientRoles {
		errs = append(errs, add(roleKeyFile(r), roles[r]))
	}
	w.add(clientsJWTFile, []byte(clientsJWT+"\n"))
	for _, name := range []string{clientsAccount, journalAccount, systemAccount} {
		errs = append(errs, add(filepath.Join(keysDir, "account-"+name+".nk"), accounts[name]))
	}
	return errors.Join(append(errs, add(filepath.Join(keysDir, "nats-operator.nk"), operator))...)
}

// credentials makes a key and a JWT for a user, and returns the credentials file with both.
// A scoped user has the permissions of the key's template.
func (u user) credentials(key nkeys.KeyPair, scoped bool, accountID string, expires time.Duration) ([]byte, error) {
	seed, public, err := newKey(nkeys.CreateUser)
	if err != nil {
		return nil, err
	}
	uc := jwt.NewUserClaims(public)
	uc.Name = u.name
	if scoped {
		uc.IssuerAccount = accountID
		uc.SetScoped(true)
	} else if u.permissions != nil {
		uc.Permissions = jwtPermissions(*u.permissions)
	}
	if expires > 0 {
		uc.Expires = time.Now().Add(expires).Unix()
	}
	token, err := uc.Encode(key)
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}

// issueJWT makes the credentials of one more user, with the files that Generate has made in
// a directory.
func issueJWT(dir string, u user, expires time.Duration) ([]byte, error) {
	token, err := os.ReadFile(filepath.Join(dir, clientsJWTFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a directory of nats-config --auth jwt: there is no %s", dir, clientsJWTFile)
	}
	if err != nil {
		return nil, err
	}
	account, err := jwt.DecodeAccountClaims(strings.TrimSpace(string(token)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, clientsJWTFile), err)
	}
	path := filepath.Join(dir, roleKeyFile(u.role))
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	// A key of another role would make a user that may do more, or nothing.
	scope, _ := account.SigningKeys.GetScope(public)
	if s, ok := scope.(*jwt.UserScope); !ok || s.Role != string(u.role) {
		return nil, fmt.Errorf("%s is not the account's key for the role %s", path, u.role)
	}
	return u.credentials(key, true, account.Subject, expires)
}

const operatorText = `# The operator, who stands behind the accounts, and the system account, where
# presenced hears that a connection closed.
operator: %s
system_account: %s

# The accounts. In APP, where the clients are, each role has a signing key: a user
# signed with it may do what PROTOCOL section 9 says, with the name of its JWT in
# the place of the user, and nothing else. So that name has to be the user's token,
# as presencectl nats-user makes it; an account's own key is bound to nothing.
# To revoke a user or to change an account, sign the account anew (nsc does it with
# the keys) and put it here; resolver: { type: full … } does it without a restart.
resolver: MEMORY
resolver_preload: {
  # SYS
  %s: %s
  # PRESENCE: the journal, snapshots and contacts. Nobody but presenced enters. Only
  # this account has JetStream.
  %s: %s
  # APP: the clients
  %s: %s
}
`
