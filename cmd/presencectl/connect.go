package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/internal/natsurl"
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

	// settled says that the broker has allowed what the command does. A refusal after that is
	// an outage: it may end soon, and the client says that it is blind meanwhile.
	settled atomic.Bool
}

// connected returns an action that connects, calls f, and closes the connection.
func (a *app) connected(f func(context.Context, *cli.Command, *conn) error) cli.ActionFunc {
	return func(parent context.Context, cmd *cli.Command) error {
		// After a refused publish no answer comes. The refusal arrives by itself,
		// and ends the command.
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

// asking is connected for an f that is over within the timeout.
func (a *app) asking(f func(context.Context, *cli.Command, *conn) error) cli.ActionFunc {
	return a.connected(func(ctx context.Context, cmd *cli.Command, c *conn) error {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		return f(ctx, cmd, c)
	})
}

// dial connects as the nats CLI does.
func (c *conn) dial(ctx context.Context, cmd *cli.Command, more ...nats.Option) (*nats.Conn, error) {
	nctx, err := natsContext(ctx, cmd)
	if err != nil {
		return nil, err
	}
	local, err := c.place(nctx)
	if err != nil {
		return nil, err
	}
	opts, err := nctx.Options(ctx)
	if err != nil {
		return nil, c.explainDial(err, local)
	}
	opts = append(opts, client.ConnectOptions()...)
	opts = append(opts, nats.Name("presencectl"), nats.Timeout(c.timeout), nats.RetryOnFailedConnect(false))
	nc, err := nats.Connect(c.urls, append(opts, more...)...)
	if err != nil {
		return nil, c.explainDial(err, local)
	}
	return nc, nil
}

// place notes where a context connects to, and reports whether all of it is this machine.
func (c *conn) place(nctx *natscontext.Context) (local bool, err error) {
	c.urls = nctx.ServerURL()
	list, err := natsurl.Parse(c.urls)
	if err != nil {
		return false, err
	}
	hosts := make([]string, len(list))
	for i, u := range list {
		hosts[i] = natsurl.Host(u)
	}
	c.server = strings.Join(hosts, ", ")
	if nctx.Name != "" { // that one is selected may be a surprise
		c.server += fmt.Sprintf(" (nats context %q)", nctx.Name)
	}
	local = isLocal(hosts)
	if nctx.SocksProxy != "" { // it may be the proxy that does not answer
		c.server, local = c.server+", through its socks_proxy", false
		nctx.ProxyTimeout = c.timeout
	}
	return local, nil
}

// natsContext returns the nats context that --context names, changed by the other flags.
// Without --context it is the selected one. With --server it is empty then: that server
// must not get the credentials of a context that nobody named.
func natsContext(ctx context.Context, cmd *cli.Command) (c *natscontext.Context, err error) {
	name := cmd.String("context")
	if name == "" && cmd.String("server") == "" {
		if name, err = natscontext.Selected(); err != nil {
			return nil, fmt.Errorf("reading which nats context is selected: %w", err)
		}
	}
	c = &natscontext.Context{}
	if name != "" {
		c, err = natscontext.Load(ctx, name)
	}
	switch {
	case errors.Is(err, natscontext.ErrNotFound):
		return nil, fmt.Errorf("there is no nats context %q (nats context ls shows them)", name)
	case err != nil:
		return nil, fmt.Errorf("reading the nats context %q: %w", name, err)
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
