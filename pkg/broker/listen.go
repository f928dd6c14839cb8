package broker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// parseListen returns the host, and the port or server.RANDOM_PORT, as nats-server wants
// them. Because clients are not authenticated, it refuses an address that other machines
// can reach, unless insecure.
func parseListen(listen string, insecure bool) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("the listen address %q is not host:port", listen)
	}
	if !IsLoopback(host) && !insecure {
		return "", 0, fmt.Errorf("refusing to listen on %s: clients are not authenticated, so anybody who reaches it could act as any user: use a loopback address, a configuration with users (presencectl nats-config writes one for --nats-config), or --insecure", listen)
	}
	port, err = strconv.Atoi(text)
	switch {
	case err != nil || port < -1 || port > 65535:
		return "", 0, fmt.Errorf("the port of the listen address %q must be 0 to 65535", listen)
	case port <= 0:
		return host, server.RANDOM_PORT, nil
	}
	return host, port, nil
}

// IsLoopback reports whether only this machine reaches a host. It accepts no name but
// localhost: the address of any other can change after the check.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// address is where the server takes clients.
type address struct {
	given string
	host  string
	port  int // or server.RANDOM_PORT
}

// addresses are those of a server that Start starts. webSocket is nil where there is none. Both are
// nil where the server is private.
type addresses struct{ clients, webSocket *address }

func (c Config) addresses() (a addresses, err error) {
	if c.Private {
		return a, nil
	}
	if a.clients, err = newAddress(c.Listen, c.Insecure); err != nil || c.WebSocket == "" {
		return a, err
	}
	if a.webSocket, err = newAddress(c.WebSocket, c.Insecure); err != nil {
		return a, err
	}
	if a.clients.port > 0 && a.clients.host == a.webSocket.host && a.clients.port == a.webSocket.port {
		return a, fmt.Errorf("%s cannot be both for NATS clients and for those over WebSocket: give them two ports", c.Listen)
	}
	return a, nil
}

func newAddress(given string, insecure bool) (*address, error) {
	host, port, err := parseListen(given, insecure)
	return &address{given, host, port}, err
}

func (a addresses) list() []*address {
	return slices.DeleteFunc([]*address{a.clients, a.webSocket}, func(at *address) bool { return at == nil })
}

// names are the addresses for people, see Setup.
func (a addresses) names() []string {
	if a.clients == nil {
		return nil
	}
	names := []string{a.clients.given}
	if a.webSocket != nil {
		names = append(names, "websocket "+a.webSocket.given)
	}
	return names
}

// set makes the server listen. Without an allowed origin nats-server would let in the pages
// of all. So there is always one, of a host that cannot exist (RFC 2606).
func (a addresses) set(opts *server.Options, origins []string) error {
	if a.clients == nil {
		opts.DontListen = true
		return nil
	}
	opts.Host, opts.Port = a.clients.host, a.clients.port
	if a.webSocket == nil {
		return nil
	}
	opts.Websocket.Host, opts.Websocket.Port = a.webSocket.host, a.webSocket.port
	opts.Websocket.NoTLS = true // on loopback, or --insecure
	opts.Websocket.AllowedOrigins = []string{"http://nobody.invalid"}
	for _, o := range origins {
		if err := CheckOrigin(o); err != nil {
			return err
		}
		opts.Websocket.AllowedOrigins = append(opts.Websocket.AllowedOrigins, o)
	}
	return nil
}

// CheckOrigin accepts what browsers name as the origin of a page, and nothing else.
// nats-server would pass over a path, as if it were no restriction.
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Contains(u.Host, "*") ||
		u.Scheme+"://"+u.Host != strings.ToLower(origin) {
		return fmt.Errorf("%q is no origin of a web page: give it as http://localhost:5173, without a path", origin)
	}
	return nil
}

// exposed are the addresses that other machines can reach.
func (a addresses) exposed() (list []string) {
	for _, at := range a.list() {
		if !IsLoopback(at.host) {
			list = append(list, at.given)
		}
	}
	return list
}

// checkFree reports an address in use before the server recovers its store, which takes
// time. If somebody takes the address after the check, the server reports it.
func (a addresses) checkFree() error {
	for _, at := range a.list() {
		if err := checkFree(at.host, at.port); err != nil {
			return err
		}
	}
	return nil
}

func checkFree(host string, port int) error {
	if port == server.RANDOM_PORT {
		port = 0
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: the address is %w, perhaps by another presenced or nats-server", address, ErrInUse)
	case err != nil:
		return fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return l.Close()
}

// clientURL returns what a client connects to: the server's own URL, with the advertised
// address if there is one. If the server listens on every address, it is the URL for a
// client on this machine.
func clientURL(own, advertised string) string {
	u, err := url.Parse(own)
	if err != nil {
		return own
	}
	if advertised != "" {
		if _, _, err := net.SplitHostPort(advertised); err != nil { // it names no port
			advertised = net.JoinHostPort(advertised, u.Port())
		}
		u.Host = advertised
	} else if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	return u.String()
}
