package servicetest

import (
	"testing"

	"presence/pkg/broker"
	"presence/pkg/service"

	"github.com/nats-io/nats.go"
)

// Kit is a server with one or more instances of the service.
type Kit struct {
	*Server
	// Instances in the order in which they were started.
	Instances []*Instance

	opts options
}

// Option adjusts what Start and similar functions start.
type Option func(*options)

type options struct {
	broker  []func(*broker.Config)
	service []func(*service.Config)
}

// WithBroker changes the configuration of the broker before it starts.
func WithBroker(change func(*broker.Config)) Option {
	return func(o *options) { o.broker = append(o.broker, change) }
}

// WithService changes the configuration of every service before it starts.
func WithService(change func(*service.Config)) Option {
	return func(o *options) { o.service = append(o.service, change) }
}

func collect(opts []Option) (o options) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Start starts a broker, and a service on it, and waits until the service is ready. The broker has
// a free port, and its data in a directory of the test.
func Start(t testing.TB, opts ...Option) *Kit {
	t.Helper()
	return startKit(t, StartBroker(t, opts...), opts)
}

// StartOverNATS is Start with StartNATS instead of StartBroker. The service is connected over TCP,
// so Server.Stop and Server.Restart are an outage of its server.
func StartOverNATS(t testing.TB, opts ...Option) *Kit {
	t.Helper()
	return startKit(t, StartNATS(t), opts)
}

func startKit(t testing.TB, s *Server, opts []Option) *Kit {
	t.Helper()
	k := &Kit{Server: s, opts: collect(opts)}
	k.AddInstance(t)
	return k
}

// AddInstance starts one more service on the kit's server and waits until it
// is ready.
func (k *Kit) AddInstance(t testing.TB, opts ...Option) *Instance {
	t.Helper()
	i := k.StartInstance(t, append(k.opts.service, collect(opts).service...)...)
	k.Instances = append(k.Instances, i)
	return i
}

// Stop stops all instances and then the server.
func (k *Kit) Stop(t testing.TB) {
	t.Helper()
	for _, i := range k.Instances {
		i.Stop(t)
	}
	k.Server.Stop(t)
}

// Restart stops everything, and starts the server and one instance on the same data and port.
// Clients reconnect.
func (k *Kit) Restart(t testing.TB) {
	t.Helper()
	k.Stop(t)
	k.Server.Restart(t)
	k.Instances = nil
	k.AddInstance(t)
}

// URL is where clients connect. It stays the same over a restart.
func (s *Server) URL() string { return s.url }

// Connect connects as a client, over TCP. It reconnects without limit and is closed when the test
// ends.
func (s *Server) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, s.url, opts...)
}
