package integration

import (
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/broker"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go/jetstream"
)

// TestErase_TrimmedNow: an erasure that asks for it has the data leave the journal as
// soon as entries are old enough, although no snapshot would be due for hours.
func TestErase_TrimmedNow(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.JournalKeep = time.Second }))
	kit.AddInstance(t)
	nc := kit.Connect(t)
	const secret = "a secret of alice"
	wire.Login(t, nc, "alice", protocol.LoginRequest{SessionID: "s"})
	wire.Login(t, nc, "bob", protocol.LoginRequest{SessionID: "s"})
	wire.SetText(t, nc, "alice", secret)
	js, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	if !journalHas(t, js, secret) {
		t.Fatal("the secret is not in the journal to begin with")
	}
	c := wire.NewClient(t, nc, client.Options{})
	if _, err := c.EraseAndTrim(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, 2*wire.Soon, "the secret to leave the journal", func() bool { return !journalHas(t, js, secret) })
	if st := wire.Fresh(t, nc, "bob", "alice"); st[0].StatusType != protocol.Online || st[1].Revision != 0 {
		t.Errorf("bob and alice: got %+v, want one ONLINE and one never seen", st)
	}
	// The snapshots are the truth by now: whoever starts goes by them.
	kit.Instances[0].Stop(t)
	kit.AddInstance(t)
	if st := wire.Fresh(t, nc, "bob", "alice"); st[0].StatusType != protocol.Online || st[1].Revision != 0 {
		t.Errorf("after a restart: got %+v", st)
	}
}

// journalHas reports whether any entry of the journal has a text in it.
func journalHas(t *testing.T, js jetstream.JetStream, text string) bool {
	t.Helper()
	s, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq) // one may be trimmed meanwhile
		if err == nil && strings.Contains(string(m.Data), text) {
			return true
		}
	}
	return false
}
