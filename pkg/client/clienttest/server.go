package clienttest

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"presence/pkg/client"
)

// serviceUser is the NATS user of the fake, without restrictions.
const serviceUser = "service"

// clientsUser is the NATS user of clients.
const clientsUser = "client"

// access is what clients may do on the fake's NATS server.
type access struct {
	refused bool     // they may not even connect
	denied  []string // subjects that they may not subscribe to
	maxSubs int      // subscriptions of a connection; 0: any number
}

// options configures a NATS server that listens on no port.
func (a access) options() *server.Options {
	clients := &server.User{Username: clientsUser, Password: clientsUser, Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: a.denied}}}
	o := &server.Options{
		DontListen: true, NoSigs: true, NoLog: true, MaxSubs: a.maxSubs,
		Users: []*server.User{{Username: serviceUser, Password: serviceUser}},
	}
	if !a.refused {
		o.Users = append(o.Users, clients)
	}
	return o
}

func startServer(a access) (*server.Server, error) {
	srv, err := server.NewServer(a.options())
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
	own := append(client.ConnectOptions(), nats.InProcessServer(s.cable), nats.UserInfo(clientsUser, clientsUser),
		nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(time.Millisecond, time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default prints
	)
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

// Mend lets clients connect again. They do that by themselves.
func (s *Service) Mend() { s.cable.Mend() }

// Cable connects to the fake's server until it is cut. Use it to cut off one client alone:
//
//	cable := s.Cable()
//	nc := s.Connect(nats.InProcessServer(cable))
type Cable struct {
	of *Service

	mu    sync.Mutex
	isCut bool
	conns map[*cableConn]struct{} // the open ones
}

// Cable returns a new cable to the fake's server.
func (s *Service) Cable() *Cable { return &Cable{of: s} }

// InProcessConn implements nats.InProcessConnProvider.
func (c *Cable) InProcessConn() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("the cable is cut")
	}
	end, err := c.of.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	conn := &cableConn{Conn: end, of: c.of, by: c}
	if c.conns == nil {
		c.conns = map[*cableConn]struct{}{}
	}
	c.conns[conn] = struct{}{}
	return conn, nil
}

// Cut breaks its connections, until Mend.
func (c *Cable) Cut() {
	c.mu.Lock()
	c.isCut = true
	open := slices.Collect(maps.Keys(c.conns))
	c.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
}

func (c *Cable) closed(conn *cableConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// Mend lets connections be made again.
func (c *Cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// Silence makes the open connections silent for good, in both directions, without closing them. New
// ones work. A network behaves so when its NAT or firewall has forgotten a connection.
func (c *Cable) Silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.silent.Store(true)
	}
}

// cableConn is the client's end of a connection by a cable.
type cableConn struct {
	net.Conn
	of      *Service
	by      *Cable
	silent  atomic.Bool
	greeted bool   // its first bytes have come; used by the goroutine that reads
	connect []byte // a CONNECT that waits; used by the goroutine that connects

	// The fields below are guarded by the service's mu.
	id     uint64 // 0: not known
	closed bool
}

// Write writes at once, but a CONNECT together with the PING after it. The server's end has no
// buffer. If the server refused the CONNECT it would not read the PING, and each side would wait
// for the other.
func (c *cableConn) Write(b []byte) (int, error) {
	switch {
	case c.silent.Load():
	case bytes.HasPrefix(b, []byte("CONNECT ")):
		c.connect = bytes.Clone(b)
	case c.connect != nil:
		_, err := c.Conn.Write(append(c.connect, b...))
		c.connect = nil
		return len(b), err
	default:
		return c.Conn.Write(b)
	}
	return len(b), nil
}

func (c *cableConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err == nil && !c.greeted {
			c.greeted = true
			c.greet(b[:n])
		}
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

// clientID is in the first line that the server sends.
var clientID = regexp.MustCompile(`^INFO .*"client_id":([0-9]+)`)

func (c *cableConn) greet(line []byte) {
	if m := clientID.FindSubmatch(line); m != nil {
		id, _ := strconv.ParseUint(string(m[1]), 10, 64)
		c.of.connected(c, id)
	}
}

// Close tells the service at once that the connection is closed.
func (c *cableConn) Close() error {
	defer c.of.disconnected(c)
	defer c.by.closed(c)
	return c.Conn.Close()
}

// Silence makes the connections of all clients silent, as Cable.Silence does.
func (s *Service) Silence() { s.cable.Silence() }

// Refuse makes the NATS server refuse clients' connections, and close those that exist, until
// Admit: as while its users are reloaded, or an auth callout is away.
func (s *Service) Refuse() { s.reload(func(a *access) { a.refused = true }) }

// Admit ends Refuse.
func (s *Service) Admit() { s.reload(func(a *access) { a.refused = false }) }

// DenySubscribe makes the NATS server deny clients these subjects and no others. That ends existing
// subscriptions, which do not come back by themselves when their subjects are allowed again.
func (s *Service) DenySubscribe(subjects ...string) {
	s.reload(func(a *access) { a.denied = subjects })
}

// reload changes what clients may do, as a reload of a NATS configuration does.
func (s *Service) reload(change func(*access)) {
	s.helper()
	s.closing.Lock()
	defer s.closing.Unlock()
	change(&s.access)
	s.check(s.server.ReloadOptions(s.access.options()))
}
