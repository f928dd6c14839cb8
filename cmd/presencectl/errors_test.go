package main

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// Who may not subscribe to the usual inbox is told what there is for it, and
// who may not do something else is not.
func TestInboxDenied(t *testing.T) {
	for text, hint := range map[string]bool{
		`Permissions Violation for Subscription to "_INBOX.GQeJsYk7yt1EEsXeX0G6Fo.*"`: true,
		`Permissions Violation for Publish to "presence.v1.user.bob.set"`:             false,
	} {
		got := (&conn{}).reason(nil, fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text)).Error()
		if !strings.Contains(got, text) || strings.Contains(got, "--inbox-prefix") != hint {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

// Of a certificate that nobody here knows it is said which flag there is, and not
// what x509 tried.
func TestUnknownAuthority(t *testing.T) {
	err := fmt.Errorf("tls error: %w", x509.UnknownAuthorityError{Cert: &x509.Certificate{}})
	got := (&conn{server: "10.0.0.5:4222"}).explainDial(err, false).Error()
	if want := "connecting to 10.0.0.5:4222: its certificate is of an unknown authority (--tlsca names the authority's)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
