package service_test

import (
	"fmt"
	"strings"
	"testing"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go/jetstream"
)

// TestG01_JournalDropsEntries: somebody sets the journal's stream to drop its oldest entries. What
// is acknowledged then may be gone at the next start. So every kind of change is refused, does
// nothing and says why, until the stream is set as before. Readers go on.
func TestG01_JournalDropsEntries(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t)
	s, nc := kit.Instances[0].Service, kit.Connect(t)
	js, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
	if err != nil {
		t.Fatal(err)
	}
	right := stream.CachedInfo().Config
	wrong := right
	wrong.Discard, wrong.MaxMsgs = jetstream.DiscardOld, 3

	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
	acknowledged := "before"
	must[protocol.ChangeReply](t, nc, to(t, "alice", protocol.OpSet), text(acknowledged))
	if _, err := js.UpdateStream(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	attempt := 0
	servicetest.Eventually(t, soon, "changes to be refused", func() bool {
		attempt++
		user := fmt.Sprint("user", attempt) // each may change so much, and no more
		return request(t, nc, to(t, user, protocol.OpSet), text("x"), nil) != nil
	})

	gateway := func(op string) string {
		subject, err := wire.Gateway("gw", op)
		if err != nil {
			t.Fatal(err)
		}
		return subject
	}
	ops := []protocol.Op{{Op: protocol.OpKindSet, UserID: "alice", CustomStatus: protocol.Ptr("while it drops")}}
	for _, c := range []struct {
		subject string
		body    any
	}{
		{to(t, "alice", protocol.OpSet), text("while it drops")},
		{to(t, "alice", protocol.OpLogin), protocol.LoginRequest{SessionID: "another"}},
		{to(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: "s", Idle: protocol.Ptr(true)}},
		{to(t, "alice", protocol.OpLogout), protocol.LogoutRequest{All: true}},
		{gateway(protocol.OpOpen), protocol.OpenRequest{Process: "p"}},
		{gateway(protocol.OpApply), protocol.ApplyRequest{Process: "p", Seq: 1, Ops: ops}},
		{gateway(protocol.OpClose), protocol.CloseRequest{Process: "p"}},
		{subjects.Kick(), protocol.KickRequest{UserID: "alice"}},
		{subjects.Erase(), protocol.EraseRequest{UserID: "alice"}},
	} {
		if e := request(t, nc, c.subject, c.body, nil); !is(e, protocol.ErrUnavailable) || !strings.Contains(e.Message, "the journal drops") {
			t.Errorf("%s: got %v, want unavailable, because the journal drops entries", c.subject, e)
		}
	}
	awaitHealth(t, s, "the journal is not safe")
	own := must[protocol.OwnStatusReply](t, nc, to(t, "alice", protocol.OpStatus), struct{}{})
	if own.Status.StatusType != protocol.Online || own.Status.CustomStatus != acknowledged || len(own.Sessions) != 1 || own.Sessions[0].Idle {
		t.Errorf("after refusals: got %+v, want ONLINE with %q and one session", own, acknowledged)
	}

	if _, err := js.UpdateStream(t.Context(), right); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, s, "")
	must[protocol.ChangeReply](t, nc, to(t, "alice", protocol.OpSet), text("after"))
}
