package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var subjects = protocol.NewSubjects("")

// waitFor bounds every wait of these tests for something that should happen.
const waitFor = 10 * time.Second

func start(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(b.Shutdown)
	return b
}

// dial connects as a client does, and returns the errors that the broker
// reports to it.
func dial(t *testing.T, b *broker.Broker, opts ...nats.Option) (*nats.Conn, <-chan error) {
	t.Helper()
	errs := make(chan error, 100)
	opts = append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case errs <- err:
		default: // nobody looks at that many
		}
	}))
	nc, err := nats.Connect(b.ClientURL(), opts...)
	if err != nil {
		t.Fatalf("connecting a client: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc, errs
}

func connect(t *testing.T, b *broker.Broker, a broker.Account, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := b.Connect(a, opts...)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// answer makes presenced's connection answer every request with its subject.
func answer(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for _, s := range subjects.RequestSubjects() {
		subscribe(t, nc, s, func(m *nats.Msg) { m.Respond([]byte(m.Subject)) })
	}
}

func subscribe(t *testing.T, nc *nats.Conn, subject string, h nats.MsgHandler) {
	t.Helper()
	if _, err := nc.QueueSubscribe(subject, protocol.ServiceName, h); err != nil {
		t.Fatalf("subscribing %s: %v", subject, err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatalf("flushing: %v", err)
	}
}

// wantDenied waits for the broker's refusal of what was just done.
func wantDenied(t *testing.T, errs <-chan error, what string) {
	t.Helper()
	select {
	case err := <-errs:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: got %v, want a permission violation", what, err)
		}
	case <-time.After(waitFor):
		t.Errorf("%s: was not refused", what)
	}
}

func TestClientsAndPresencedMeet(t *testing.T) {
	b := start(t, broker.Config{})
	service := connect(t, b, broker.Clients)
	answer(t, service)
	client, errs := dial(t, b)

	login, _ := subjects.Login("alice")
	for _, subject := range []string{login, subjects.Get()} {
		if m, err := client.Request(subject, nil, waitFor); err != nil || string(m.Data) != subject {
			t.Errorf("Request(%s): got %v, %v", subject, m, err)
		}
	}

	sub, err := client.SubscribeSync(subjects.AnyEvent())
	if err != nil {
		t.Fatal(err)
	}
	client.Flush()
	event, _ := subjects.Event("alice")
	connect(t, b, broker.Answers).Publish(event, []byte("{}"))
	if m, err := sub.NextMsg(waitFor); err != nil || m.Subject != event {
		t.Errorf("event: got %v, %v, want one on %s", m, err, event)
	}
	select {
	case err := <-errs:
		t.Errorf("the broker refused something: %v", err)
	default:
	}
}

func TestG13_ClientCannotPublishEvents(t *testing.T) {
	b := start(t, broker.Config{})
	watcher := connect(t, b, broker.Clients)
	seen := make(chan *nats.Msg, 10)
	subscribe(t, watcher, subjects.Prefix()+".>", func(m *nats.Msg) { seen <- m })
	client, errs := dial(t, b)

	for _, s := range []string{".status.alice", ".self.alice", ".status.alice.deeper"} {
		client.Publish(subjects.Prefix()+s, []byte("forged"))
		wantDenied(t, errs, "publish "+s)
	}
	if len(seen) != 0 {
		t.Errorf("a forged event got through: %s", (<-seen).Subject)
	}
}

func TestG13_ClientCannotSubscribeToRequests(t *testing.T) {
	b := start(t, broker.Config{})
	client, errs := dial(t, b)
	for _, s := range append(subjects.RequestSubjects(), subjects.Prefix()+".user.alice.set", subjects.Prefix()+".user.*.login") {
		if _, err := client.SubscribeSync(s); err != nil {
			t.Fatalf("subscribing %s: %v", s, err)
		}
		wantDenied(t, errs, "subscribe "+s)
	}
}

// A wildcard that is wider than what is denied is a legal subscription. It
// must neither see requests nor take them from presenced, by being in its
// queue group.
func TestG13_WiderWildcardSeesNoRequests(t *testing.T) {
	b := start(t, broker.Config{})
	answer(t, connect(t, b, broker.Clients))

	thief, _ := dial(t, b)
	stolen := make(chan string, 1000)
	take := func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, subjects.Prefix()) {
			stolen <- m.Subject
		}
	}
	for _, s := range []string{">", subjects.Prefix() + ".>", "*.*.*.*.set"} {
		subscribe(t, thief, s, take)
		if _, err := thief.Subscribe(s, take); err != nil {
			t.Fatal(err)
		}
	}
	thief.Flush()

	client, _ := dial(t, b)
	for i := range 100 {
		set, _ := subjects.Set(fmt.Sprint("user", i))
		if _, err := client.Request(set, nil, waitFor); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	thief.Flush()
	if len(stolen) != 0 {
		t.Errorf("a client received %d requests", len(stolen))
	}
}

// The broker does not check reply subjects: a client can aim presenced's
// answer at any subject.
func TestG13_ForgedReplyBecomesNoRequest(t *testing.T) {
	b := start(t, broker.Config{})
	denied := make(chan error, 10)
	service := connect(t, b, broker.Clients, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	answer(t, service)
	client, _ := dial(t, b)

	set, _ := subjects.Set("bob")
	for _, reply := range []string{set, subjects.Get(), subjects.Prefix() + ".admin.erase", "$JS.API.INFO"} {
		if err := client.PublishRequest(subjects.Get(), reply, nil); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, denied, "an answer on "+reply)
	}
}

func TestClientCannotReachJournal(t *testing.T) {
	b := start(t, broker.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	js, err := jetstream.New(connect(t, b, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "PRESENCE_JOURNAL", Subjects: []string{"journal"}})
	if err != nil {
		t.Fatalf("creating a stream in the journal's account: %v", err)
	}

	client, _ := dial(t, b)
	theirs, err := jetstream.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.AccountInfo(ctx); !errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) && !errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		t.Errorf("AccountInfo as a client: got %v, want that JetStream is not enabled", err)
	}
	if _, err := theirs.Stream(ctx, "PRESENCE_JOURNAL"); err == nil {
		t.Error("a client found the journal")
	}
	if _, err := client.Request("$JS.API.STREAM.DELETE.PRESENCE_JOURNAL", nil, waitFor); err == nil {
		if _, err := stream.Info(ctx); err != nil {
			t.Errorf("the journal after a client's delete: %v", err)
		}
	}
	client.Publish("journal", []byte("forged"))
	client.Flush()
	if info, err := stream.Info(ctx); err != nil || info.State.Msgs != 0 {
		t.Errorf("a client's message on the journal's subject: got %v, %v, want an empty stream", info, err)
	}
}

