package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// permitted is the accounts of StartNATS, where presenced's users have more lines, by their names.
func permitted(users map[string]string) string {
	return fmt.Sprintf(`
accounts {
  SYS      { users: [ { user: presenced-system, password: secret, %s } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret, %s } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret, %s }, { user: client, password: secret } ] }
}`, users[servicetest.SystemUser], users[servicetest.JournalUser], users[servicetest.ClientsUser])
}

// denied is the lines of a user who may not publish or subscribe on a subject.
func denied(what, subject string) string {
	return fmt.Sprintf("permissions: { %s: { deny: [ %q ] } }", what, subject)
}

// changeText sets a text, which must succeed.
func changeText(t *testing.T, nc *nats.Conn, user, text string) {
	t.Helper()
	set, _ := subjects.Set(user)
	if err := request(t, nc, set, protocol.SetRequest{CustomStatus: &text}, nil); err != nil {
		t.Fatalf("set of %s: %v", user, err)
	}
}

// TestRequester_JournalsAnswers: where the broker takes the subscription for answers of the
// journal's connection away, and gives the permission back, nats.go does not make it again. The
// instance says what is refused, and serves again by itself.
func TestRequester_JournalsAnswers(t *testing.T) {
	t.Parallel()
	const why = "refuses the subscription to _INBOX.> in the journal's account: the NATS user may not subscribe to it"
	refused := permitted(map[string]string{servicetest.JournalUser: denied("subscribe", "_INBOX.>")})
	server := servicetest.StartNATS(t)
	s := run(t, server)
	awaitHealth(t, s, "")
	nc := server.Connect(t)
	for range 2 {
		server.Reload(t, refused)
		awaitHealth(t, s, why)
		awaitHealth(t, s, "stale: nothing was applied") // so requests have waited in vain
		awaitHealth(t, s, why)
		server.Reload(t)
		awaitHealth(t, s, "")
		changeText(t, nc, "alice", "here")
	}
}

// TestRequester_RefusedAtTheStart: an instance that starts meanwhile says it too, and starts when
// it may.
func TestRequester_RefusedAtTheStart(t *testing.T) {
	t.Parallel()
	server := servicetest.StartNATS(t, permitted(map[string]string{servicetest.JournalUser: denied("subscribe", "_INBOX.>")}))
	s := run(t, server)
	awaitHealth(t, s, "starting: opening the journal: the NATS server refuses the subscription to _INBOX.>")
	server.Reload(t)
	awaitHealth(t, s, "")
	changeText(t, server.Connect(t), "alice", "here")
}

// TestG04_EventsRefused: while the broker refuses events the instance is not ready and says why.
// What was changed meanwhile is announced when it takes them again, with no further change.
func TestG04_EventsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		subject, shown string
		hears          []string // events
	}{
		"of statuses": {"presence.v1.status.>", "presence.v1.status.*", []string{"status.alice", "status.bob"}},
		"of one user": {"presence.v1.status.alice", "presence.v1.status.*", []string{"status.alice"}},
		"of owners":   {"presence.v1.self.>", "presence.v1.self.*", []string{"self.alice", "self.bob"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servicetest.StartNATS(t)
			s := run(t, server)
			awaitHealth(t, s, "")
			nc, watching := server.Connect(t), server.Connect(t)
			var events []*nats.Subscription
			for _, subject := range c.hears {
				sub, err := watching.SubscribeSync("presence.v1." + subject)
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, sub)
			}
			others, err := watching.SubscribeSync("presence.v1.status.carol")
			if err != nil {
				t.Fatal(err)
			}
			if err := watching.Flush(); err != nil {
				t.Fatal(err)
			}
			server.Reload(t, permitted(map[string]string{servicetest.ClientsUser: denied("publish", c.subject)}))
			const text = "while events are refused"
			for _, user := range []string{"alice", "bob"} {
				changeText(t, nc, user, text)
			}
			awaitHealth(t, s, "the NATS server refuses events: the NATS user may not publish them ("+c.shown+")")
			if c.subject != "presence.v1.status.>" { // what is not refused is announced at once
				changeText(t, nc, "carol", text)
				if _, err := others.NextMsg(soon); err != nil {
					t.Errorf("the event of carol, which is not refused: %v", err)
				}
			}
			// Longer than it takes until what reached the broker counts as announced.
			time.Sleep(7 * time.Second)
			if err := s.Health(); err == nil {
				t.Error("it is ready while events are refused")
			}
			if n := s.Figures().Unannounced; n < len(c.hears) {
				t.Errorf("%d changes are still to be announced, want at least %d", n, len(c.hears))
			}
			server.Reload(t)
			for i, sub := range events {
				for heard := false; !heard; {
					m, err := sub.NextMsg(soon)
					if err != nil {
						t.Fatalf("the event %s of a change while it was refused: %v", c.hears[i], err)
					}
					heard = strings.Contains(string(m.Data), text)
				}
			}
			awaitHealth(t, s, "")
			servicetest.Eventually(t, soon, "everything to be announced for certain", func() bool { return s.Figures().Unannounced == 0 })
		})
	}
}

