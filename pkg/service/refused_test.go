package service_test

import (
	"fmt"
	"strings"
	"testing"

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
