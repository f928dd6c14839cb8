package client // white box: readings and decisions themselves, without NATS and time

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// conformanceDir has the list of what a client in any language must do. Its README describes the
// files.
const conformanceDir = "../protocol/testdata/conformance"

// ConformanceList reads one file of that list.
func ConformanceList[T any](t *testing.T, file string) (v T) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(conformanceDir, file))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// ConformanceText is a text of the list, as it is or as the object that stands for it.
type ConformanceText string

func (x *ConformanceText) UnmarshalJSON(body []byte) error {
	if body[0] != '{' {
		return json.Unmarshal(body, (*string)(x))
	}
	var long struct {
		Repeat string
		Times  int
		UTF16  []uint16
	}
	err := json.Unmarshal(body, &long)
	*x = ConformanceText(strings.Repeat(long.Repeat, long.Times))
	for _, u := range long.UTF16 {
		*x += ConformanceText(asBytes(u))
	}
	return err
}

// asBytes is a unit of UTF-16 by itself: three bytes where it is half of a pair, no UTF-8.
func asBytes(u uint16) []byte {
	if u < 0x80 {
		return []byte{byte(u)}
	}
	return []byte{0xe0 | byte(u>>12), 0x80 | byte(u>>6)&0xbf, 0x80 | byte(u)&0xbf}
}

func TestConformance_Tokens(t *testing.T) {
	l := ConformanceList[struct {
		Valid                                          []struct{ UserID, Token ConformanceText }
		InvalidUserIDs, InvalidTokens, InvalidPrefixes []ConformanceText
		Subjects                                       []struct{ Prefix, Kind, UserID, Gateway, Op, Subject string }
	}](t, "tokens.json")
	for _, c := range l.Valid {
		if got, err := protocol.EncodeToken(string(c.UserID)); err != nil || got != string(c.Token) {
			t.Errorf("EncodeToken(%.40q): got %.40q, %v, want %.40q", c.UserID, got, err, c.Token)
		}
		if got, err := protocol.DecodeToken(string(c.Token)); err != nil || got != string(c.UserID) {
			t.Errorf("DecodeToken(%.40q): got %.40q, %v, want %.40q", c.Token, got, err, c.UserID)
		}
	}
	for _, id := range l.InvalidUserIDs {
		if got, err := protocol.EncodeToken(string(id)); !errors.Is(err, protocol.ErrInvalidUserID) {
			t.Errorf("EncodeToken(%.40q): got %q, %v", id, got, err)
		}
	}
	for _, token := range l.InvalidTokens {
		if got, err := protocol.DecodeToken(string(token)); !errors.Is(err, protocol.ErrInvalidUserID) {
			t.Errorf("DecodeToken(%.40q): got %q, %v", token, got, err)
		}
	}
	for _, prefix := range l.InvalidPrefixes {
		if protocol.CheckPrefix(string(prefix)) == nil {
			t.Errorf("CheckPrefix(%.80q): got nil", prefix)
		}
	}
	for _, c := range l.Subjects {
		s := protocol.NewSubjects(c.Prefix)
		got, err := s.Get(), protocol.CheckPrefix(s.Prefix())
		switch c.Kind {
		case "user":
			got, err = s.User(c.UserID, c.Op)
		case "gateway":
			got, err = s.Gateway(c.Gateway, c.Op)
		case "event":
			got, err = s.Event(c.UserID)
		case "self":
			got, err = s.Self(c.UserID)
		}
		if err != nil || got != c.Subject {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}

// receivedMessages are those that a client receives.
var receivedMessages = map[string]any{
	"event": protocol.Event{}, "self-event": protocol.SelfEvent{}, "login-reply": protocol.LoginReply{},
	"change-reply": protocol.ChangeReply{}, "get-reply": protocol.GetReply{}, "own-status-reply": protocol.OwnStatusReply{},
	"contacts-reply": protocol.ContactsReply{}, "lease-reply": protocol.LeaseReply{}, "apply-reply": protocol.ApplyReply{},
}

// readAgain reads a body as a message, and returns what that says when it is written again.
func readAgain(t *testing.T, message string, body []byte) (any, error) {
	t.Helper()
	zero, ok := receivedMessages[message]
	if !ok {
		t.Fatalf("there is no message %q", message)
	}
	v := reflect.New(reflect.TypeOf(zero)).Interface()
	if err := protocol.Unmarshal(body, v); err != nil {
		return nil, err
	}
	again, err := protocol.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return plain(t, again), nil
}

func plain(t *testing.T, body []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

func TestConformance_Messages(t *testing.T) {
	l := ConformanceList[struct {
		Files map[string][]string
		Same  []struct {
			Name, Message, Body string
			Means               json.RawMessage
		}
		Unreadable []struct{ Name, Message, Body, BodyHex string }
	}](t, "messages.json")
	for message, files := range l.Files {
		for _, file := range files {
			golden, err := os.ReadFile(filepath.Join(conformanceDir, "..", file+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := readAgain(t, message, golden); err != nil || !reflect.DeepEqual(got, plain(t, golden)) {
				t.Errorf("%s: got %v, %v", file, got, err)
			}
		}
	}
	for _, c := range l.Same {
		if got, err := readAgain(t, c.Message, []byte(c.Body)); err != nil || !reflect.DeepEqual(got, plain(t, c.Means)) {
			t.Errorf("%s: got %v, %v", c.Name, got, err)
		}
	}
	for _, c := range l.Unreadable {
		body := []byte(c.Body)
		if c.BodyHex != "" {
			body, _ = hex.DecodeString(c.BodyHex)
		}
		if got, err := readAgain(t, c.Message, body); err == nil {
			t.Errorf("%s: got %v", c.Name, got)
		}
	}
}

func TestConformance_Errors(t *testing.T) {
	for _, c := range ConformanceList[[]struct {
		Name, Body, Error, Message string
		Headers                    map[string]string
		Code                       int
		RetryAfterMs               int64
	}](t, "errors.json") {
		msg := nats.NewMsg("")
		msg.Data = []byte(c.Body)
		for name, value := range c.Headers {
			msg.Header.Set(name, value)
		}
		got := new(protocol.Error)
		if err := decode(msg, new(protocol.ChangeReply)); !errors.As(err, &got) {
			t.Errorf("%s: got %v", c.Name, err)
		} else if got.Name != c.Error || got.Code != c.Code || got.RetryAfterMs != c.RetryAfterMs || c.Message != "" && got.Message != c.Message {
			t.Errorf("%s: got %+v", c.Name, got)
		}
	}
}
