package main

import (
	"fmt"
	"strings"
	"testing"

	"presence/pkg/service/servicetest"
)

// TestReadyz_Refused: what a reload forbids presenced on a server of somebody else /readyz names,
// with the account and the subject, as long as it is so. It works again by itself afterwards.
func TestReadyz_Refused(t *testing.T) {
	t.Parallel()
	const (
		system  = `permissions: { subscribe: { deny: [ "$SYS.ACCOUNT.*.DISCONNECT" ] } }`
		inbox   = `permissions: { subscribe: { deny: [ "_INBOX.>" ] } }`
		entries = `permissions: { publish: { deny: [ "PRESENCE_JOURNAL.entries" ] } }`
		events  = `permissions: { publish: { deny: [ "presence.v1.status.>" ] } }`
	)
	for name, c := range map[string]struct {
		lines [3]string // of the users of the system account, the journal's, and the clients'
		code  int
		why   string
	}{
		"reports of closed connections": {[3]string{system}, 200, "ready, but closed connections are noticed late: the NATS server refuses the subscription to $SYS.ACCOUNT.APP.DISCONNECT in the system account: the NATS user may not subscribe to it\n"},
		"answers of the journal":        {[3]string{1: inbox}, 503, "the NATS server refuses the subscription to _INBOX.presenced.> in the journal's account: the NATS user may not subscribe to it\n"},
		"journal entries":               {[3]string{1: entries}, 503, "the NATS server refused messages on PRESENCE_JOURNAL.entries in the journal's account ("},
		"events":                        {[3]string{2: events}, 503, "the NATS server refuses events: the NATS user may not publish them (presence.v1.status.*)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servicetest.StartNATS(t)
			d := servicetest.StartDaemon(t, onServer(s, "--system-url", s.URLAs(servicetest.SystemUser), "--http", "127.0.0.1:0")...)
			url, nc := monitorOf(t, d), s.Connect(t)
			login(t, nc, "alice", `{"ttlSeconds":3600}`)
			s.Reload(t, fmt.Sprintf(`
accounts {
  SYS      { users: [ { user: presenced-system, password: secret, %s } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret, %s } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret, %s }, { user: client, password: secret } ] }
}`, c.lines[0], c.lines[1], c.lines[2]))
			set, _ := subjects.Set("alice")
			if err := nc.Publish(set, []byte(`{"customStatus":"meanwhile"}`)); err != nil {
				t.Fatal(err)
			}
			servicetest.Eventually(t, waitFor, "/readyz to say "+c.why, func() bool {
				code, text := fetch(t, url+"/readyz")
				return code == c.code && strings.Contains(text, c.why)
			})
			s.Reload(t)
			servicetest.Eventually(t, waitFor, "/readyz to say that all is well", func() bool {
				code, text := fetch(t, url+"/readyz")
				return code == 200 && text == "ready\n"
			})
			request(t, nc, set, `{"customStatus":"afterwards"}`)
		})
	}
}

// TestRefusedAtTheStart: presenced does not start where its questions get no answer, and its error
// names what the server refuses.
func TestRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t, `
accounts {
  PRESENCE { users: [ { user: presenced-journal, password: secret, permissions: { subscribe: { deny: [ "_INBOX.>" ] } } } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ] }
  SYS      { users: [ { user: presenced-system, password: secret } ] }
}`)
	code, _, stderr := servicetest.RunDaemon(t, onServer(s)...)
	if code != 1 || !strings.Contains(stderr, `Permissions Violation for Subscription to "_INBOX.presenced.`) {
		t.Errorf("presenced: got exit code %d and\n%s\nwant 1, and what is refused", code, stderr)
	}
}
