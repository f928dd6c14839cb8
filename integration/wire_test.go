package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// The tests of this package hold the contract from outside: over real
// connections, through the wire or the Go client, against a service in this
// process or the real daemon. A guarantee's test carries its number.

func TestMain(m *testing.M) {
	if url := os.Getenv(gatewayEnv); url != "" {
		if err := runGateway(url); err != nil {
			fmt.Fprintln(os.Stderr, "the gateway of a test:", err)
			os.Exit(1)
		}
		return
	}
	servicetest.Main(m)
}

// soon bounds what must happen without any timer of the contract. It is long
// because the machine may be busy with something else.
const soon = 20 * time.Second

var subjects = protocol.NewSubjects("")

// to returns the subject of a request about a user.
func to(op, userID string) string {
	subject, err := subjects.User(userID, op)
	if err != nil {
		panic(err)
	}
	return subject
}

// ask sends a request, a string as it is and anything else as JSON, and
// decodes the answer. The error is the service's or that of NATS.
func ask[Reply any](nc *nats.Conn, subject string, request any) (Reply, error) {
	return askWithin[Reply](nc, soon, subject, request)
}

// askWithin is ask with a limit of its own.
func askWithin[Reply any](nc *nats.Conn, limit time.Duration, subject string, request any) (reply Reply, err error) {
	m, err := nc.Request(subject, encode(request), limit)
	if err != nil {
		return reply, err
	}
	if m.Header.Get(protocol.ErrorHeader) != "" {
		refusal := new(protocol.Error)
		if err := json.Unmarshal(m.Data, refusal); err != nil {
			return reply, err
		}
		return reply, refusal
	}
	return reply, json.Unmarshal(m.Data, &reply)
}

// must is ask for what has to be accepted.
func must[Reply any](t testing.TB, nc *nats.Conn, subject string, request any) Reply {
	t.Helper()
	reply, err := ask[Reply](nc, subject, request)
	if err != nil {
		t.Fatalf("%s %s: %v", subject, encode(request), err)
	}
	return reply
}

// refused is ask for what has to be refused with one error.
func refused(t testing.TB, nc *nats.Conn, subject string, request any, want *protocol.Error) {
	t.Helper()
	if _, err := ask[json.RawMessage](nc, subject, request); !errors.Is(err, want) {
		t.Errorf("%s %s: got %v, want %s", subject, encode(request), err, want.Name)
	}
}

func encode(request any) []byte {
	if text, ok := request.(string); ok {
		return []byte(text)
	}
	body, err := protocol.Marshal(request)
	if err != nil {
		panic(err)
	}
	return body
}

func login(t testing.TB, nc *nats.Conn, userID string, request protocol.LoginRequest) protocol.LoginReply {
	t.Helper()
	return must[protocol.LoginReply](t, nc, to(protocol.OpLogin, userID), request)
}

func setText(t testing.TB, nc *nats.Conn, userID, text string) protocol.ChangeReply {
	t.Helper()
	return must[protocol.ChangeReply](t, nc, to(protocol.OpSet, userID), protocol.SetRequest{CustomStatus: &text})
}

// fresh returns the statuses as of now, in the order asked.
func fresh(t testing.TB, nc *nats.Conn, userIDs ...string) []protocol.Status {
	t.Helper()
	reply := must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: userIDs, Fresh: true})
	if len(reply.SuccessUserList) != len(userIDs) {
		t.Fatalf("get of %q: got %d statuses and the failures %+v", userIDs, len(reply.SuccessUserList), reply.FailureUserList)
	}
	return reply.SuccessUserList
}

// boundTo names a connection in a login.
func boundTo(nc *nats.Conn) *protocol.Connection {
	clientID, err := nc.GetClientID()
	if err != nil {
		panic(err)
	}
	return &protocol.Connection{ServerID: nc.ConnectedServerId(), ClientID: clientID}
}

// names returns n user IDs.
func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = prefix + strconv.Itoa(i)
	}
	return list
}

// recorder keeps what a subscription received.
type recorder struct {
	mu       sync.Mutex
	messages []received
}

type received struct {
	at time.Time
	*nats.Msg
}

// record subscribes and returns when the server knows it.
func record(t testing.TB, nc *nats.Conn, patterns ...string) *recorder {
	t.Helper()
	r := &recorder{}
	for _, pattern := range patterns {
		if _, err := nc.Subscribe(pattern, r.add); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recorder) add(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, received{time.Now(), m})
}

// all returns what arrived so far.
func (r *recorder) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages[:len(r.messages):len(r.messages)]
}

// has reports whether a message with this text in its body has arrived on the subject.
func (r *recorder) has(subject, text string) bool {
	for _, m := range r.all() {
		if m.Subject == subject && strings.Contains(string(m.Data), text) {
			return true
		}
	}
	return false
}

// arrived is a public event and when it was received.
type arrived struct {
	protocol.Event
	at time.Time
}

// events returns the public events of a user, in the order of arrival, without
// those that came before with the same revision.
func (r *recorder) events(t testing.TB, userID string) (list []arrived) {
	t.Helper()
	subject, err := subjects.Event(userID)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, m := range r.all() {
		if m.Subject != subject {
			continue
		}
		e := arrived{at: m.at}
		if err := json.Unmarshal(m.Data, &e.Event); err != nil {
			t.Fatalf("event on %s: %v: %s", subject, err, m.Data)
		}
		if e.UserID != userID {
			t.Errorf("event on %s: got the user %q", subject, e.UserID)
		}
		if !seen[e.Revision] {
			seen[e.Revision] = true
			list = append(list, e)
		}
	}
	return list
}

// await waits for an event of a user with a statusType, and returns the first.
func (r *recorder) await(t testing.TB, deadline time.Duration, userID string, want protocol.StatusType) (found arrived) {
	t.Helper()
	servicetest.Eventually(t, deadline, userID+" to become "+want.String(), func() bool {
		for _, e := range r.events(t, userID) {
			if e.StatusType == want {
				found = e
				return true
			}
		}
		return false
	})
	return found
}
