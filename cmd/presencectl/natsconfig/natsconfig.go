// Package natsconfig writes configurations of a NATS server for the presence
// service: accounts, users and what each may do (PROTOCOL 9), and the secrets
// that go with them.
//
//	files, err := natsconfig.Generate(natsconfig.Config{Auth: natsconfig.JWT, Dir: "/etc/presence"})
//	// nats.conf, presenced.env, presenced.creds, user-alice.creds, context/alice.json, keys/role-user.nk, …
//
//	issued, err := natsconfig.Issue(…)   // one more user
//
// The same text is for the server inside presenced (--nats-config) and for a
// nats-server beside it (--nats-url). In every mode there are the accounts
//
//	SYS       presenced hears there that a connection closed
//	PRESENCE  the journal, snapshots and contacts, with JetStream; presenced only
//	APP       the clients
//
// with the permissions of protocol.Permissions. All files but nats.conf are secrets.
// Write makes every file with mode 0600, and overwrites none.
package natsconfig

import (
	"cmp"
	_ "embed"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"text/template"

	"presence/cmd/internal/shell"
	"presence/pkg/protocol"
)

// Auth is how NATS users prove who they are.
type Auth string

const (
	// Password is by name and password. The configuration has bcrypt hashes.
	Password Auth = "password"
	// NKey is by Ed25519 keys. The configuration has their public halves.
	NKey Auth = "nkey"
	// JWT is by tokens. The configuration names the operator who vouches for them. A
	// scoped signing key for each role issues users without a change of the
	// configuration.
	JWT Auth = "jwt"
)

// Auths are all of them.
var Auths = []Auth{Password, NKey, JWT}

// Config says what Generate makes. Only Auth has no default.
type Config struct {
	Auth Auth
	// Dir is where the files will be. Default: the working directory.
	Dir string
	// Listen is the address for clients. Default 127.0.0.1:4222.
	Listen string
	// StoreDir is where JetStream stores. Default: data in Dir.
	StoreDir string
	// URL is where clients connect, for their contexts. Default: Listen, from this machine.
	URL string
	// Prefix begins all subjects. Default protocol.DefaultPrefix.
	Prefix string
	// Clients are the users of account APP. Default: ExampleClients.
	Clients []Client
}

// Client is a client in one of protocol.ClientRoles. ID is a user's user ID, or the ID of a
// gateway, reader or operator.
type Client struct {
	Role protocol.Role
	ID   string
}

// ExampleClients has one client of each role.
var ExampleClients = []Client{
	{protocol.RoleUser, "alice"}, {protocol.RoleGateway, "gw1"}, {protocol.RoleReader, "reader"}, {protocol.RoleOperator, "operator"},
}

// Names of the accounts, as presenced expects them.
const (
	systemAccount  = "SYS"
	journalAccount = "PRESENCE"
	clientsAccount = "APP"
)

// ConfigFile is the name of the configuration among the files.
const ConfigFile = "nats.conf"

// envFile has the environment of a presenced that uses the server over the network.
const envFile = "presenced.env"

// user is one NATS user of the configuration.
type user struct {
	account     string
	name        string // as the NATS server calls it
	file        string // the file of its secret, without the ending
	role        protocol.Role
	permissions *protocol.Permissions // nil: unrestricted
}

// client returns the NATS user of a client.
func client(s protocol.Subjects, c Client) (user, error) {
	name, err := c.Role.Name(c.ID)
	if err != nil {
		return user{}, fmt.Errorf("%s %q: %w", c.Role, c.ID, err)
	}
	p := s.Permissions(c.Role, name)
	return user{account: clientsAccount, name: name, file: string(c.Role) + "-" + name, role: c.Role, permissions: &p}, nil
}

// presenced returns the NATS users of presenced, in the order clients, journal, system.
func presenced(s protocol.Subjects) []user {
	service, journal, system := s.Permissions(protocol.RoleService, ""), s.Permissions(protocol.RoleJournal, ""), s.Permissions(protocol.RoleSystem, "")
	return []user{
		{account: clientsAccount, name: "presenced", file: "presenced", role: protocol.RoleService, permissions: &service},
		{account: journalAccount, name: "presenced-journal", file: "presenced-journal", role: protocol.RoleJournal, permissions: &journal},
		{account: systemAccount, name: "presenced-system", file: "presenced-system", role: protocol.RoleSystem, permissions: &system},
	}
}

