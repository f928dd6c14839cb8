package refusal_test

import (
	"errors"
	"fmt"
	"testing"

	"presence/pkg/internal/refusal"

	"github.com/nats-io/nats.go"
)

// TestRead has the texts of nats-server 2.15.2: on a refused message and subscription, and after a
// reload that removes a subscription.
func TestRead(t *testing.T) {
	for text, want := range map[string]refusal.Refusal{
		`Permissions Violation for Publish to "presence.v1.status.alice"`:                               {Publish: true, Subject: "presence.v1.status.alice"},
		`Permissions Violation for Publish to "_INBOX.\"caf\u00e9\x01"`:                                 {Publish: true, Subject: "_INBOX.\"café\x01"},
		`Permissions Violation for Subscription to "_INBOX.abc.*"`:                                      {Subject: "_INBOX.abc.*"},
		`Permissions Violation for Subscription to "a.b" using queue "presence"`:                        {Subject: "a.b", Queue: "presence"},
		`Permissions Violation for Subscription to "a.b" (sid "7")`:                                     {Subject: "a.b"},
		`Permissions Violation for Subscription to "presence.v1.get" using queue "presence" (sid "12")`: {Subject: "presence.v1.get", Queue: "presence"},
		`permissions violation for subscription to "a.b"`:                                               {Subject: "a.b"},
	} {
		got, ok := refusal.Read(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text))
		if !ok || got != want {
			t.Errorf("Read(%s): got %+v, %v, want %+v", text, got, ok, want)
		}
	}
	for _, err := range []error{
		nil,
		nats.ErrPermissionViolation,
		nats.ErrMaxSubscriptionsExceeded,
		errors.New(`Permissions Violation for Publish to "a.b"`), // of something else than nats.go
		fmt.Errorf(`%w: Permissions Violation for Publish with Reply of "a.b"`, nats.ErrPermissionViolation),
	} {
		if got, ok := refusal.Read(err); ok {
			t.Errorf("Read(%v): got %+v, want none", err, got)
		}
	}
}
