package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/presencectl/natscontext"
	"presence/pkg/client"
)

// conn is a command at work: its output, its connection, and how long it waits
// for an answer.
type conn struct {
	*app
	*client.Client
	json    bool
	timeout time.Duration
	prefix  string
	server  string // what to call the server in messages; has no password
	urls    string // of the server; may have a password
	nc      *nats.Conn

	// settled says that what the command is about was allowed once. From then on a refusal is
	// an outage: it may be over soon, and the client says that it is blind meanwhile.
	settled atomic.Bool
}

// connected makes an action of a function that needs a connection. Whoever
// opened it closes it: that is here.
func (a *app) connected(f func(context.Context, *cli.Command, *conn) error) cli.ActionFunc {
	return func(parent context.Context, cmd *cli.Command) error {
		// A refused publish looks like an answer that does not come; the
		// refusal arrives on its own and ends the command.
		ctx, refuse := context.WithCancelCause(parent)
		defer refuse(nil)
		c := &conn{app: a, json: cmd.Bool("json"), timeout: cmd.Root().Duration("timeout"), prefix: cmd.String("prefix")}
		nc, err := c.dial(ctx, cmd, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) && !c.settled.Load() {
				refuse(err)
			}
		}))
		if err != nil {
			return &failure{err}
		}
		defer nc.Close()
		c.nc = nc
		c.Client, err = client.New(nc, client.Options{Prefix: c.prefix, Timeout: c.timeout, Patience: c.timeout})
		if err != nil {
			return &failure{err}
		}
		defer c.Close()
		if err := f(ctx, cmd, c); err != nil {
			return c.explain(ctx, err)
		}
		return nil
	}
}

// dial connects as the nats CLI does.
func (c *conn) dial(ctx context.Context, cmd *cli.Command, more nats.Option) (*nats.Conn, error) {
	nctx, err := natsContext(ctx, cmd)
	if errors.Is(err, natscontext.ErrNotFound) {
		return nil, fmt.Errorf("there is no nats context %q (nats context ls shows them)", contextName(cmd))
	} else if err != nil {
		return nil, fmt.Errorf("reading the nats context %q: %w", contextName(cmd), err)
	}
	c.urls = nctx.ServerURL()
	hosts, err := hostsOf(c.urls)
	if err != nil {
		return nil, err
	}
	c.server = strings.Join(hosts, ", ")
	if nctx.Name != "" { // the selected one may come as a surprise
		c.server += fmt.Sprintf(" (nats context %q)", nctx.Name)
	}
	local := isLocal(hosts)
	if nctx.SocksProxy != "" { // it, not the server, may be what does not answer
		c.server, local = c.server+", through its socks_proxy", false
		nctx.ProxyTimeout = c.timeout
	}
	opts, err := nctx.Options(ctx)
	if err != nil {
		return nil, c.explainDial(err, local)
	}
	opts = append(opts, client.ConnectOptions()...)
	nc, err := nats.Connect(c.urls, append(opts,
		nats.Name("presencectl"),
		nats.Timeout(c.timeout),
		nats.RetryOnFailedConnect(false),
		more,
	)...)
	if err != nil {
		return nil, c.explainDial(err, local)
	}
	return nc, nil
}

// natsContext is the nats context named, with the flags on top. Without a
// name it is the selected one, unless a server was given: that server has no
// claim on the credentials of a context that nobody mentioned.
func natsContext(ctx context.Context, cmd *cli.Command) (c *natscontext.Context, err error) {
	c = &natscontext.Context{}
	if name := cmd.String("context"); name != "" || cmd.String("server") == "" {
		if c, err = natscontext.Load(ctx, name); err != nil {
			return nil, err
		}
	}
	for flag, field := range map[string]*string{"server": &c.URL, "creds": &c.Creds, "nkey": &c.NKey, "tlscert": &c.Cert, "tlskey": &c.Key,
		"tlsca": &c.CA, "inbox-prefix": &c.InboxPrefix} {
		*field = cmp.Or(cmd.String(flag), *field)
	}
	if user, password := cmd.String("user"), cmd.String("password"); password == "" {
		c.Token = cmp.Or(user, c.Token)
	} else {
		c.User, c.Password = cmp.Or(user, c.User), password
	}
	return c, nil
}

func contextName(cmd *cli.Command) string {
	if name := cmd.String("context"); name != "" {
		return name
	}
	return natscontext.Selected()
}

// hostsOf returns host:port of each URL of a list. Its error, unlike that of
// url.Parse, has no part of the URL: that may be a password.
func hostsOf(urls string) ([]string, error) {
	var hosts []string
	for s := range strings.SplitSeq(urls, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			return nil, errors.New("the URL of the NATS server is not valid: it must be like nats://127.0.0.1:4222")
		}
		port := u.Port()
		if port == "" {
			port = "4222"
		}
		hosts = append(hosts, net.JoinHostPort(u.Hostname(), port))
	}
	if len(hosts) == 0 {
		return nil, errors.New("the URL of the NATS server is empty")
	}
	return hosts, nil
}
