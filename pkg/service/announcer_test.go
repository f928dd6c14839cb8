package service

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// TestMark_AnotherBroker: the broker that got the events is replaced by another one. The other
// one's answer does not make the events count, even if nobody has reported yet that the connection
// was lost. White-box: nats.go reports it too soon for a test to be faster.
func TestMark_AnotherBroker(t *testing.T) {
	cfg := broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}
	b := startBroker(t, cfg)
	cfg.Listen = strings.TrimPrefix(b.ClientURL(), "nats://")
	nc, err := nats.Connect(b.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	a := newAnnouncer(serviceOutbox{&Service{cfg: Config{Answers: nc}}}, protocol.NewSubjects(""), slog.New(slog.DiscardHandler))
	publish := func() { a.ledger.Published(a.turn(), state.Cursor{}, 7, false) }

	publish()
	a.finish() // what the broker has counts at once
	if err := a.mark(); err != nil || a.announcedThrough() != 7 {
		t.Fatalf("mark: %v, announced through %d, want 7", err, a.announcedThrough())
	}
	before := a.turn()
	b.Shutdown()
	startBroker(t, cfg)
	for begun := time.Now(); nc.Stats().Reconnects == 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the connection did not come back")
		}
	}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if err = a.mark(); errors.Is(err, errLost) {
			break
		}
		if err == nil || time.Since(begun) > 20*time.Second {
			t.Fatalf("mark by another broker: got %v, want %v", err, errLost)
		}
	}
	if a.announcedThrough() != 0 || a.turn() == before {
		t.Errorf("announced through %d after the broker was lost, want that all is announced again", a.announcedThrough())
	}
	publish()
	if err := a.mark(); err != nil || a.announcedThrough() != 7 {
		t.Errorf("once it is announced again: %v, announced through %d, want 7", err, a.announcedThrough())
	}
}

// toldStatus is what an announcement with Tell has.
var toldStatus = protocol.SelfEvent{Status: &protocol.Status{}}

// listedOutbox has a fixed list of changes, and a broker that refuses some subjects.
type listedOutbox struct {
	changes []state.Announcement
	refuse  map[string]error // by subject
	sent    []string         // subjects
}

func (o *listedOutbox) pending(_ state.Cursor, b batch) batch {
	return batch{list: append(b.list, o.changes...), position: 7}
}

func (o *listedOutbox) trace(uint64) string { return "" }

func (o *listedOutbox) publish(subject string, _ []byte, _ string) error {
	if err := o.refuse[subject]; err != nil {
		return err
	}
	o.sent = append(o.sent, strings.TrimPrefix(subject, "presence.v1."))
	return nil
}

func (o *listedOutbox) arrived() (uint64, error) { return 0, nil }

func (o *listedOutbox) repeated(string) (state.Announcement, bool) {
	return state.Announcement{}, false
}

// TestAnnouncer: an event that is too large does not keep others from being published. If an event
// cannot be published for another reason, those behind it wait, and nothing counts as announced.
func TestAnnouncer(t *testing.T) {
	bob := state.Announcement{UserID: "bob", Announce: true, Tell: true, Status: toldStatus, Self: make([]protocol.SelfEvent, 2)}
	outbox := &listedOutbox{changes: []state.Announcement{{UserID: "alice", Announce: true}, bob, {UserID: "carol", Self: make([]protocol.SelfEvent, 1)}}}
	outbox.refuse = map[string]error{"presence.v1.status.alice": nats.ErrMaxPayload, "presence.v1.self.carol": nats.ErrReconnectBufExceeded}
	a := newAnnouncer(outbox, protocol.NewSubjects(""), slog.New(slog.DiscardHandler))
	a.finish()
	if err := a.flush(); !errors.Is(err, nats.ErrReconnectBufExceeded) || a.announcedThrough() != 0 {
		t.Errorf("flush: got %v, announced through %d, want %v and 0", err, a.announcedThrough(), nats.ErrReconnectBufExceeded)
	}
	outbox.sent = nil
	delete(outbox.refuse, "presence.v1.self.carol")
	if err := a.flush(); err != nil || a.announcedThrough() != 7 {
		t.Errorf("flush: got %v, announced through %d, want 7", err, a.announcedThrough())
	}
	if got, want := strings.Join(outbox.sent, " "), "status.bob self.bob self.bob self.bob self.carol"; got != want {
		t.Errorf("published to %s, want %s", got, want)
	}
}

// TestPending_Unheard: events that nobody would get are not even made. If another instance may
// answer, each event is: that one may not know the change yet. White-box, because from outside an
// event that nobody gets looks like one that was never sent.
func TestPending_Unheard(t *testing.T) {
	all := "status.alice self.alice self.alice status.bob self.bob"
	for _, c := range []struct {
		only    bool
		unheard []string
		want    string
	}{
		{true, nil, all},
		{true, []string{"status.alice"}, "self.alice self.alice status.bob self.bob"},
		{true, []string{"self.alice", "self.bob"}, "status.alice status.bob"},
		{true, strings.Fields(all), ""},
		{false, strings.Fields(all), all},
	} {
		s := &Service{log: slog.New(slog.DiscardHandler), instance: "w", state: state.New(), subjects: protocol.NewSubjects("")}
		s.cfg.Heard = func(subject string) bool {
			return !slices.Contains(c.unheard, strings.TrimPrefix(subject, "presence.v1."))
		}
		apply := func(instance string, commands ...entry.Command) {
			e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: instance, Sequence: 1}, Commands: commands}
			if _, err := s.state.Apply(e, s.state.Position()+1, 1_000, false); err != nil {
				t.Fatal(err)
			}
		}
		apply("w", entry.Command{Kind: entry.Set, User: "alice", Text: "a", Availability: entry.Busy}, entry.Command{Kind: entry.Login, User: "bob", Session: "s1", TTL: 30_000})
		if !c.only {
			apply("v")
		}
		sent := new(listedOutbox)
		sent.changes = serviceOutbox{s}.pending(state.Cursor{}, batch{}).list
		a := newAnnouncer(sent, s.subjects, s.log)
		a.finish()
		if err := a.flush(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(sent.sent, " "); got != c.want {
			t.Errorf("only instance %v, nobody subscribes to %v: published to %q, want %q", c.only, c.unheard, got, c.want)
		}
	}
}

func startBroker(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	return b
}
