package client // it shares the list with what has to be a white-box test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// serviceTimeout bounds the wait for an answer of the real service.
const serviceTimeout = 30 * time.Second

// requestCase is a case of requests.json.
type requestCase struct {
	Request string
	Body    json.RawMessage
	Error   string
}

// halves are units of UTF-16 that are no text. In JSON they are escapes.
type halves []any

func (h halves) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	for _, u := range h {
		fmt.Fprintf(&b, `\u%04x`, int(u.(float64)))
	}
	return []byte(`"` + b.String() + `"`), nil
}

// expanded is a body in which the objects that stand for a text or a list are replaced.
func (c *requestCase) expanded(t *testing.T) []byte {
	t.Helper()
	body, err := json.Marshal(expand(plain(t, c.Body)))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func expand(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = expand(v[i])
		}
	case map[string]any:
		times, _ := v["times"].(float64)
		if s, ok := v["repeat"].(string); ok {
			return strings.Repeat(s, int(times))
		}
		if s, ok := v["list"].(string); ok {
			return strings.Split(strings.Repeat(s+" ", int(times)-1)+s, " ")
		}
		if units, ok := v["utf16"].([]any); ok {
			return halves(units)
		}
		for name := range maps.Keys(v) {
			v[name] = expand(v[name])
		}
	}
	return v
}

// check is what the contract's own checks say of a request.
func (c *requestCase) check(body []byte) error {
	var login protocol.LoginRequest
	var set protocol.SetRequest
	var contacts protocol.ContactsRequest
	var open protocol.OpenRequest
	var op protocol.Op
	request := map[string]struct {
		into  any
		check func() error
	}{
		"login":    {&login, login.Check},
		"set":      {&set, func() error { return set.Check(protocol.MostCustomStatusBytes) }},
		"contacts": {&contacts, contacts.Check},
		"open":     {&open, open.Check},
		"op":       {&op, func() error { return op.Check(protocol.MostCustomStatusBytes) }},
	}[c.Request]
	if err := protocol.Unmarshal(body, request.into); err != nil {
		return err
	}
	return request.check()
}

func nameOf(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Name
	}
	return ""
}

func TestConformance_Requests(t *testing.T) {
	for _, c := range ConformanceList[[]requestCase](t, "requests.json") {
		if err := c.check(c.expanded(t)); nameOf(err) != c.Error {
			t.Errorf("%s %.80s: got %v, want %q", c.Request, c.Body, err, c.Error)
		}
	}
}

// The real service refuses the same requests by the same errors.
func TestConformance_RequestsToTheService(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	subjects := protocol.NewSubjects("")
	for i, c := range ConformanceList[[]requestCase](t, "requests.json") {
		user, gateway := fmt.Sprint("user", i), fmt.Sprint("gw", i)
		subject, err := subjects.User(user, c.Request)
		body := c.expanded(t)
		switch c.Request {
		case "open":
			subject, err = subjects.Gateway(gateway, protocol.OpOpen)
		case "op":
			open, _ := subjects.Gateway(gateway, protocol.OpOpen)
			if _, err := nc.Request(open, []byte(`{"process":"p1"}`), serviceTimeout); err != nil {
				t.Fatal(err)
			}
			subject, err = subjects.Gateway(gateway, protocol.OpApply)
			body = fmt.Appendf(nil, `{"process":"p1","seq":1,"ops":[%s]}`, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		msg, err := nc.Request(subject, body, serviceTimeout)
		if err != nil {
			t.Fatal(err)
		}
		var reply protocol.ApplyReply
		err = decode(msg, &reply)
		if err == nil && len(reply.Failures) > 0 {
			err = reply.Failures[0].Err()
		}
		if nameOf(err) != c.Error {
			t.Errorf("%s %.80s: got %v, want %q", c.Request, c.Body, err, c.Error)
		}
	}
}
