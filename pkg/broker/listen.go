package broker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
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
	if !isLoopback(host) && !insecure {
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

// isLoopback accepts no host name but localhost: the address of any other can change
// after the check.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkFree reports an address in use before the server recovers its store, which takes
// time. If somebody takes the address after the check, the server reports it.
func checkFree(host string, port int) error {
	if port == server.RANDOM_PORT {
		port = 0
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: the address is in use, perhaps by another presenced or nats-server", address)
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
