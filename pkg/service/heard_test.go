package service_test

import (
	"strings"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestHeard: the only instance sends no event on a subject that nobody hears. When there is another
// one, both send each event: the other one's answers may be older than what this one knows.
func TestHeard(t *testing.T) {
	kit := servicetest.Start(t, servicetest.WithService(func(cfg *service.Config) {
		cfg.Heard = func(subject string) bool { return !strings.HasSuffix(subject, ".unheard") }
	}))
	nc := kit.Connect(t)
	events, err := nc.SubscribeSync(protocol.NewSubjects("").AnyEvent())
	if err != nil {
		t.Fatal(err)
	}
	set := func(user, text string) {
		t.Helper()
		subject, _ := protocol.NewSubjects("").Set(user)
		if err := request(t, nc, subject, protocol.SetRequest{CustomStatus: &text}, nil); err != nil {
			t.Fatal(err)
		}
	}
	next := func() *nats.Msg {
		t.Helper()
		m, err := events.NextMsg(waitFor)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	set("unheard", "1")
	set("heard", "1")
	if m := next(); !strings.HasSuffix(m.Subject, ".heard") {
		t.Errorf("the only instance: got %s %s, want no event that nobody hears", m.Subject, m.Data)
	}
	kit.AddInstance(t)
	for range 20 { // either instance may do it
		set("unheard", "2")
		if m := next(); !strings.HasSuffix(m.Subject, ".unheard") || !strings.Contains(string(m.Data), `"2"`) {
			t.Errorf("one of two instances: got %s %s, want the event", m.Subject, m.Data)
		}
		set("unheard", "1")
		if m := next(); !strings.HasSuffix(m.Subject, ".unheard") || !strings.Contains(string(m.Data), `"1"`) {
			t.Errorf("one of two instances: got %s %s, want the event", m.Subject, m.Data)
		}
	}
}
