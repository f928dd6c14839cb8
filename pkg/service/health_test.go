package service_test

import (
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go/jetstream"
)

const soon = 20 * time.Second

// awaitHealth waits until an instance is not ready, and the reason contains text. Empty: until it
// is ready.
func awaitHealth(t *testing.T, s *service.Service, text string) {
	t.Helper()
	var last error
	deadline := time.Now().Add(soon)
	for time.Now().Before(deadline) {
		if last = s.Health(); (last == nil) == (text == "") && (last == nil || strings.Contains(last.Error(), text)) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("Health: got %v, want %q", last, text)
}

// TestHealth: an instance is ready from when it serves until it stops, except while its server is
// down. It says why it is not ready.
func TestHealth(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t)
	s := kit.Instances[0].Service
	awaitHealth(t, s, "")
	if f := s.Figures(); f.Position == 0 || f.Applied == 0 || f.Instances != 1 {
		t.Errorf("Figures when ready: got %+v", f)
	}

	unstarted, err := service.New(service.Config{Clients: kit.Instances[0].Clients, Journal: kit.Instances[0].Journal})
	if err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, unstarted, "starting: opening the journal")
	if f := unstarted.Figures(); f.Position != 0 || len(f.Endpoints) == 0 {
		t.Errorf("Figures of what does not run: got %+v", f)
	}

	kit.Server.Stop(t)
	awaitHealth(t, s, "stale: nothing was applied from the journal for")
	if lag := s.Figures().Lag; lag < protocol.StaleAfter {
		t.Errorf("Figures while stale: got a lag of %v", lag)
	}
	kit.Server.Restart(t)
	awaitHealth(t, s, "")
	kit.Instances[0].Stop(t)
	awaitHealth(t, s, "stopping")
}

// TestG06_CutOffLetsNoTimeGoBy: an instance that no request reaches appends nothing for the sake of
// time. Nobody can renew by it, so if it were the only one, all sessions would be lost.
func TestG06_CutOffLetsNoTimeGoBy(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t)
	i := kit.Instances[0]
	i.Clients.Close()
	servicetest.Eventually(t, soon, "nothing is applied", func() bool { return i.Service.Figures().Lag > protocol.StaleAfter+time.Second })
	awaitHealth(t, i.Service, ": the connection to the clients' account is lost")
}

// limitStream bounds the journal's stream to little more than it has, and returns a function that
// removes the bound.
func limitStream(t *testing.T, js jetstream.JetStream) (lift func()) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
	if err != nil {
		t.Fatal(err)
	}
	info := stream.CachedInfo()
	set := func(max int64) {
		cfg := info.Config
		cfg.MaxBytes = max
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	set(int64(info.State.Bytes) + 2000)
	return func() { set(-1) }
}

// fillAccount fills the account's share of the disk by another stream.
func fillAccount(t *testing.T, js jetstream.JetStream) (lift func()) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{100_000, 10_000, 1000} {
		for i := 0; ; i++ {
			if i > 1000 {
				t.Fatal("the account has no limit")
			}
			if _, err := js.Publish(t.Context(), "other", make([]byte, size)); err != nil {
				break
			}
		}
	}
	return func() {
		if err := js.DeleteStream(t.Context(), "OTHER"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalFull: a journal at a limit, its own or its account's, refuses entries. Callers are
// told that nothing was done, and nothing was done. Readers get answers that say that they are
// stale, and the instance is not ready. When there is room again, all goes on by itself.
func TestJournalFull(t *testing.T) {
	t.Parallel()
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		testJournalFull(t, servicetest.StartNATS(t), limitStream, "maximum bytes exceeded")
	})
	t.Run("account", func(t *testing.T) {
		t.Parallel()
		testJournalFull(t, servicetest.StartNATS(t, `
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: { max_file: 1000000 } }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ] }
}`), fillAccount, "resource limits exceeded for account")
	})
}

func testJournalFull(t *testing.T, server *servicetest.Server, fill func(*testing.T, jetstream.JetStream) func(), why string) {
	kit := &servicetest.Kit{Server: server}
	kit.AddInstance(t)
	s, nc := kit.Instances[0].Service, kit.Connect(t)
	admin, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	login, _ := subjects.Login("alice")
	set, _ := subjects.Set("alice")
	var reply protocol.ChangeReply
	var session protocol.LoginReply
	if err := request(t, nc, login, protocol.LoginRequest{TTLSeconds: 3600}, &session); err != nil {
		t.Fatal(err)
	}
	if err := request(t, nc, set, map[string]any{"customStatus": "before"}, &reply); err != nil {
		t.Fatal(err)
	}
	lift := fill(t, admin)
	acknowledged := "before"
	var refused *protocol.Error
	for i := 0; refused == nil; i++ {
		if i > 2000 {
			t.Fatal("nothing was refused")
		}
		text := strings.Repeat("x", i%100+1)
		if refused = request(t, nc, set, map[string]any{"customStatus": text}, &reply); refused == nil {
			acknowledged = text
		}
	}
	if refused.Name != protocol.ErrUnavailable.Name {
		t.Errorf("a set that the journal refused: got %v, want unavailable", refused)
	}
	// A renewal is done with the first entry that is stored, so nobody is told otherwise.
	renewal := request(t, nc, to(t, "alice", protocol.OpRenew), protocol.RenewRequest{SessionID: session.SessionID}, nil)
	if !is(renewal, protocol.ErrOverloaded) && !(is(renewal, protocol.ErrUnavailable) && strings.Contains(renewal.Message, "cut off from the journal")) {
		t.Errorf("a renewal that the journal refused: got %v, want overloaded, or unavailable where the instance is stale by then", renewal)
	}
	awaitHealth(t, s, why)
	servicetest.Eventually(t, soon, "readers to be told that it is stale", func() bool {
		var reply protocol.GetReply
		if err := request(t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}}, &reply); err != nil {
			t.Fatalf("get: %v", err)
		}
		if got := reply.SuccessUserList[0].CustomStatus; got != acknowledged {
			t.Fatalf("get: got the text %q, want the last one that was acknowledged, %q", got, acknowledged)
		}
		return reply.Stale
	})
	if err := request(t, nc, set, map[string]any{"customStatus": "while it is full"}, &reply); err == nil || err.Name != protocol.ErrUnavailable.Name {
		t.Errorf("a set while it is full: got %v, want unavailable", err)
	}

	lift()
	awaitHealth(t, s, "")
	if got := get(t, nc, "alice")[0]; got.CustomStatus != acknowledged || got.StatusType != protocol.Online {
		t.Errorf("after it: got %+v, want ONLINE with %q", got, acknowledged)
	}
	if err := request(t, nc, set, map[string]any{"customStatus": "again"}, &reply); err != nil {
		t.Errorf("a set after it: %v", err)
	}
}
