package service_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// accountLimit configures StartNATS so that max_payload is 16 KiB in the accounts, and not in the
// server. A client learns that limit after it has connected.
const accountLimit = `
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: enabled, limits { max_payload: 16384 } }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ], limits { max_payload: 16384 } }
}
`

// TestG10_SmallPayload: the server, or the account, takes messages of at most 16 KiB. Entries,
// snapshots, replies and events fit. What does not fit is refused, and nothing of it was done. A
// smaller request is accepted.
func TestG10_SmallPayload(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{"of the server": "max_payload: 16384", "of the accounts": accountLimit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servicetest.StartNATS(t, config)
			i := s.StartInstance(t, func(c *service.Config) { c.SnapshotEntries = 20 })
			nc := s.Connect(t)
			text := strings.Repeat(`"`, 480) // each byte is escaped
			var ids []string
			var setting sync.WaitGroup
			for k := range 400 { // so that many wait for one entry
				id := fmt.Sprintf("user%03d", k)
				ids = append(ids, id)
				setting.Go(func() {
					if e := request(t, nc, to(t, id, protocol.OpSet), protocol.SetRequest{CustomStatus: &text}, nil); e != nil {
						t.Errorf("set of %s: %v", id, e)
					}
				})
			}
			setting.Wait()
			refused(t, nc, subjects.Get(), protocol.GetRequest{UserIDList: ids}, protocol.ErrRequestTooLarge)
			if got := get(t, nc, ids[:10]...); len(got) != 10 || got[9].CustomStatus != text {
				t.Errorf("get of ten: got %+v", got)
			}
			listed := 0
			for cursor := ""; ; {
				reply := must[protocol.ListReply](t, nc, subjects.List(), protocol.ListRequest{Cursor: cursor})
				listed += len(reply.Users)
				if cursor = reply.Cursor; cursor == "" {
					break
				}
			}
			if listed != len(ids) {
				t.Errorf("list: got %d users, want %d", listed, len(ids))
			}
			applySmall(t, nc)
			gatewaySmall(t, nc)
			contactsSmall(t, nc)
			servicetest.Eventually(t, waitFor, "a snapshot", func() bool { return i.Service.Figures().SnapshotBytes > 0 })
			awaitHealth(t, i.Service, "")
			for what, conn := range map[string]*nats.Conn{"clients": i.Clients, "answers": i.Answers, "journal": i.Journal} {
				if n := conn.Stats().Reconnects; n > 0 || conn.IsClosed() {
					t.Errorf("the connection %s was lost", what)
				}
			}
		})
	}
}

// applySmall: an apply is refused before any op is done, if the reply could not list all ops as
// failures. If it could, the reply lists all that failed.
func applySmall(t *testing.T, nc *nats.Conn) {
	t.Helper()
	open, _ := subjects.Gateway("gw", protocol.OpOpen)
	apply, _ := subjects.Gateway("gw", protocol.OpApply)
	must[protocol.LeaseReply](t, nc, open, protocol.OpenRequest{Process: "p"})
	ops := make([]protocol.Op, 250)
	for k := range ops {
		ops[k] = protocol.Op{Op: protocol.OpKindLogout, UserID: "u", SessionID: "s"}
	}
	refused(t, nc, apply, protocol.ApplyRequest{Process: "p", Seq: 1, Ops: ops}, protocol.ErrRequestTooLarge)
	got := must[protocol.ApplyReply](t, nc, apply, protocol.ApplyRequest{Process: "p", Seq: 1, Ops: ops[:100]})
	if len(got.Failures) != 100 || got.Failures[99].Name != protocol.ErrSessionNotFound.Name {
		t.Errorf("apply: got %d failures, want 100", len(got.Failures))
	}
}

// gatewaySmall: the client library packs only as many ops as the server takes even if all fail, and
// asks for as many users as fit.
func gatewaySmall(t *testing.T, nc *nats.Conn) {
	t.Helper()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, err := c.OpenGateway(t.Context(), "gw2", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close(context.Background(), client.LoseSessions) }()
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	var users []string
	var logins sync.WaitGroup
	for k := range 1000 {
		user := fmt.Sprintf("%04d%s", k, strings.Repeat("y", 100))
		users = append(users, user)
		logins.Go(func() {
			if err := g.Login(ctx, user, "s", client.GatewayLogin{}); err != nil {
				t.Errorf("login by a gateway: %v", err)
			}
		})
	}
	logins.Wait()
	r, err := c.GetUserStatus(ctx, users)
	if err != nil || len(r.SuccessUserList) != len(users) || r.SuccessUserList[999].StatusType != protocol.Online {
		t.Errorf("GetUserStatus: got %d users, %v, want %d, ONLINE", len(r.SuccessUserList), err, len(users))
	}
}

// contactsSmall: contacts are added until they would not fit into a reply.
func contactsSmall(t *testing.T, nc *nats.Conn) {
	t.Helper()
	ids := func(from, to int) (list []string) {
		for k := from; k < to; k++ {
			list = append(list, fmt.Sprintf("%04d%s", k, strings.Repeat("x", 120)))
		}
		return list
	}
	before := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: ids(0, 80)})
	refused(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{Add: ids(80, 130)}, protocol.ErrRequestTooLarge)
	if got := contactsOf(t, nc, "alice", protocol.ContactsRequest{}); len(got.Contacts) != 80 || got.Version != before.Version {
		t.Errorf("contacts: got %d at version %d, want the 80 of version %d", len(got.Contacts), got.Version, before.Version)
	}
}

// TestMinPayload: if messages would not fit, presenced does not start. It says in which account,
// and how many bytes it needs.
func TestMinPayload(t *testing.T) {
	t.Parallel()
	for of, config := range map[string]string{
		"clients'":  strings.Replace(accountLimit, "16384 } }\n}", "8192 } }\n}", 1),
		"journal's": "max_payload: 8192",
	} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			s := servicetest.StartNATS(t, config)
			svc, err := service.New(service.Config{Clients: s.ConnectAs(t, broker.Clients), Journal: s.ConnectAs(t, broker.Journal)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), waitFor)
			defer cancel()
			err = svc.Run(ctx)
			if want := "at most 8192 bytes in the " + of; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Run: got %v, want one line that has %q", err, want)
			}
		})
	}
}

// TestSmallPayload_SnapshotIsRead: a snapshot in small pieces is restored.
func TestSmallPayload_SnapshotIsRead(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t, "max_payload: 16384")
	first := s.StartInstance(t, func(c *service.Config) { c.SnapshotEntries = 20 })
	nc := s.Connect(t)
	for k := range 200 {
		text := fmt.Sprint(k, strings.Repeat("x", 400))
		must[protocol.ChangeReply](t, nc, to(t, fmt.Sprint("user", k), protocol.OpSet), protocol.SetRequest{CustomStatus: &text})
	}
	servicetest.Eventually(t, waitFor, "a snapshot", func() bool { return first.Service.Figures().Snapshot > 0 })
	first.Stop(t)
	js, err := jetstream.New(s.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	stream, err := js.Stream(ctx, "PRESENCE_JOURNAL")
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSequence(first.Service.Figures().Snapshot))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.StartInstance(t)
	if st := get(t, nc, "user7")[0]; !strings.HasPrefix(st.CustomStatus, "7x") {
		t.Errorf("got %+v, want the text", st)
	}
}
