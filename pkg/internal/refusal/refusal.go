// Package refusal reads what a NATS server refuses to do for a connection.
//
//	nc.SetErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
//		r, ok := refusal.Read(err)
//		…
//	})
//
// A server says by an error of its own that it does not take a message or a subscription, also
// where a reload has narrowed the permissions of a connection that is there. nats.go reports the
// error, and goes on as if nothing were. Only the text of the error tells what is meant.
package refusal

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// Refusal is what a server does not do because the user of the connection may not have it done.
type Refusal struct {
	// Publish says that it took no message on the subject. Else it has no subscription to it.
	Publish bool
	Subject string
	Queue   string // of a subscription; empty for none
}

// text is what servers say. A subject is quoted as Go does it.
var text = regexp.MustCompile(`(?i)violation for (subscription|publish) to ("(?:[^"\\]|\\.)*")(?: using queue ("(?:[^"\\]|\\.)*"))?`)

// Read reads a refusal from an error that nats.go reports. It reports false for any other error.
// A limit on subscriptions is one: it names no subject.
func Read(err error) (Refusal, bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return Refusal{}, false
	}
	m := text.FindStringSubmatch(err.Error())
	if m == nil {
		return Refusal{}, false
	}
	return Refusal{Publish: strings.EqualFold(m[1], "publish"), Subject: unquote(m[2]), Queue: unquote(m[3])}, true
}

// unquote returns what was quoted; empty for nothing.
func unquote(quoted string) string {
	if s, err := strconv.Unquote(quoted); err == nil {
		return s
	}
	return strings.Trim(quoted, `"`)
}

// Answers returns the subject of the one subscription by which nats.go hears the answers to all
// requests of a connection. It sends nothing.
func Answers(nc *nats.Conn) string {
	inbox := nc.NewRespInbox() // that of one request: the prefix and one more token
	return inbox[:strings.LastIndexByte(inbox, '.')+1] + "*"
}
