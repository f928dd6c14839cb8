// Package natscontext reads and writes the contexts of the nats CLI: named files with the
// address of a NATS server and the credentials to use there.
//
//	c, err := natscontext.Load(ctx, "dev")
//	opts, err := c.Options(ctx)
//	nc, err := nats.Connect(c.ServerURL(), opts...)
//
//	err := natscontext.Install(files, false) // so that the nats CLI finds them by name
//
// A context is a file below $XDG_CONFIG_HOME/nats, or ~/.config/nats:
//
//	context/dev.json   {"url":"nats://127.0.0.1:4222","creds":"~/dev.creds"}
//	context.txt        the name of the selected one
//
// The package that the nats CLI itself uses imports a whole NATS server.
package natscontext

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/net/proxy"
)

// ErrNotFound says that there is no context of that name.
var ErrNotFound = errors.New("there is no such nats context")

// Context is what a file says about a connection. Fields about JetStream are left out.
type Context struct {
	// Name is empty if there is no context, and so no credentials.
	Name string `json:"-"`
	// ProxyTimeout is how long SocksProxy may take to connect; 0 for no limit. nats.Timeout
	// does not bound that.
	ProxyTimeout time.Duration `json:"-"`

	// Description is for people.
	Description string `json:"description,omitempty"`

	URL         string `json:"url,omitempty"`
	SocksProxy  string `json:"socks_proxy,omitempty"`
	InboxPrefix string `json:"inbox_prefix,omitempty"`

	// Only one of these is used, in this order. A token is sent as well.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	Creds    string `json:"creds,omitempty"`
	NSC      string `json:"nsc,omitempty"` // nsc://operator/account/user, instead of Creds and URL
	NKey     string `json:"nkey,omitempty"`
	UserJWT  string `json:"user_jwt,omitempty"`
	UserSeed string `json:"user_seed,omitempty"`
	Token    string `json:"token,omitempty"`

	Cert     string `json:"cert,omitempty"`
	Key      string `json:"key,omitempty"`
	CA       string `json:"ca,omitempty"`
	TLSFirst bool   `json:"tls_first,omitempty"`

	WindowsStore string `json:"windows_cert_store,omitempty"`
}

// Load reads the context of that name. The name may also be the path of a .json file.
func Load(ctx context.Context, name string) (*Context, error) {
	if strings.HasSuffix(name, ending) {
		if _, err := os.Stat(name); err == nil {
			return read(ctx, name)
		}
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir, err := contextDirectory()
	if err != nil {
		return nil, err
	}
	return read(ctx, filepath.Join(dir, name+ending))
}

// Selected returns the name of the selected context; empty if none is selected.
func Selected() (string, error) {
	dir, err := directory()
	if err != nil {
		return "", err
	}
	name, err := os.ReadFile(filepath.Join(dir, "context.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(name)), err
}

func directory() (string, error) {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "nats"), nil
	}
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("finding the home directory: %w", err)
	}
	return filepath.Join(u.HomeDir, ".config", "nats"), nil
}

func read(ctx context.Context, path string) (*Context, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, err
	}
	c := &Context{Name: strings.TrimSuffix(filepath.Base(path), ending)}
	if err := unmarshal(text, c); err != nil {
		return nil, err
	}
	if c.NSC == "" {
		return c, nil
	}
	profile, err := nscProfile(ctx, c.NSC)
	if err != nil {
		return nil, err
	}
	if c.Creds == "" {
		c.Creds = profile.Creds
	}
	if c.URL == "" {
		c.URL = strings.Join(profile.Operator.URLs, ",")
	}
	return c, nil
}

// unmarshal reads a JSON object. Its errors name no type of Go.
func unmarshal(text []byte, v any) error {
	err := json.Unmarshal(text, v)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field == "" {
		return fmt.Errorf("it is a JSON %s, not an object", e.Value)
	} else if ok {
		return fmt.Errorf("%s cannot be a JSON %s", e.Field, e.Value)
	}
	return err
}

// ServerURL is the URL to connect to, or several, separated by commas.
func (c *Context) ServerURL() string {
	if c.URL == "" {
		return nats.DefaultURL
	}
	return c.URL
}

// Options returns the options of a connection. A field that is set and cannot be used is
// an error.
func (c *Context) Options(ctx context.Context) (opts []nats.Option, err error) {
	add := func(opt nats.Option, e error) {
		opts, err = append(opts, opt), errors.Join(err, e)
	}
	switch {
	case c.User != "":
		password, err := secret(ctx, "password", c.Password)
		add(nats.UserInfo(c.User, password), err)
	case c.Creds != "":
		add(credentials(ctx, c.Creds))
	case c.NKey != "":
		add(nkey(ctx, c.NKey))
	case c.UserJWT != "":
		add(c.userJWT(ctx))
	case c.UserSeed != "":
		return nil, errors.New("user_seed: there is no user_jwt with it")
	}
	if c.Token != "" {
		token, err := secret(ctx, "token", c.Token)
		add(nats.Token(token), err)
	}
	if c.InboxPrefix != "" {
		add(nats.CustomInboxPrefix(c.InboxPrefix), nil)
	}
	if c.SocksProxy != "" {
		add(throughProxy(c.SocksProxy, c.ProxyTimeout))
	}
	c.addTLS(add)
	if err != nil {
		return nil, err
	}
	return opts, nil
}

func (c *Context) addTLS(add func(nats.Option, error)) {
	if c.WindowsStore != "" {
		add(nil, errors.New("windows_cert_store: presencectl takes certificates from files only"))
	}
	if c.Cert != "" || c.Key != "" {
		add(clientCertificate(c.Cert, c.Key))
	}
	if c.CA != "" {
		path, err := file("ca", c.CA)
		add(nats.RootCAs(path), err)
	}
	if c.TLSFirst {
		add(nats.TLSHandshakeFirst(), nil)
	}
}

func clientCertificate(cert, key string) (nats.Option, error) {
	if cert == "" || key == "" {
		return nil, errors.New("cert and key: only one of them is there")
	}
	certPath, err := file("cert", cert)
	if err != nil {
		return nil, err
	}
	keyPath, err := file("key", key)
	return nats.ClientCert(certPath, keyPath), err
}

func throughProxy(address string, timeout time.Duration) (nats.Option, error) {
	u, err := url.Parse(address)
	if err != nil { // it would have the proxy's password in it
		return nil, errors.New("socks_proxy: the URL is not valid: it must be like socks5://127.0.0.1:1080")
	}
	dialer, err := proxy.FromURL(u, proxy.Direct)
	if err != nil {
		return nil, fmt.Errorf("socks_proxy: %w", err)
	}
	if d, ok := dialer.(proxy.ContextDialer); ok && timeout > 0 {
		return nats.SetCustomDialer(boundedDialer{d, timeout}), nil
	}
	return nats.SetCustomDialer(dialer), nil
}

// boundedDialer gives up on a proxy that accepts the connection and says nothing.
type boundedDialer struct {
	proxy.ContextDialer
	timeout time.Duration
}

func (d boundedDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
