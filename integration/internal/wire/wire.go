// Package wire is what the integration tests share: requests on the wire, a record
// of what is heard there, and clients whose callbacks are recorded.
//
//	kit := servicetest.Start(t)
//	nc := kit.Connect(t)
//	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
//	wire.SetText(t, nc, "alice", "hello")
//	events.Await(t, wire.Soon, "alice", protocol.Unlogined)
package wire

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// Soon bounds what must happen without any timer of the contract. It is long
// because the machine may be busy with something else.
const Soon = 20 * time.Second

var Subjects = protocol.NewSubjects("")

// To returns the subject of a request about a user.
func To(op, userID string) string {
	subject, err := Subjects.User(userID, op)
	if err != nil {
		panic(err)
	}
	return subject
}

// Ask sends a request, a string as it is and anything else as JSON, and
// decodes the answer. The error is the service's or that of NATS.
func Ask[Reply any](nc *nats.Conn, subject string, request any) (Reply, error) {
	return AskWithin[Reply](nc, Soon, subject, request)
}

// AskWithin is ask with a limit of its own.
func AskWithin[Reply any](nc *nats.Conn, limit time.Duration, subject string, request any) (reply Reply, err error) {
	m, err := nc.Request(subject, Encode(request), limit)
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

// Must is ask for what has to be accepted.
func Must[Reply any](t testing.TB, nc *nats.Conn, subject string, request any) Reply {
	t.Helper()
	reply, err := Ask[Reply](nc, subject, request)
	if err != nil {
		t.Fatalf("%s %s: %v", subject, Encode(request), err)
	}
	return reply
}

// Refused is ask for what has to be refused with one error.
func Refused(t testing.TB, nc *nats.Conn, subject string, request any, want *protocol.Error) {
	t.Helper()
	if _, err := Ask[json.RawMessage](nc, subject, request); !errors.Is(err, want) {
		t.Errorf("%s %s: got %v, want %s", subject, Encode(request), err, want.Name)
	}
}

func Encode(request any) []byte {
	if text, ok := request.(string); ok {
		return []byte(text)
	}
	body, err := protocol.Marshal(request)
	if err != nil {
		panic(err)
	}
	return body
}

func Login(t testing.TB, nc *nats.Conn, userID string, request protocol.LoginRequest) protocol.LoginReply {
	t.Helper()
	return Must[protocol.LoginReply](t, nc, To(protocol.OpLogin, userID), request)
}

func SetText(t testing.TB, nc *nats.Conn, userID, text string) protocol.ChangeReply {
	t.Helper()
	return Must[protocol.ChangeReply](t, nc, To(protocol.OpSet, userID), protocol.SetRequest{CustomStatus: &text})
}

// Fresh returns the statuses as of now, in the order asked.
func Fresh(t testing.TB, nc *nats.Conn, userIDs ...string) []protocol.Status {
	t.Helper()
	reply := Must[protocol.GetReply](t, nc, Subjects.Get(), protocol.GetRequest{UserIDList: userIDs, Fresh: true})
	if len(reply.SuccessUserList) != len(userIDs) {
		t.Fatalf("get of %q: got %d statuses and the failures %+v", userIDs, len(reply.SuccessUserList), reply.FailureUserList)
	}
	return reply.SuccessUserList
}

// AskAll returns all answers to a request, of which there may be any number: it
// waits until none has come for a while.
func AskAll(t *testing.T, nc *nats.Conn, subject string) (answers []*nats.Msg) {
	t.Helper()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, sub.Subject, nil); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := sub.NextMsg(500 * time.Millisecond)
		if err != nil {
			return answers
		}
		answers = append(answers, m)
	}
}

// BoundTo names a connection in a login.
func BoundTo(nc *nats.Conn) *protocol.Connection {
	clientID, err := nc.GetClientID()
	if err != nil {
		panic(err)
	}
	return &protocol.Connection{ServerID: nc.ConnectedServerId(), ClientID: clientID}
}

// Names returns n user IDs.
func Names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = prefix + strconv.Itoa(i)
	}
	return list
}
