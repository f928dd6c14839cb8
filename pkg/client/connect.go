package client

import (
	"time"

	"github.com/nats-io/nats.go"
)

// ConnectOptions are the options for a connection that lasts for months. The command presencectl
// uses them too. Put your own behind them: the last one of a kind counts.
//
//	nc, err := nats.Connect(url, append(client.ConnectOptions(), nats.Name("chat"))...)
//
// They are:
//
//	MaxReconnects(-1)         nats.go gives up after 60 attempts otherwise.
//	IgnoreAuthErrorAbort      Otherwise nats.go closes the connection for good when a server has
//	                          refused its credentials twice. Servers do that for seconds while users
//	                          are reloaded, a JWT is renewed, or an auth callout is away. The first
//	                          connect still fails at once with wrong credentials.
//	ReconnectWait, -Jitter    0.5 to 1 s between attempts, so that there is one within the grace of
//	                          5 s, in which nobody notices.
//	FlusherTimeout            10 s for a write on a network that swallows everything. Otherwise
//	                          nats.go waits for a minute, and all calls with it.
//	ReconnectOnFlusherError   A connection that cannot be written to is replaced.
//	LameDuckModeHandler       Is LameDuck.
func ConnectOptions() []nats.Option {
	return []nats.Option{
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, 500*time.Millisecond),
		nats.FlusherTimeout(10 * time.Second),
		nats.ReconnectOnFlusherError(),
		nats.LameDuckModeHandler(LameDuck),
	}
}

// LameDuck is a handler for nats.LameDuckModeHandler; ConnectOptions has it. A handler of your own
// should call it. It tells the Clients on nc that their server is about to stop. They renew at once
// what they keep alive and, if nc knows another server, move there within 5 s: a server in lame
// duck mode does not report clients that die. Without a Client on nc it does nothing.
func LameDuck(nc *nats.Conn) {
	if h := findHub(nc); h != nil {
		h.each(func(c *Client) { notify(c.dog.leaving) })
	}
}

// warnOf logs which missing options will make nats.go give the connection up for good.
func (c *Client) warnOf(o nats.Options) {
	var missing []string
	if !o.AllowReconnect || o.MaxReconnect >= 0 {
		missing = append(missing, "MaxReconnects(-1)")
	}
	if !o.IgnoreAuthErrorAbort {
		missing = append(missing, "IgnoreAuthErrorAbort()")
	}
	if len(missing) > 0 {
		c.opts.Logger.Warn("the NATS connection will be given up for good after an outage or two refusals: "+
			"connect with client.ConnectOptions()", "missing", missing)
	}
}
