package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

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
		nc, err := c.dial(cmd, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
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
func (c *conn) dial(cmd *cli.Command, more nats.Option) (*nats.Conn, error) {
	nctx, err := natsContext(cmd)
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
	nc, err := nctx.Connect(append(client.ConnectOptions(),
		nats.Name("presencectl"),
		nats.Timeout(c.timeout),
		nats.RetryOnFailedConnect(false),
		more,
	)...)
	if err != nil {
		return nil, c.explainDial(err, isLocal(hosts))
	}
	return nc, nil
}

// natsContext is the nats context named, with the flags on top. Without a
// name it is the selected one, unless a server was given: that server has no
// claim on the credentials of a context that nobody mentioned.
func natsContext(cmd *cli.Command) (*natscontext.Context, error) {
	name, server := cmd.String("context"), cmd.String("server")
	opts := []natscontext.Option{
		natscontext.WithServerURL(server),
		natscontext.WithCreds(cmd.String("creds")),
		natscontext.WithNKey(cmd.String("nkey")),
		natscontext.WithCertificate(cmd.String("tlscert")),
		natscontext.WithKey(cmd.String("tlskey")),
		natscontext.WithCA(cmd.String("tlsca")),
		natscontext.WithInboxPrefix(cmd.String("inbox-prefix")),
	}
	if user, password := cmd.String("user"), cmd.String("password"); password == "" {
		opts = append(opts, natscontext.WithToken(user))
	} else {
		opts = append(opts, natscontext.WithUser(user), natscontext.WithPassword(password))
	}
	if strings.HasSuffix(name, ".json") {
		if _, err := os.Stat(name); err == nil {
			return natscontext.NewFromFile(name, opts...)
		}
	}
	return natscontext.New(name, name != "" || server == "", opts...)
}

func contextName(cmd *cli.Command) string {
	if name := cmd.String("context"); name != "" {
		return name
	}
	return natscontext.SelectedContext()
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