func TestClientCannotEnterOtherAccounts(t *testing.T) {
	b := start(t, broker.Config{})
	for _, user := range []string{"SYS", "sys", "presence", "journal", "admin"} {
		nc, err := nats.Connect(b.ClientURL(), nats.UserInfo(user, user))
		if err == nil {
			nc.Close()
			t.Errorf("user %s was let in", user)
		}
	}
}

// The broker would tell any client the addresses of all others.
func TestClientCannotListConnections(t *testing.T) {
	b := start(t, broker.Config{})
	client, errs := dial(t, b)
	for _, s := range []string{"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.APP.CONNZ"} {
		client.PublishRequest(s, client.NewInbox(), nil)
		wantDenied(t, errs, s)
	}
	if _, err := client.Request("$SYS.REQ.USER.INFO", nil, waitFor); err != nil {
		t.Errorf("asking about itself: %v", err)
	}
}

func TestSystemLearnsOfClosedConnection(t *testing.T) {
	b := start(t, broker.Config{})
	system := connect(t, b, broker.System)
	closed, err := system.SubscribeSync("$SYS.ACCOUNT." + broker.ClientsAccount + ".DISCONNECT")
	if err != nil {
		t.Fatal(err)
	}
	system.Flush()
	client, _ := dial(t, b)
	id, _ := client.GetClientID()
	client.Close()
	m, err := closed.NextMsg(waitFor)
	if err != nil {
		t.Fatalf("waiting for DISCONNECT: %v", err)
	}
	if want := fmt.Sprintf(`"id": %d,`, id); !strings.Contains(string(m.Data), want) && !strings.Contains(string(m.Data), strings.ReplaceAll(want, " ", "")) {
		t.Errorf("DISCONNECT does not name connection %d: %s", id, m.Data)
	}
}

// A client that went silent without closing its connection, as a phone does in
// a tunnel, is closed after PingMax pings.
func TestSilentConnectionIsClosed(t *testing.T) {
	b := start(t, broker.Config{PingInterval: 50 * time.Millisecond, PingMax: 2})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.ClientURL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(waitFor))
	said, err := io.ReadAll(conn) // reads on, and answers no PING
	if err != nil || !strings.Contains(string(said), "PONG") || !strings.Contains(string(said), "Stale Connection") {
		t.Errorf("got %q, %v, want PONG, and the end as a stale connection", said, err)
	}
}
