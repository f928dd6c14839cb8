package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"presence/cmd/internal/span"
	"presence/pkg/protocol"
)

// failure is an error that came after the command line was understood, in words for people.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errTold makes the exit code 1 when all errors have been printed already.
var errTold = &failure{errors.New("told")}

// explain says in one line what went wrong with a request that was made with ctx.
func (c *conn) explain(ctx context.Context, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		c.newLine()
	}
	return &failure{c.reason(cause, err)}
}

// reason puts an error into words. An error of the wire has its message and its name.
func (c *conn) reason(cause, err error) error {
	switch {
	case errors.Is(cause, nats.ErrPermissionViolation):
		err = cause
		fallthrough
	case errors.Is(err, nats.ErrPermissionViolation):
		_, text, _ := strings.Cut(err.Error(), nats.ErrPermissionViolation.Error()+": ")
		if strings.Contains(text, ` to "`+nats.InboxPrefix) {
			text += ": this user may have an inbox of its own (--inbox-prefix)"
		}
		return fmt.Errorf("the NATS server does not allow it: %s", text)
	case errors.Is(cause, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, nats.ErrNoResponders): // before the errors of the wire: it is "unavailable" as well
		return fmt.Errorf("nobody answers below %s on %s: is presenced running there?", c.prefix, c.server)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("the connection to %s was closed%s", c.server, strings.TrimPrefix(err.Error(), nats.ErrConnectionClosed.Error()))
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return wireError(e)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", span.Format(c.timeout))
	}
	return err
}

func wireError(e *protocol.Error) error {
	return fmt.Errorf("%s (%s)", e.Message, e.Name)
}

// sayFailures prints why some users of a list could not be served. If there are any it
// returns errTold.
func (c *conn) sayFailures(list []protocol.UserFailure) error {
	for _, f := range list {
		user := f.UserID
		if len(user) > protocol.MaxUserIDBytes { // too long to be one
			user = fmt.Sprintf("%.40s…", user)
		}
		c.say("%q: %s (%s)", user, f.Message, f.Name)
	}
	if len(list) > 0 {
		return errTold
	}
	return nil
}

// dialError says in one line for people why there is no connection. It is the error of the library,
// too.
type dialError struct{ text, cause error }

func (e *dialError) Error() string { return e.text.Error() }
func (e *dialError) Unwrap() error { return e.cause }

// explainDial says in one line why there is no connection.
func (c *conn) explainDial(err error, local bool) error {
	return &dialError{c.explainedDial(err, local), err}
}

func (c *conn) explainedDial(err error, local bool) error {
	var timedOut net.Error
	switch {
	case errors.Is(err, nats.ErrNoServers) && local:
		return fmt.Errorf("no NATS server at %s: is presenced running? (start it with: presenced)", c.server)
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("no NATS server at %s: connection refused", c.server)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("the NATS server at %s refuses these credentials: %s", c.server, plain(err))
	case errors.Is(err, nats.ErrTimeout), errors.As(err, &timedOut) && timedOut.Timeout():
		return fmt.Errorf("no answer from a NATS server at %s within %s", c.server, span.Format(c.timeout))
	case strings.HasPrefix(err.Error(), "malformed HTTP"): // it would be followed by the whole answer
		return fmt.Errorf("connecting to %s: it does not speak WebSocket", c.server)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("reading credentials or certificates: %s", plain(err))
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return fmt.Errorf("connecting to %s: its certificate is of an unknown authority (--tlsca names the authority's)", c.server)
	}
	return fmt.Errorf("connecting to %s: %s", c.server, plain(err))
}

// plain removes the name that nats.go puts before its errors.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "nats: ") }

// isLocal reports whether all hosts are this machine.
func isLocal(hosts []string) bool {
	for _, h := range hosts {
		host, _, _ := net.SplitHostPort(h)
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}
