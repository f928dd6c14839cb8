package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
	"presence/pkg/service/verify"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// journalUser is a user of the journal's account that may do what the contract says.
const journalUser = "narrow"

// startNarrow starts a NATS server where presenced's user of the journal's account has
// the permissions of PROTOCOL 9.
func startNarrow(t *testing.T) *servicetest.Server {
	t.Helper()
	p := wire.Subjects.Permissions(protocol.RoleJournal, "")
	return servicetest.StartNATS(t, fmt.Sprintf(`
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { jetstream: enabled, users: [
    { user: presenced-journal, password: secret }
    { user: %s, password: secret, permissions: { publish: { allow: %s, deny: %s }, subscribe: %s } } ] }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ] }
}`, journalUser, wire.Encode(p.Publish.Allow), wire.Encode(p.Publish.Deny), wire.Encode(p.Subscribe.Allow)))
}

// TestG13_JournalUser: presenced's user of the journal's account may do what the
// service needs: make its streams, write, snapshot, trim, restore, begin an epoch, and
// what presencectl verify needs.
// Nothing that it does is refused. It may do nothing to other streams, and delete none.
func TestG13_JournalUser(t *testing.T) {
	t.Parallel()
	server := startNarrow(t)
	var mu sync.Mutex
	var refused []string
	connect := func(t *testing.T) *nats.Conn {
		t.Helper()
		nc, err := nats.Connect(server.URLAs(journalUser), nats.CustomInboxPrefix(protocol.RoleJournal.InboxPrefix("")), nats.MaxReconnects(-1),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				mu.Lock()
				defer mu.Unlock()
				refused = append(refused, err.Error())
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	narrow := func(c *service.Config) {
		c.Journal, c.SnapshotEntries, c.JournalKeep = connect(t), 50, 100*time.Millisecond
	}
	one := server.StartInstance(t, narrow)
	two := server.StartInstance(t, narrow)
	nc := server.Connect(t)
	wire.Login(t, nc, "alice", protocol.LoginRequest{SessionID: "s"})
	wire.Must[protocol.ContactsReply](t, nc, wire.To(protocol.OpContacts, "alice"), `{"add":["bob"]}`)

	admin, err := nats.Connect(server.URLAs(servicetest.JournalUser))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	texts := 0
	servicetest.Eventually(t, 2*wire.Soon, "the journal to be trimmed behind two snapshots", func() bool {
		for range 20 {
			texts++
			wire.SetText(t, nc, "alice", fmt.Sprint("text ", texts))
		}
		s, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
		return err == nil && s.CachedInfo().State.FirstSeq > 1
	})
	one.Stop(t)
	two.Stop(t)
	last := server.StartInstance(t, narrow, func(c *service.Config) { c.NewEpoch = true })
	if st := wire.Fresh(t, nc, "alice")[0]; st.CustomStatus != fmt.Sprint("text ", texts) {
		t.Errorf("after a restart: got %+v, want text %d", st, texts)
	}
	if c := wire.Must[protocol.ContactsReply](t, nc, wire.To(protocol.OpContacts, "alice"), `{}`); len(c.Contacts) != 1 {
		t.Errorf("contacts after a restart: got %+v, want bob", c)
	}
	if r, err := verify.Run(t.Context(), verify.Config{Clients: nc, Journal: connect(t), Timeout: wire.Soon}); err != nil || !r.OK() {
		t.Errorf("verify: got %+v, %v", r, err)
	}
	wire.Must[protocol.KickReply](t, nc, wire.Subjects.Erase(), `{"userID":"alice"}`)
	last.Stop(t)
	mu.Lock()
	if len(refused) > 0 {
		t.Errorf("the broker refused: %q", refused)
	}
	refused = nil
	mu.Unlock()

	user := connect(t)
	for _, subject := range []string{"$JS.API.STREAM.DELETE.PRESENCE_JOURNAL", "$JS.API.STREAM.CREATE.ANOTHER", "$JS.API.STREAM.INFO.ANOTHER",
		"$JS.API.CONSUMER.CREATE.ANOTHER", "$JS.API.STREAM.MSG.DELETE.PRESENCE_JOURNAL", "another.application"} {
		if err := user.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := user.SubscribeSync(">"); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, wire.Soon, "seven refusals", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(refused) == 7 && strings.Contains(refused[6], `">"`)
	})
}
