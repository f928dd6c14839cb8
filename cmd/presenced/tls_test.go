package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// authority writes the certificate of an authority into a directory, and those of a
// server and of a client that it issued: ca.pem, server.pem, server.key, client.pem,
// client.key.
func authority(t *testing.T, dir string) {
	t.Helper()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: i == 0,
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if ca == nil {
			ca, caKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
			if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A server of somebody else that has a certificate of an authority of theirs, and
// wants to see one too.
func TestExternalTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	authority(t, dir)
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