// TestG04_EventsRefusedAndStopped: what an instance could not announce it leaves to the next one,
// and stops without waiting.
func TestG04_EventsRefusedAndStopped(t *testing.T) {
	t.Parallel()
	server := servicetest.StartNATS(t)
	i := server.StartInstance(t)
	nc := server.Connect(t)
	events, err := nc.SubscribeSync("presence.v1.status.alice")
	if err != nil {
		t.Fatal(err)
	}
	server.Reload(t, permitted(map[string]string{servicetest.ClientsUser: denied("publish", "presence.v1.status.>")}))
	const text = "while events are refused"
	changeText(t, nc, "alice", text)
	begun := time.Now()
	i.Stop(t)
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("Stop took %v", took)
	}
	server.Reload(t)
	server.StartInstance(t)
	m, err := events.NextMsg(2 * soon)
	if err != nil || !strings.Contains(string(m.Data), text) {
		t.Fatalf("the event by the next instance: got %v, %v", m, err)
	}
}

// TestReplies_Refused: while the broker refuses answers the instance is not ready and says why.
func TestReplies_Refused(t *testing.T) {
	t.Parallel()
	for _, subject := range []string{"_INBOX.>", "_INBOX.some.>"} {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			server := servicetest.StartNATS(t)
			s := run(t, server)
			awaitHealth(t, s, "")
			nc := server.Connect(t)
			server.Reload(t, permitted(map[string]string{servicetest.ClientsUser: denied("publish", subject)}))
			ask := func() {
				if err := nc.PublishRequest(subjects.Get(), "_INBOX.some.client", []byte(`{"userIDList":["alice"]}`)); err != nil {
					t.Fatal(err)
				}
			}
			ask()
			const why = "the NATS server refuses answers: the NATS user may not publish them (_INBOX.>)"
			awaitHealth(t, s, why)
			ask()
			server.Reload(t)
			awaitHealth(t, s, "")
			get(t, nc, "alice")
		})
	}
}

