package main

import (
	"fmt"
	"os"
	"testing"

	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// A server of somebody else that has a certificate of an authority of theirs, and
// wants to see one too.
func TestExternalTLS(t *testing.T) {
	t.Parallel()
	file := servicetest.Certificates(t)
	s := servicetest.StartNATS(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", file("server.pem"), file("server.key"), file("ca.pem")))
	ours := onServer(s, "--system-url", s.URLAs(servicetest.SystemUser), "--tlsca", file("ca.pem"), "--tlscert", file("client.pem"), "--tlskey", file("client.key"))
	d := servicetest.StartDaemon(t, ours...)
	nc := s.Connect(t, nats.RootCAs(file("ca.pem")), nats.ClientCert(file("client.pem"), file("client.key")))
	login(t, nc, "alice", `{"ttlSeconds":3600}`)
	d.Stop(t)

	if err := os.WriteFile(file("text.pem"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "certificate signed by unknown authority (--tlsca"},
		{[]string{"--tlsca", file("ca.pem")}, "connecting presenced clients to tls://"}, // and shows none: the server closes, with or without saying why
		{[]string{"--tlsca", file("none.pem")}, "--tlsca: open " + file("none.pem") + ": no such file"},
		{[]string{"--tlsca", file("text.pem")}, file("text.pem") + " has no certificate in PEM"},
		{[]string{"--tlsca", file("ca.pem"), "--tlscert", file("client.pem"), "--tlskey", file("server.key")}, "--tlskey " + file("server.key") + ": tls: private key does not match"},
		{[]string{"--tlsca", file("ca.pem"), "--tlscert", file("text.pem"), "--tlskey", file("client.key")}, "--tlscert " + file("text.pem")},
	} {
		code, _, stderr := call(t, onServer(s, c.args...)...)
		if code != 1 {
			t.Errorf("%v: got exit code %d, want 1", c.args, code)
		}
		wantOneLine(t, fmt.Sprint(c.args), stderr, c.says)
	}
}
