package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// userID names the users of the callers; their IDs are their own tokens.
func userID(i int) string { return fmt.Sprintf("user-%07d", i) }

func setSubject(user int) string { return userSubject(userID(user), protocol.OpSet) }

// userSubject is a request subject of a user whose ID needs no encoding.
func userSubject(userID, op string) string {
	subject, err := subjects.User(userID, op)
	if err != nil {
		panic(err) // the IDs are made here
	}
	return subject
}

// setBody is a change of the text. It differs from call to call: to set the text that is
// set already changes nothing.
func setBody(i int) []byte {
	return fmt.Appendf(nil, `{"customStatus":"in a meeting %07d"}`, i%10_000_000)
}

// getBody asks for n users from one on.
func getBody(first, n int) []byte {
	r := protocol.GetRequest{}
	for i := range n {
		r.UserIDList = append(r.UserIDList, userID(first+i))
	}
	return mustMarshal(r)
}

// session is a login to be renewed.
type session struct{ user, id string }

func (s session) renewBody() []byte { return mustMarshal(protocol.RenewRequest{SessionID: s.id}) }

// loginAll logs users in, each with one session that outlives the run.
func loginAll(ctx context.Context, t *target, name func(int) string, users int) error {
	_, err := loginSessions(ctx, t, name, users)
	return err
}

func loginSessions(ctx context.Context, t *target, name func(int) string, users int) ([]session, error) {
	sessions := make([]session, users)
	_, err := callEach(ctx, loginCallers, users, func(caller, i int) error {
		s := session{user: name(i), id: uuid.NewString()}
		sessions[i] = s
		return requestPatiently(t.conn(caller), userSubject(s.user, protocol.OpLogin),
			mustMarshal(protocol.LoginRequest{SessionID: s.id, Platform: "web", TTLSeconds: int64(protocol.MaxTTL / time.Second)}))
	})
	return sessions, err
}

// loginCallers log in concurrently: more fit into one journal entry.
const loginCallers = 256

// request sends a request and reports whether it was refused.
func request(nc *nats.Conn, subject string, body []byte) error {
	_, err := requestBody(nc, subject, body)
	return err
}

// requestPatiently is request, made again while the service refuses it because it is busy:
// to prepare a measure.
func requestPatiently(nc *nats.Conn, subject string, body []byte) error {
	for begun := time.Now(); ; {
		err := request(nc, subject, body)
		busy := errors.Is(err, protocol.ErrUnavailable) || errors.Is(err, protocol.ErrOverloaded)
		if !busy || time.Since(begun) > requestTimeout {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func requestBody(nc *nats.Conn, subject string, body []byte) ([]byte, error) {
	m, err := nc.Request(subject, body, requestTimeout)
	if err != nil {
		return nil, fmt.Errorf("a request to %s: %w", subject, err)
	}
	if err := refusal(m); err != nil {
		return nil, fmt.Errorf("a request to %s: %w", subject, err)
	}
	return m.Data, nil
}

// refusal is the error that a reply carries, or nil.
func refusal(m *nats.Msg) error {
	text := m.Header.Get(protocol.ErrorHeader)
	if text == "" {
		return nil
	}
	e := new(protocol.Error)
	if json.Unmarshal(m.Data, e) == nil && e.Name != "" {
		return fmt.Errorf("refused: %w", e)
	}
	return fmt.Errorf("refused: %s", text)
}

func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only of types made here
	}
	return data
}