// TestReplies_RefusedForTheAskersReason: a client can name a reply subject that nobody may publish
// on. That does not make an instance unready.
func TestReplies_RefusedForTheAskersReason(t *testing.T) {
	t.Parallel()
	const allowed = `permissions: { publish: [ "presence.v1.>", "_INBOX.>", "_R_.>" ] }`
	server := servicetest.StartNATS(t, permitted(map[string]string{servicetest.ClientsUser: allowed}))
	answers := server.ConnectAs(t, broker.Answers)
	s := run(t, server, func(c *service.Config) { c.Answers = answers })
	awaitHealth(t, s, "")
	nc := server.Connect(t)
	for _, reply := range []string{"_INBOX..a", "_INBOX.a..b", "_INBOX.", "somewhere.else", "_INBOX.*", "_INBOX.>", "_INBOX"} {
		before := answers.LastError()
		if err := nc.PublishRequest(subjects.Get(), reply, []byte(`{"userIDList":["alice"]}`)); err != nil {
			t.Fatal(err)
		}
		get(t, nc, "alice")
		if err := answers.Flush(); err != nil {
			t.Fatal(err)
		}
		t.Logf("reply %q is refused: %v", reply, answers.LastError() != before)
		for begun := time.Now(); time.Since(begun) < 300*time.Millisecond; time.Sleep(5 * time.Millisecond) {
			if err := s.Health(); err != nil {
				t.Fatalf("after a request whose reply subject is %q it is not ready: %v", reply, err)
			}
		}
	}
	if answers.LastError() == nil {
		t.Error("the NATS server has refused nothing, so this says nothing")
	}
}

// awaitImpaired waits until what does not work beside is text, or nothing.
func awaitImpaired(t *testing.T, s *service.Service, text string) {
	t.Helper()
	servicetest.Eventually(t, 2*soon, fmt.Sprintf("Impaired to be %q", text), func() bool {
		err := s.Impaired()
		return (err == nil) == (text == "") && (err == nil || strings.Contains(err.Error(), text))
	})
}

// TestG05_SystemRefused: where the broker takes a subscription of the system account away, the
// instance says so. Meanwhile it finds closed connections by asking. When the permission is back it
// hears of them again.
func TestG05_SystemRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ denied, why string }{
		"closed connections": {"$SYS.ACCOUNT.*.DISCONNECT", "closed connections are noticed late: the NATS server refuses the subscription to $SYS.ACCOUNT.APP.DISCONNECT in the system account"},
		"lame duck mode":     {"$SYS.SERVER.*.LAMEDUCK", "the NATS server refuses the subscription to $SYS.SERVER.*.LAMEDUCK in the system account"},
		"answers":            {"_INBOX.>", "refuses the subscription to _INBOX."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servicetest.StartNATS(t)
			s := run(t, server)
			awaitHealth(t, s, "")
			nc := server.Connect(t)
			bound := func(user string) (ttl int64, leave func()) {
				t.Helper()
				other := server.Connect(t)
				id, err := other.GetClientID()
				if err != nil {
					t.Fatal(err)
				}
				login, _ := subjects.Login(user)
				var reply protocol.LoginReply
				if err := request(t, other, login, protocol.LoginRequest{Connection: &protocol.Connection{ServerID: other.ConnectedServerId(), ClientID: id}}, &reply); err != nil {
					t.Fatal(err)
				}
				return reply.TTLSeconds, other.Close
			}
			offline := func(user string) {
				t.Helper()
				servicetest.Eventually(t, 2*soon, user+" to be OFFLINE", func() bool { return get(t, nc, user)[0].StatusType == protocol.Offline })
			}
			ttl, leave := bound("alice")
			if ttl != 120 {
				t.Errorf("the TTL of a bound session is %d s, want 120", ttl)
			}
			server.Reload(t, permitted(map[string]string{servicetest.SystemUser: denied("subscribe", c.denied)}))
			awaitImpaired(t, s, c.why)
			if err := s.Health(); err != nil {
				t.Errorf("it is not ready: %v", err)
			}
			leave()
			if name == "closed connections" {
				offline("alice")
				if ttl, _ := bound("bob"); ttl != 30 {
					t.Errorf("the TTL of a session whose end is noticed late is %d s, want 30", ttl)
				}
			}
			server.Reload(t)
			awaitImpaired(t, s, "")
			offline("alice")
			ttl, leave = bound("carol")
			if ttl != 120 {
				t.Errorf("the TTL of a bound session, after it, is %d s, want 120", ttl)
			}
			leave()
			offline("carol")
		})
	}
}
