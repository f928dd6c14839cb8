package broker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"presence/pkg/protocol"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats-server/v2/server"
)

// FileConfig configures a Broker by a configuration file of nats-server. Only
// Path has no default.
type FileConfig struct {
	// Path is the file. presenced adds users of its own to three of its
	// accounts: ClientsAccount, JournalAccount, and the system account. It must
	// have the first two, and JetStream with a store_dir.
	Path string
	// ClientsAccount is where requests arrive. Default: the constant of that name. If
	// the file has no user of it, clients need no credentials, as with Start.
	ClientsAccount string
	// JournalAccount holds the journal. Default: the constant of that name.
	JournalAccount string
	// SingleAccount allows both to be the same account.
	SingleAccount bool
	// Insecure allows clients without credentials from other machines.
	Insecure bool
	// Credentials says that presenced enters the server by InProcess, with
	// credentials. It must if the file has an operator, and cannot otherwise.
	Credentials bool
	// Private is as in Config: the file's listeners and remotes mean nothing. It does not go with
	// a cluster.
	Private bool
	// Replicas is how many servers will hold the journal. Default 1.
	Replicas int
	// Prefix, Logger and Starting are as in Config.
	Prefix   string
	Logger   *slog.Logger
	Starting func(Setup)
}

func (c FileConfig) withDefaults() FileConfig {
	c.ClientsAccount = cmp.Or(c.ClientsAccount, ClientsAccount)
	if c.SingleAccount {
		c.JournalAccount = cmp.Or(c.JournalAccount, c.ClientsAccount)
	}
	c.JournalAccount = cmp.Or(c.JournalAccount, JournalAccount)
	c.Replicas = cmp.Or(c.Replicas, 1)
	c.Prefix = cmp.Or(c.Prefix, protocol.DefaultPrefix)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Starting == nil {
		c.Starting = func(Setup) {}
	}
	return c
}

// ConfigError says what is wrong with a configuration, in one line.
type ConfigError struct{ error }

func (e *ConfigError) Unwrap() error { return e.error }

// StartFile is Start with a configuration file. The error is a *ConfigError if the file
// is at fault. Only Reload reads the file again.
func StartFile(cfg FileConfig) (*Broker, error) {
	cfg = cfg.withDefaults()
	if err := protocol.CheckPrefix(cfg.Prefix); err != nil {
		return nil, err
	}
	keys, err := newAccountKeys()
	if err != nil {
		return nil, err
	}
	f, err := readChecked(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Private {
		if err := f.makePrivate(); err != nil {
			return nil, &ConfigError{fmt.Errorf("%s: %w", cfg.Path, err)}
		}
	}
	b := &Broker{keys: keys, names: f.names, file: &cfg}
	b.take(f)
	if f.operator() {
		b.keys = accountKeys{}
		b.names.journal = "" // presenced's credentials say which it is
	}
	if b.lock, err = lockDir(f.opts.StoreDir); err != nil {
		return nil, err
	}
	if err := b.startFile(f); err != nil {
		b.Shutdown()
		return nil, err
	}
	return b, nil
}

// readChecked reads the file and refuses it if presenced cannot work with it, or not safely.
func readChecked(cfg FileConfig) (*file, error) {
	f, err := readFile(cfg)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return nil, &ConfigError{fmt.Errorf("%s: %w", cfg.Path, oneLine(err))}
	}
	return f, nil
}

// complete adds to the options what presenced needs: its own users, and defaults.
func (f *file) complete(keys accountKeys) {
	if f.open() {
		addAnyone(f.opts, f.names.clients, keys, f.cfg.Prefix)
	}
	if !f.operator() {
		addUsers(f.opts, f.names, keys, f.cfg.Prefix)
	}
	setDefaults(f.opts)
}

func (b *Broker) startFile(f *file) error {
	if !f.opts.DontListen {
		if err := checkFree(f.opts.Host, cmp.Or(f.opts.Port, server.DEFAULT_PORT)); err != nil {
			return err
		}
	}
	f.cfg.Starting(f.setup())
	if !f.cfg.Private {
		f.warn()
	}
	f.complete(b.keys)
	if err := b.writeReaderKey(f.opts.StoreDir); err != nil {
		return err
	}
	err := b.start(f.opts, f.cfg.Logger)
	if err == nil {
		err = b.checkLoaded()
	}
	if err == nil && f.knowsInterest() {
		err = b.noteClients()
	}
	if e, ok := errors.AsType[*ConfigError](err); ok {
		return &ConfigError{fmt.Errorf("%s: %w", f.cfg.Path, e.error)}
	}
	return err
}

// setup says where the server will listen and how it will store.
func (f *file) setup() Setup {
	s := Setup{DataDir: f.opts.StoreDir, SyncAlways: f.opts.SyncAlways}
	for _, l := range f.listeners() {
		s.Listeners = append(s.Listeners, strings.TrimPrefix(l.block+" "+l.address(), " "))
	}
	return s
}

