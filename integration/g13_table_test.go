package integration

import (
	"slices"
	"strings"
	"testing"

	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// everySubject is what anybody might try to publish on or subscribe to, without
// the prefix where it is below it: each request, each kind of event, each of the
// broker's own, somebody else's, and aliases.
var everySubject = strings.Fields(`
	user.alice.login user.alice.renew user.alice.logout user.alice.set user.alice.status user.alice.contacts
	user.mallory.login user.mallory.renew user.mallory.logout user.mallory.set user.mallory.status user.mallory.contacts
	user.=41.set user.=6Dallory.set user.Mallory.set user.mallory user.mallorys.set user
	gateway.gw1.open gateway.gw1.renew gateway.gw1.apply gateway.gw1.close
	gateway.gw2.open gateway.gw2.renew gateway.gw2.apply gateway.gw2.close
	get list stats explain admin.kick admin.erase get.deeper list.deeper admin
	status.alice status.mallory status.alice.deeper self.alice self.mallory self.mallory.deeper
	$SRV.PING $SRV.INFO.presence $SRV.STATS.presence
	$JS.API.INFO $JS.API.STREAM.INFO.PRESENCE_JOURNAL $JS.API.STREAM.DELETE.PRESENCE_JOURNAL $JS.API.CONSUMER.CREATE.PRESENCE_JOURNAL
	$JS.ACK.PRESENCE_JOURNAL.c.1.1.1.1.0 $O.PRESENCE_SNAPSHOTS.M.x $KV.PRESENCE_CONTACTS.alice PRESENCE_JOURNAL
	$SYS.REQ.USER.INFO $SYS.REQ.SERVER.PING $SYS.REQ.SERVER.PING.CONNZ $SYS.REQ.ACCOUNT.PING.CONNZ $SYS.REQ.ACCOUNT.APP.CONNZ $SYS.ACCOUNT.APP.DISCONNECT
	_INBOX.x _INBOX.user.alice.x _INBOX.user.mallory.x _INBOX.gateway.gw1.x _INBOX.reader.reader.x _INBOX.operator.operator.x _INBOX.presenced.x
	another.application`)

// everyPattern is what anybody might try to subscribe to beside everySubject. After
// a slash is a queue group.
var everyPattern = strings.Fields(`
	> *.> $SYS.> $JS.> $SRV.> _INBOX.> _INBOX.*.> _INBOX.user.> _INBOX.user.*.> _INBOX.user.alice.> _INBOX.user.mallory.>
	_INBOX.gateway.> _INBOX.gateway.mallory.> _INBOX.gateway.gw1.> _INBOX.reader.reader.> _INBOX.operator.operator.> _INBOX.presenced.>
	status.* status.> status.*.> self.* self.> user.> user.*.set user.mallory.> user.mallory.set gateway.> gateway.gw1.> gateway.*.apply admin.> *
	status.*/workers status.alice/workers status.>/workers status.*/presence status.*/a.b
	user.*.set/presence user.mallory.set/presence get/presence gateway.*.apply/presence $SRV.PING/presence
	$SYS.ACCOUNT.*.DISCONNECT $SYS.ACCOUNT.APP.> $SYS.ACCOUNT.*.CONNECT`)

// rows is PROTOCOL 9 once more, by what of the above everybody may do: all else has
// to be refused.
var rows = []struct {
	role               protocol.Role
	name               string
	publish, subscribe string
	outside            bool // only where presenced is such a user
}{
	{role: protocol.RoleUser, name: "mallory",
		publish: `user.mallory.login user.mallory.renew user.mallory.logout user.mallory.set user.mallory.status user.mallory.contacts get`,
		subscribe: `status.alice status.mallory status.* status.> self.mallory
			_INBOX.user.mallory.x _INBOX.user.mallory.>`},
	{role: protocol.RoleGateway, name: "gw1",
		publish: `gateway.gw1.open gateway.gw1.renew gateway.gw1.apply gateway.gw1.close get`,
		subscribe: `status.alice status.mallory status.* status.> status.*/workers status.alice/workers status.>/workers status.*/presence status.*/a.b
			_INBOX.gateway.gw1.x _INBOX.gateway.gw1.>`},
	{role: protocol.RoleReader, name: "reader",
		publish: `get list stats`,
		subscribe: `status.alice status.mallory status.* status.> status.*/workers status.alice/workers status.>/workers status.*/presence status.*/a.b
			_INBOX.reader.reader.x _INBOX.reader.reader.>`},
	{role: protocol.RoleOperator, name: "operator",
		publish: `user.alice.login user.alice.renew user.alice.logout user.alice.set user.alice.status user.alice.contacts
			user.mallory.login user.mallory.renew user.mallory.logout user.mallory.set user.mallory.status user.mallory.contacts
			user.=41.set user.=6Dallory.set user.Mallory.set user.mallory user.mallorys.set
			gateway.gw1.open gateway.gw1.renew gateway.gw1.apply gateway.gw1.close gateway.gw2.open gateway.gw2.renew gateway.gw2.apply gateway.gw2.close
			get list stats explain admin.kick admin.erase $SRV.PING $SRV.INFO.presence $SRV.STATS.presence`,
		subscribe: `status.alice status.mallory status.* status.> self.alice self.mallory self.* self.>
			status.*/workers status.alice/workers status.>/workers status.*/presence status.*/a.b
			_INBOX.operator.operator.x _INBOX.operator.operator.>`},
	{role: protocol.RoleService, outside: true,
		publish: `status.alice status.mallory status.alice.deeper self.alice self.mallory self.mallory.deeper $SYS.REQ.USER.INFO
			_INBOX.x _INBOX.user.alice.x _INBOX.user.mallory.x _INBOX.gateway.gw1.x _INBOX.reader.reader.x _INBOX.operator.operator.x _INBOX.presenced.x`,
		subscribe: `user.alice.login user.alice.renew user.alice.logout user.alice.set user.alice.status user.alice.contacts
			user.mallory.login user.mallory.renew user.mallory.logout user.mallory.set user.mallory.status user.mallory.contacts
			user.=41.set user.=6Dallory.set user.Mallory.set user.mallory user.mallorys.set
			gateway.gw1.open gateway.gw1.renew gateway.gw1.apply gateway.gw1.close gateway.gw2.open gateway.gw2.renew gateway.gw2.apply gateway.gw2.close
			get list stats explain admin.kick admin.erase user.> user.*.set user.mallory.> gateway.> gateway.gw1.> gateway.*.apply admin.>
			user.*.set/presence user.mallory.set/presence get/presence gateway.*.apply/presence $SRV.PING/presence
			$SRV.PING $SRV.INFO.presence $SRV.STATS.presence $SRV.> _INBOX.presenced.x _INBOX.presenced.>`},
	{role: protocol.RoleSystem, outside: true,
		publish:   `$SYS.REQ.SERVER.PING $SYS.REQ.SERVER.PING.CONNZ`,
		subscribe: `$SYS.ACCOUNT.APP.DISCONNECT $SYS.ACCOUNT.*.DISCONNECT _INBOX.presenced.x _INBOX.presenced.>`},
}

// everyRow: everybody may do what the row of PROTOCOL 9 says, and nothing else.
func everyRow(t *testing.T, s *site) {
	for _, row := range rows {
		if row.outside && !s.outside {
			continue
		}
		a := s.connect(t, row.role, row.name)
		compare(t, row.role, "publish", everySubject, row.publish, a, func(subject string) error {
			return a.Publish(subject, nil)
		})
		patterns := slices.Concat(everySubject, everyPattern)
		compare(t, row.role, "subscribe", patterns, row.subscribe, a, func(pattern string) error {
			subject, queue, _ := strings.Cut(pattern, "/")
			_, err := a.QueueSubscribe(subject, queue, func(*nats.Msg) {})
			return err
		})
		a.Close() // it subscribes to whatever it may
	}
}

// compare does something with each subject, and compares which ones are refused
// with those that are not allowed.
func compare(t *testing.T, r protocol.Role, what string, subjects []string, allowed string, a *actor, do func(string) error) {
	t.Helper()
	for _, subject := range subjects {
		if err := do(prefixed(subject)); err != nil {
			t.Fatalf("%s %s: %v", what, subject, err)
		}
	}
	refused := map[string]bool{}
	for _, text := range a.wasDenied(t) {
		refused[deniedSubject(text)] = true
	}
	may := strings.Fields(allowed)
	for _, subject := range may {
		if !slices.Contains(subjects, subject) {
			t.Errorf("%s: %s is in no list of what is tried", r, subject)
		}
	}
	for _, subject := range subjects {
		if want := !slices.Contains(may, subject); refused[prefixed(subject)] != want {
			t.Errorf("%s, %s %s: refused: %v, want %v", r, what, subject, !want, want)
		}
	}
}

// prefixed puts the prefix before the subjects of the contract.
func prefixed(subject string) string {
	first, _, _ := strings.Cut(strings.TrimSuffix(subject, "/presence"), ".")
	first, _, _ = strings.Cut(first, "/")
	switch first {
	case "user", "gateway", "get", "list", "stats", "explain", "admin", "status", "self":
		return subjects.Prefix() + "." + subject
	}
	return subject
}

// deniedSubject reads what was refused, as it is in the lists, from the broker's
// message: Permissions Violation for Subscription to "subject" using queue "queue".
func deniedSubject(text string) string {
	parts := strings.Split(text, `"`)
	switch {
	case len(parts) >= 5:
		return parts[1] + "/" + parts[3]
	case len(parts) >= 3:
		return parts[1]
	}
	return text
}