// Generate makes the configuration, the first of the files, and the secrets.
func Generate(cfg Config) ([]File, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	subjects := protocol.NewSubjects(cfg.Prefix)
	users := presenced(subjects)
	seen := map[string]bool{}
	for _, u := range users {
		seen[u.name] = true
	}
	for _, c := range cfg.Clients {
		u, err := client(subjects, c)
		if err != nil {
			return nil, err
		}
		// A server's list of users must not have a name twice.
		if seen[u.name] && cfg.Auth == Password || seen[u.file] {
			return nil, fmt.Errorf("two users are called %s", u.name)
		}
		seen[u.name], seen[u.file] = true, true
		users = append(users, u)
	}
	w := &writer{cfg: cfg, subjects: subjects}
	if cfg.Auth == JWT {
		err = w.operator(users)
	} else {
		err = w.list(users)
	}
	if err != nil {
		return nil, err
	}
	if err := w.addContexts(users); err != nil {
		return nil, err
	}
	text, err := w.config()
	if err != nil {
		return nil, err
	}
	files := append([]File{{Name: ConfigFile, Data: text}}, w.files...)
	return append(files, File{Name: envFile, Data: w.env()}), nil
}

func (c Config) withDefaults() (Config, error) {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:4222")
	c.Prefix = cmp.Or(c.Prefix, protocol.DefaultPrefix)
	if c.Clients == nil {
		c.Clients = ExampleClients
	}
	if err := protocol.CheckPrefix(c.Prefix); err != nil {
		return c, err
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return c, fmt.Errorf("the listen address %q is not host:port", c.Listen)
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, err
	}
	c.URL = cmp.Or(c.URL, clientURL(c.Listen))
	c.StoreDir = cmp.Or(c.StoreDir, filepath.Join(c.Dir, "data"))
	switch c.Auth {
	case Password, NKey, JWT:
		return c, nil
	}
	return c, fmt.Errorf("there is no authentication %q: it must be password, nkey or jwt", c.Auth)
}

// writer collects the files and the parts of the configuration.
type writer struct {
	cfg       Config
	subjects  protocol.Subjects
	files     []File
	urls      map[string]string // by account: presenced's URL with its password
	passwords map[string]string // of clients, by name
	accounts  string            // what the configuration says of accounts and users
}

func (w *writer) add(name string, data []byte) {
	w.files = append(w.files, File{Name: name, Data: data})
}

//go:embed nats.conf.tmpl
var configText string

var configTemplate = template.Must(template.New(ConfigFile).Funcs(template.FuncMap{"path": shellPath}).Parse(configText))

// shellPath is the path of a file in the directory, quoted for a shell.
func shellPath(dir, file string) string { return shell.Word(filepath.Join(dir, file)) }

func (w *writer) config() ([]byte, error) {
	var b strings.Builder
	err := configTemplate.Execute(&b, map[string]any{
		"Auth": w.cfg.Auth, "Listen": w.cfg.Listen, "StoreDir": w.cfg.StoreDir, "Dir": w.cfg.Dir,
		"EnvFile": envFile, "Accounts": w.accounts, "JWT": w.cfg.Auth == JWT,
	})
	return []byte(b.String()), err
}

// env is the environment for a presenced that uses this server over the network.
func (w *writer) env() []byte {
	var b strings.Builder
	for i, v := range []struct{ account, url, creds string }{
		{clientsAccount, "PRESENCED_NATS_URL", "PRESENCED_CREDS"},
		{journalAccount, "PRESENCED_JOURNAL_URL", "PRESENCED_JOURNAL_CREDS"},
		{systemAccount, "PRESENCED_SYSTEM_URL", "PRESENCED_SYSTEM_CREDS"},
	} {
		if url := w.urls[v.account]; url != "" {
			fmt.Fprintf(&b, "%s=%s\n", v.url, shell.Word(url))
		} else {
			fmt.Fprintf(&b, "%s=%s\n", v.creds, shell.Word(filepath.Join(w.cfg.Dir, presenced(w.subjects)[i].file+w.cfg.Auth.ending())))
		}
	}
	return []byte(b.String())
}

// ending is the ending of the file with a user's secret.
func (a Auth) ending() string {
	if a == JWT {
		return ".creds"
	}
	return ".nk"
}
