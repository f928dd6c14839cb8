package clienttest

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"presence/pkg/client"
)

// serviceUser is whom the fake connects as, without restrictions.
const serviceUser = "service"

// startServer starts a NATS server that listens on no port.
func startServer(denied []string) (*server.Server, error) {
	clients := &server.User{Username: "client", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: denied}}}
	srv, err := server.NewServer(&server.Options{
		DontListen: true, NoSigs: true, NoLog: true,
		Users:      []*server.User{{Username: serviceUser, Password: serviceUser}, clients},
		NoAuthUser: clients.Username,
	})
	if err != nil {
		return nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		srv.Shutdown()
		return nil, errors.New("the NATS server does not start")
	}
	return srv, nil
}

// Connect returns a connection of its own to the fake, which Close closes.
func (s *Service) Connect(opts ...nats.Option) *nats.Conn {
	s.helper()
	own := []nats.Option{
		nats.InProcessServer(s.cable), nats.MaxReconnects(-1),
		nats.ReconnectWait(5 * time.Millisecond), nats.ReconnectJitter(time.Millisecond, time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default prints
	}
	nc, err := nats.Connect("", append(own, opts...)...)
	s.check(err)
	s.atClose(nc.Close)
	return nc
}

// Client returns a client on a connection of its own. Close closes both.
func (s *Service) Client(opts client.Options) *client.Client {
	s.helper()
	if opts.Prefix == "" {
		opts.Prefix = s.subjects.Prefix()
	}
	c, err := client.New(s.Connect(), opts)
	s.check(err)
	s.atClose(func() { _ = c.Close() })
	return c
}

// Cut breaks the connections of all clients, until Mend. They are blind.
func (s *Service) Cut() { s.cable.Cut() }

// Mend lets clients connect again, which they do by themselves.
func (s *Service) Mend() { s.cable.Mend() }

// Cable connects to a server until it is cut. It is for a client that is to be
// cut off alone:
//
//	cable := s.Cable()
//	nc := s.Connect(nats.InProcessServer(cable))
type Cable struct {
	to nats.InProcessConnProvider

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

// Cable returns one to the fake's server.
func (s *Service) Cable() *Cable { return &Cable{to: s.server} }

// InProcessConn implements nats.InProcessConnProvider.
func (c *Cable) InProcessConn() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := c.to.InProcessConn()
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// Cut breaks its connections, until Mend.
func (c *Cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// Mend lets connections be made again.
func (c *Cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}
