package processes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

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
	$SYS.REQ.USER.INFO $SYS.REQ.USER.other $SYS.REQ.SERVER.PING $SYS.REQ.SERVER.other $SYS.REQ.SERVER.other.KICK $SYS.REQ.SERVER.PING.CONNZ $SYS.REQ.ACCOUNT.PING.CONNZ $SYS.REQ.ACCOUNT.APP.CONNZ $SYS.ACCOUNT.APP.DISCONNECT $SYS.SERVER.NA.LAMEDUCK $SYS.SERVER.NA.SHUTDOWN
	_INBOX.x _INBOX.user.alice.x _INBOX.user.mallory.x _INBOX.gateway.gw1.x _INBOX.reader.reader.x _INBOX.operator.operator.x _INBOX.presenced.x
	_R_.x another.application`)

// everyPattern is what anybody might try to subscribe to beside everySubject. After
// a slash is a queue group.
var everyPattern = strings.Fields(`
	> *.> $SYS.> $JS.> $SRV.> _INBOX.> _INBOX.*.> _INBOX.user.> _INBOX.user.*.> _INBOX.user.alice.> _INBOX.user.mallory.>
	_INBOX.reader.> _INBOX.operator.> _INBOX.gateway.> _INBOX.gateway.mallory.> _INBOX.gateway.gw1.> _INBOX.reader.reader.> _INBOX.operator.operator.> _INBOX.presenced.>
	status.* status.> status.*.> self.* self.> user.> user.*.set user.mallory.> user.mallory.set gateway.> gateway.gw1.> gateway.*.apply admin.> *
	status.*/workers status.alice/workers status.>/workers status.*/presence status.*/a.b
	user.*.set/presence user.mallory.set/presence get/presence gateway.*.apply/presence $SRV.PING/presence
	$SYS.ACCOUNT.*.DISCONNECT $SYS.ACCOUNT.APP.> $SYS.ACCOUNT.*.CONNECT $SYS.SERVER.*.LAMEDUCK $SYS.SERVER.>`)

// row is what somebody may publish and subscribe to.
type row struct {
	role               protocol.Role
	name               string
	publish, subscribe string
	outside            bool // only where presenced is such a user
}

// rows is PROTOCOL 9 once more, by what of the above everybody may do: all else has
// to be refused.
var rows = []row{
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
		publish: `status.alice status.mallory status.alice.deeper self.alice self.mallory self.mallory.deeper $SYS.REQ.USER.INFO _R_.x
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
		subscribe: `$SYS.ACCOUNT.APP.DISCONNECT $SYS.ACCOUNT.*.DISCONNECT $SYS.SERVER.NA.LAMEDUCK $SYS.SERVER.*.LAMEDUCK _INBOX.presenced.x _INBOX.presenced.>`},
}

// everyRow: everybody may do what the row of PROTOCOL 9 says, and nothing else.
func everyRow(t *testing.T, s *site) {
	for _, row := range rows {
		if row.outside && !s.outside {
			continue
		}
		a := s.connect(t, row.role, row.name)
		for _, d := range row.differences(t, a) {
			t.Error(d)
		}
		a.Close() // it subscribes to whatever it may
	}
}

// differences tries everything, and says where what the broker refuses is not what
// the row does not have.
func (r row) differences(t *testing.T, a *actor) (list []string) {
	t.Helper()
	find := func(what string, subjects []string, allowed string, do func(subject, queue string) error) {
		for _, s := range subjects {
			subject, queue, _ := strings.Cut(prefixed(s), "/")
			if err := do(subject, queue); err != nil {
				t.Fatalf("%s %s: %v", what, s, err)
			}
		}
		refused := map[string]bool{}
		for _, text := range a.wasDenied(t) {
			refused[deniedSubject(text)] = true
		}
		may := strings.Fields(allowed)
		for _, s := range subjects {
			if want := !slices.Contains(may, s); refused[prefixed(s)] != want {
				list = append(list, fmt.Sprintf("%s, %s %s: refused: %v, want %v", r.role, what, s, !want, want))
			}
		}
	}
	find("publish", everySubject, r.publish, func(subject, _ string) error { return a.Publish(subject, nil) })
	find("subscribe", slices.Concat(everySubject, everyPattern), r.subscribe, func(subject, queue string) error {
		_, err := a.QueueSubscribe(subject, queue, func(*nats.Msg) {})
		return err
	})
	return list
}

