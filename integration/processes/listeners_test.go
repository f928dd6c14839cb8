package processes

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"presence/cmd/presencectl/natsconfig"
	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestGeneratedListeners switches on what the generated configuration has switched
// off: TLS for clients, WebSocket, MQTT.
func TestGeneratedListeners(t *testing.T) {
	t.Parallel()
	s := &site{auth: natsconfig.Password, dir: writeSite(t, natsconfig.Password)}
	file := servicetest.Certificates(t)
	ws, mqtt := freeAddress(t), freeAddress(t)
	config := filepath.Join(s.dir, natsconfig.ConfigFile)
	text := readFile(t, config)
	for _, block := range []string{"tls", "websocket", "mqtt"} {
		text = switchOn(t, text, block)
	}
	for from, to := range map[string]string{
		"#server_name: presence-1": "server_name: presence-1", "APP { users": "APP { jetstream: enabled, users", // as it says beside mqtt
		"/etc/presence/server.pem": file("server.pem"), "/etc/presence/server.key": file("server.key"),
		"0.0.0.0:8443": ws, "0.0.0.0:8883": mqtt,
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("the configuration has no %q", from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, config)
	if !strings.HasPrefix(s.url, "tls://") {
		t.Errorf("presenced says that it is on %s, want tls://", s.url)
	}

	// TLS: with the certificate's authority, and not without.
	alice := s.connect(t, protocol.RoleUser, "alice", nats.RootCAs(file("ca.pem")))
	wire.SetText(t, alice.Conn, "alice", "over TLS")
	plain := "nats://" + strings.TrimPrefix(s.url, "tls://")
	for _, opts := range [][]nats.Option{nil, {nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12})}} {
		if nc, err := nats.Connect(plain, append(opts, s.credentials(t, protocol.RoleUser, "alice"))...); err == nil {
			nc.Close()
			t.Errorf("let in without the authority, with %d options", len(opts))
		}
	}

	// WebSocket: from a page of ours, and of nobody else.
	for origin, want := range map[string]bool{"https://chat.example.com": true, "https://evil.example.com": false, "http://chat.example.com": false} {
		headers := http.Header{"Origin": {origin}}
		nc, err := nats.Connect("wss://"+ws, nats.RootCAs(file("ca.pem")), s.credentials(t, protocol.RoleUser, "alice"),
			nats.CustomInboxPrefix(protocol.RoleUser.InboxPrefix("alice")), nats.WebSocketConnectionHeaders(headers))
		if (err == nil) != want {
			t.Errorf("WebSocket from %s: got %v, want it to be let in: %v", origin, err, want)
		}
		if err == nil {
			wire.SetText(t, nc, "alice", "over WebSocket")
			nc.Close()
		}
	}

	// MQTT: what a user may hear is the same.
	mallory := s.connectMQTT(t, mqtt, file("ca.pem"), "mallory")
	if code := mallory.subscribe(t, "presence/v1/status/alice"); code != 0 {
		t.Errorf("subscribing to alice's events: got %#x", code)
	}
	if code := mallory.subscribe(t, "presence/v1/self/alice"); code != 0x80 {
		t.Errorf("subscribing to what is alice's own: got %#x, want a refusal", code)
	}
	mallory.publish(t, "presence/v1/user/alice/set", `{"customStatus":"forged"}`)
	mallory.publish(t, "presence/v1/status/alice", `{"userID":"alice","customStatus":"forged"}`)
	// A refused publish is acknowledged all the same: an MQTT client cannot tell (docs/nats.md).
	mallory.publishAcknowledged(t, "presence/v1/user/alice/set", `{"customStatus":"forged"}`)
	mallory.publish(t, "presence/v1/user/mallory/set", `{"customStatus":"over MQTT"}`)
	mallory.subscribe(t, "presence/v1/status/nobody") // once it is answered, all before it is judged
	wire.SetText(t, alice.Conn, "alice", "for MQTT")
	if _, body := mallory.next(t, 0x30); !strings.Contains(string(body), "for MQTT") {
		t.Errorf("the first event of alice: got %q", body)
	}
	if own := wire.Fresh(t, alice.Conn, "mallory")[0]; own.CustomStatus != "over MQTT" {
		t.Errorf("what mallory set by MQTT: got %+v", own)
	}
}

// switchOn takes the # away from the lines of a block.
func switchOn(t *testing.T, config, block string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^#` + block + ` \{\n(?:#  .*\n)*#\}$`).FindString(config)
	if found == "" {
		t.Fatalf("the configuration has no block %s that is switched off", block)
	}
	return strings.Replace(config, found, regexp.MustCompile(`(?m)^#`).ReplaceAllString(found, ""), 1)
}

// freeAddress returns one on loopback that is free at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// mqttClient speaks as much of MQTT 3.1.1 as these tests need.
type mqttClient struct {
	net.Conn
	read   *bufio.Reader
	packet uint16
}

func (s *site) connectMQTT(t *testing.T, address, authority, user string) *mqttClient {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(t, authority)))
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * wire.Soon))
	password := ""
	for _, secret := range s.passwords(t) {
		if secret[0] == user {
			password = secret[1]
		}
	}
	c := &mqttClient{Conn: conn, read: bufio.NewReader(conn)}
	const userPasswordClean, keepAlive = 0xc2, 60
	c.send(t, 0x10, mqttText("MQTT"), []byte{4, userPasswordClean, 0, keepAlive}, mqttText("test"), mqttText(user), mqttText(password))
	if _, body := c.next(t, 0x20); len(body) != 2 || body[1] != 0 {
		t.Fatalf("MQTT CONNACK: got %v", body)
	}
	return c
}

func mqttText(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func (c *mqttClient) send(t *testing.T, kind byte, parts ...[]byte) {
	t.Helper()
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	if _, err := c.Write(append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
}

// next returns the next packet of a kind.
func (c *mqttClient) next(t *testing.T, kind byte) (byte, []byte) {
	t.Helper()
	for {
		got, err := c.read.ReadByte()
		if err != nil {
			t.Fatalf("waiting for an MQTT packet %#x: %v", kind, err)
		}
		n, err := binary.ReadUvarint(c.read)
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(c.read, body); err != nil {
			t.Fatal(err)
		}
		if got&0xf0 == kind {
			return got, body
		}
	}
}

// subscribe returns what the server says to it: 0, or 0x80 where it refuses.
func (c *mqttClient) subscribe(t *testing.T, topic string) byte {
	t.Helper()
	c.packet++
	c.send(t, 0x82, binary.BigEndian.AppendUint16(nil, c.packet), mqttText(topic), []byte{0})
	_, body := c.next(t, 0x90)
	return body[len(body)-1]
}

func (c *mqttClient) publish(t *testing.T, topic, body string) {
	t.Helper()
	c.send(t, 0x30, mqttText(topic), []byte(body))
}

// publishAcknowledged publishes with QoS 1 and waits for the acknowledgement.
func (c *mqttClient) publishAcknowledged(t *testing.T, topic, body string) {
	t.Helper()
	c.packet++
	id := binary.BigEndian.AppendUint16(nil, c.packet)
	c.send(t, 0x32, mqttText(topic), id, []byte(body))
	if _, got := c.next(t, 0x40); !bytes.Equal(got, id) {
		t.Errorf("MQTT PUBACK: got %v, want %v", got, id)
	}
}