// makePrivate has the server take no clients, and speak to no other server.
func (f *file) makePrivate() error {
	o := f.opts
	if f.clustered() {
		return errors.New("its server is one of a cluster, which cannot be entered alone")
	}
	o.DontListen = true
	o.Websocket, o.MQTT, o.LeafNode, o.Gateway = server.WebsocketOpts{}, server.MQTTOpts{}, server.LeafNodeOpts{}, server.GatewayOpts{}
	o.HTTPPort, o.HTTPSPort, o.ProfPort = 0, 0, 0
	return nil
}

// file is a configuration file that was read.
type file struct {
	cfg      FileConfig
	opts     *server.Options
	names    accountNames
	text     map[string]any // as it stands in the file
	accounts map[string]any // of the text, by name
	oddities []error        // what nats-server only warns of
}

// readFile reads the file twice: as nats-server does, and as text. The options of
// nats-server do not say which accounts have JetStream.
func readFile(cfg FileConfig) (*file, error) {
	if err := checkIncludes(filepath.Clean(cfg.Path)); err != nil {
		return nil, err
	}
	f := &file{cfg: cfg, opts: &server.Options{}}
	if err := f.opts.ProcessConfigFile(cfg.Path); err != nil {
		var several interface {
			Errors() []error
			Warnings() []error
		}
		if !errors.As(err, &several) {
			return nil, oneLine(withoutPath(err, cfg.Path))
		}
		if errs := several.Errors(); len(errs) > 0 {
			return nil, first(errs, cfg.Path)
		}
		f.oddities = several.Warnings()
	}
	// A request in the system account must not make the server read the file again:
	// presenced's users are not in it.
	f.opts.ConfigFile = ""

	text, err := conf.ParseFile(cfg.Path)
	if err != nil {
		return nil, oneLine(withoutPath(err, cfg.Path))
	}
	f.text = text
	f.accounts, _ = lookup(text, "accounts").(map[string]any)

	f.names = accountNames{clients: cfg.ClientsAccount, journal: cfg.JournalAccount, system: f.opts.SystemAccount}
	f.names.system = cmp.Or(f.names.system, server.DEFAULT_SYSTEM_ACCOUNT)
	if f.names.system == server.DEFAULT_SYSTEM_ACCOUNT && findAccount(f.opts, f.names.system) == nil {
		f.opts.Accounts = append(f.opts.Accounts, server.NewAccount(f.names.system))
	}
	return f, nil
}

// lookup returns the value of a key, which may be in any mix of upper and lower case.
func lookup(m map[string]any, key string) any {
	for _, k := range spellings(m, key) {
		return m[k]
	}
	return nil
}

// spellings are the keys that nats-server takes for this one. If there are several it
// takes any of them, and perhaps another at the next start.
func spellings(m map[string]any, key string) (list []string) {
	for k := range m {
		if strings.EqualFold(k, key) {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return list
}

// first makes one line of what nats-server found wrong.
func first(errs []error, path string) error {
	err := oneLine(withoutPath(errs[0], path))
	if n := len(errs) - 1; n > 0 {
		return fmt.Errorf("%w (and %d more)", err, n)
	}
	return err
}

// quotation finds what an error quotes from the file, and noName a character that no
// name, address or path has. With a brace or quotation mark too few or too many,
// nats-server quotes everything that follows as a name, passwords included.
var (
	quotation = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	noName    = regexp.MustCompile(`[^\w.:/$*>@-]`)
)

// withoutPath leaves out the path, with which the message begins anyway, and quotations
// that may hold secrets.
func withoutPath(err error, path string) error {
	text := strings.TrimPrefix(err.Error(), "open "+path+": ")
	text = quotation.ReplaceAllStringFunc(text, func(q string) string {
		if len(q) > len(`","`) && noName.MatchString(q[1:len(q)-1]) { // a single character is punctuation
			return `"…"`
		}
		return q
	})
	if rest, ok := strings.CutPrefix(text, path+":"); ok {
		text = "line " + rest
	}
	return errors.New(text)
}

func oneLine(err error) error {
	return errors.New(strings.Join(strings.Fields(inKinds(err.Error())), " "))
}

// kinds are plain words for the Go types of values in a configuration.
var kinds = strings.NewReplacer("int64", "a number", "float64", "a number", "bool", "a boolean",
	"map[string]interface {}", "a map", "[]interface {}", "a list", "string", "a text")

// inKinds says in plain words that a value has the wrong type, such as a password of
// digits alone.
func inKinds(text string) string {
	before, types, ok := strings.Cut(text, "interface conversion: interface {} is ")
	if !ok {
		return text
	}
	types = kinds.Replace(types)
	if strings.HasSuffix(types, "not a text") {
		types += ": put it into quotes"
	}
	return before + "it is " + types
}