// TestG13_EveryPermissionCounts breaks each permission of PROTOCOL 9, by leaving it
// out and by making it wider, and wants everyRow to find that.
func TestG13_EveryPermissionCounts(t *testing.T) {
	t.Parallel()
	type mutant struct {
		row
		what string
	}
	var mutants []mutant
	var users strings.Builder
	for _, r := range rows {
		whole := wire.Subjects.Permissions(r.role, r.name)
		add := func(what string, change func(*protocol.Permissions)) {
			p := protocol.Permissions{
				Publish:   protocol.AllowDeny{Allow: slices.Clone(whole.Publish.Allow), Deny: slices.Clone(whole.Publish.Deny)},
				Subscribe: protocol.AllowDeny{Allow: slices.Clone(whole.Subscribe.Allow), Deny: slices.Clone(whole.Subscribe.Deny)},
			}
			change(&p)
			fmt.Fprintf(&users, "%s\n", wire.Encode(map[string]any{ // JSON is the server's language, too
				"user": fmt.Sprint("mutant", len(mutants)), "password": "p",
				"permissions": map[string]any{"publish": lists(p.Publish), "subscribe": lists(p.Subscribe)},
			}))
			mutants = append(mutants, mutant{r, what})
		}
		for i, s := range whole.Publish.Allow {
			add("may not publish "+s, func(p *protocol.Permissions) { p.Publish.Allow = slices.Delete(p.Publish.Allow, i, i+1) })
			add("may publish more than "+s, func(p *protocol.Permissions) { p.Publish.Allow = append(p.Publish.Allow, wider(s)) })
		}
		for i, s := range whole.Subscribe.Allow {
			add("may not subscribe "+s, func(p *protocol.Permissions) { p.Subscribe.Allow = slices.Delete(p.Subscribe.Allow, i, i+1) })
			add("may subscribe more than "+s, func(p *protocol.Permissions) { p.Subscribe.Allow = append(p.Subscribe.Allow, wider(s)) })
		}
		for i, s := range whole.Subscribe.Deny {
			add("may subscribe "+s, func(p *protocol.Permissions) { p.Subscribe.Deny = slices.Delete(p.Subscribe.Deny, i, i+1) })
		}
	}
	path := filepath.Join(t.TempDir(), "mutants.conf")
	if err := os.WriteFile(path, []byte("accounts { APP { users: [\n"+users.String()+"] } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servicetest.StartNATSFile(t, path)
	for i, m := range mutants {
		a := newActor(t, s.URL(), nats.UserInfo(fmt.Sprint("mutant", i), "p"))
		if len(m.differences(t, a)) == 0 {
			t.Errorf("nobody notices that %s %s", m.role, m.what)
		}
		a.Close()
	}
	t.Logf("%d permissions broken", len(mutants))
}

func lists(a protocol.AllowDeny) map[string][]string {
	all := map[string][]string{"allow": a.Allow}
	if len(a.Deny) > 0 {
		all["deny"] = a.Deny
	}
	return all
}

// wider makes a subject one that covers its neighbours as well. The neighbours of one
// that has a single token are another application's.
func wider(subject string) string {
	tokens := strings.Split(strings.TrimSuffix(subject, ".>"), ".")
	if len(tokens) == 1 {
		return "another.>"
	}
	return strings.Join(append(tokens[:len(tokens)-1], ">"), ".")
}

// prefixed puts the prefix before the subjects of the contract.
func prefixed(subject string) string {
	first, _, _ := strings.Cut(strings.TrimSuffix(subject, "/presence"), ".")
	first, _, _ = strings.Cut(first, "/")
	switch first {
	case "user", "gateway", "get", "list", "stats", "explain", "admin", "status", "self":
		return wire.Subjects.Prefix() + "." + subject
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
