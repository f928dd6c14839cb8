package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// keepers are users whose client renews, bound to its connection or not, with
// the shortest TTL.
func keepers(t testing.TB, d *servicetest.Daemon) []string {
	t.Helper()
	c := wire.NewClient(t, d.Connect(t), client.Options{Timeout: 2 * time.Second})
	users := wire.Names("keeper", 8)
	for i, id := range users {
		s := wire.LoginClient(t, c, id, client.LoginOptions{TTL: protocol.MinTTL, Unbound: i%2 == 0})
		if _, err := s.SetSelfStatus(t.Context(), "here"); err != nil {
			t.Fatal(err)
		}
	}
	return users
}

// waitForJournal waits until the journal's time is past a moment. An instance
// that was away may be unavailable at first.
func waitForJournal(t *testing.T, nc *nats.Conn, moment time.Time) {
	t.Helper()
	servicetest.Eventually(t, wire.Soon, "time to pass in the journal", func() bool {
		reply, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"anyone"}, Fresh: true})
		if err != nil && !errors.Is(err, protocol.ErrUnavailable) && !errors.Is(err, nats.ErrNoResponders) {
			t.Fatal(err)
		}
		return err == nil && reply.AsOf.Time().After(moment)
	})
}

// TestG06_PausedDaemon: a pause longer than a TTL is no reason to lose anybody.
func TestG06_PausedDaemon(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t)
	nc := d.Connect(t)
	before := wire.Fresh(t, nc, keepers(t, d)...)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())

	d.Pause(t)
	time.Sleep(protocol.MinTTL + 2*time.Second) // the pause itself, not a guess
	d.Resume(t)

	waitForJournal(t, nc, time.Now().Add(protocol.MinTTL+2*time.Second))
	wire.CheckUndisturbed(t, nc, events, before)
}

// TestG06_RestartDropsNobody: the daemon is killed and stays down for longer
// than a TTL. Whoever comes back and renews was never gone, during the amnesty
// and after it; whoever does not is lost when it is over.
func TestG06_RestartDropsNobody(t *testing.T) {
	t.Parallel()
	const amnesty = 30 * time.Second
	d := servicetest.StartDaemon(t)
	nc := d.Connect(t)
	before := wire.Fresh(t, nc, keepers(t, d)...)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())

	watcher := wire.NewClient(t, d.Connect(t), client.Options{})
	told := wire.Listen(watcher)
	wire.Subscribe(t, watcher, wire.UserIDs(before)...)

	wire.Login(t, nc, "silent", protocol.LoginRequest{SessionID: "s", TTLSeconds: 5})
	d.Kill(t)
	servicetest.Eventually(t, wire.Soon, "the watcher to be blind", func() bool { return !watcher.State().Live })
	time.Sleep(protocol.MinTTL + time.Second) // the outage itself, not a guess
	restarted := time.Now()
	d.Restart(t)

	lost := events.Await(t, 3*(amnesty+protocol.MinTTL), "silent", protocol.Offline)
	if took := lost.At.Sub(restarted); took < amnesty {
		t.Errorf("OFFLINE %v after the restart, want an amnesty of %v", took, amnesty)
	}
	wire.CheckUndisturbed(t, nc, events, before)
	servicetest.Eventually(t, wire.Soon, "the watcher to see again", func() bool { return watcher.State().Live })
	for _, want := range before {
		if got, _ := watcher.Watched(want.UserID); !reflect.DeepEqual(got, want) {
			t.Errorf("Watched(%q): got %+v, want %+v", want.UserID, got, want)
		}
		for _, s := range told.All() {
			if s.UserID == want.UserID && s.StatusType != protocol.Online {
				t.Errorf("the watcher was told %+v", s)
			}
		}
	}
}

// storm changes users until it is stopped.
type storm struct {
	cancel context.CancelFunc
	group  errgroup.Group
}

func startStorm(nc *nats.Conn, users []string) *storm {
	ctx, cancel := context.WithCancel(context.Background())
	s := &storm{cancel: cancel}
	for _, id := range users {
		s.group.Go(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				op, body := protocol.OpSet, fmt.Sprintf(`{"customStatus":"%d"}`, i)
				switch i % 5 {
				case 0:
					op, body = protocol.OpLogin, `{"sessionID":"s"}`
				case 4:
					op, body = protocol.OpLogout, `{"sessionID":"s"}`
				}
				if _, err := wire.Ask[protocol.ChangeReply](nc, wire.To(op, id), body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return s
}

func (s *storm) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	if err := s.group.Wait(); err != nil {
		t.Error(err)
	}
}

// checkEndsInTheTruth waits until a client's copies are true, and until it has
// told so.
func checkEndsInTheTruth(t *testing.T, nc *nats.Conn, c *client.Client, told *wire.Teller, users []string) {
	t.Helper()
	want := wire.Truth(t, nc, users)
	same := func(got map[string]protocol.Status) bool { return maps.EqualFunc(got, want, wire.Equal) }
	servicetest.Eventually(t, wire.Soon, "the copies to be true", func() bool { return same(wire.Watched(c, users)) })
	servicetest.Eventually(t, wire.Soon, "the client to have told so", func() bool { return same(told.Last()) })
	told.CheckRising(t)
}

// TestG11_SubscribeUnderChanges: a change that happens while a watcher
// subscribes is in the snapshot or in an event, or in both.
func TestG11_SubscribeUnderChanges(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), wire.Names("u", 10)
	s := startStorm(kit.Connect(t), users)
	c := wire.NewClient(t, kit.Connect(t), client.Options{})
	told := wire.Listen(c)
	for range 20 {
		for _, id := range users {
			wire.Subscribe(t, c, id)
		}
		if _, err := c.UnsubscribeUserStatus(t.Context()); err != nil {
			t.Error(err)
		}
		wire.Subscribe(t, c, users...)
	}
	s.stop(t)
	checkEndsInTheTruth(t, nc, c, told, users)
}

// TestG11_DroppedEvents: more events than the client has room for.
func TestG11_DroppedEvents(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), wire.Names("u", 50)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	c := wire.NewClient(t, kit.Connect(t, quiet), client.Options{EventBuffer: 2})
	told := wire.Listen(c)
	wire.Subscribe(t, c, users...)
	s := startStorm(kit.Connect(t), users)
	servicetest.Eventually(t, wire.Soon, "many changes", func() bool { return len(told.All()) > 2000 || told.Blind(client.Dropped) })
	s.stop(t)
	checkEndsInTheTruth(t, nc, c, told, users)
}

// TestG11_BehindABrokenNetwork: while its connection is cut or frozen, or the
// server away, the watcher says that it is blind. When it says that it sees
// again, what happened before is in its copies.
func TestG11_BehindABrokenNetwork(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), wire.Names("u", 10)
	p := servicetest.StartProxy(t, kit.URL())
	through, err := nats.Connect(p.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.PingInterval(200*time.Millisecond), nats.MaxPingsOutstanding(2), nats.Timeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.Close)
	c := wire.NewClient(t, through, client.Options{})
	told := wire.Listen(c)
	wire.Subscribe(t, c, users...)

	for name, outage := range map[string]struct{ begin, end func() }{
		"cut":       {p.Cut, p.Mend},
		"frozen":    {p.Freeze, p.Thaw},
		"cut again": {p.Cut, p.Mend},
	} {
		s := startStorm(nc, users)
		servicetest.Eventually(t, wire.Soon, "changes to arrive", func() bool { return len(told.Last()) == len(users) })
		outage.begin()
		servicetest.Eventually(t, wire.Soon, name+": the watcher to be blind", func() bool { return !c.State().Live })
		if got, ok := c.Watched("u0"); got.StatusType != protocol.Unknown || !ok {
			t.Errorf("%s: Watched while blind: got %+v, %v, want UNKNOWN", name, got, ok)
		}
		s.stop(t)
		want := wire.Truth(t, nc, users)
		outage.end()
		servicetest.Eventually(t, wire.Soon, name+": the watcher to see again", func() bool { return c.State().Live })
		if got := wire.Watched(c, users); !maps.EqualFunc(got, want, wire.Equal) {
			t.Errorf("%s: the watcher sees again: got %+v, want %+v", name, got, want)
		}
		checkEndsInTheTruth(t, nc, c, told, users)
	}
	if !told.Blind(client.Disconnected) {
		t.Error("OnState never told that the client was disconnected")
	}

	kit.Restart(t)
	servicetest.Eventually(t, wire.Soon, "the connection to be back", nc.IsConnected)
	for _, id := range users {
		wire.SetText(t, nc, id, "after the restart")
	}
	checkEndsInTheTruth(t, nc, c, told, users)
}

// TestG04_EventsSurviveTheirInstance: a daemon is killed in a storm of changes,
// with events that it has not published. A watcher that only listens, and never
// asks, hears the last change of every user all the same.
func TestG04_EventsSurviveTheirInstance(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--sync", "interval")
	events := wire.Record(t, d.Connect(t), wire.Subjects.AnyEvent())
	nc := d.Connect(t)
	users := wire.Names("user", 200)
	killed := make(chan struct{})
	var callers errgroup.Group
	for c := range 20 {
		callers.Go(func() error {
			for i := 0; ; i++ {
				select {
				case <-killed:
					return nil
				default:
				}
				// Without waiting for replies, so that much is under way when it dies.
				user := users[(c+i*20)%len(users)]
				if err := nc.Publish(wire.To(protocol.OpSet, user), fmt.Appendf(nil, `{"customStatus":"%d-%d"}`, c, i)); err != nil {
					return err
				}
				if i%100 == 99 {
					if err := nc.FlushTimeout(wire.Soon); err != nil {
						return nil // it is being killed
					}
				}
			}
		})
	}
	servicetest.Eventually(t, wire.Soon, "the storm to be heard", func() bool { return len(events.All()) > 2000 })
	d.Signal(t, syscall.SIGKILL)
	close(killed)
	if err := callers.Wait(); err != nil {
		t.Error(err)
	}
	nc.Close() // what it still buffers is not to be sent to the next daemon
	d.Wait(t)
	d.Restart(t)
	after := wire.Fresh(t, d.Connect(t), users...)
	for _, want := range after {
		servicetest.Eventually(t, 3*wire.Soon, "the last change of "+want.UserID+" to be announced", func() bool {
			list := events.Events(t, want.UserID)
			return len(list) > 0 && slices.ContainsFunc(list, func(e wire.Arrived) bool { return e.Revision == want.Revision })
		})
	}
}

// TestG12_CutOffFromTheJournal: an instance whose connection to the journal is
// silent says within three seconds that its answers are stale, and refuses
// changes; when the network is back it is as before.
func TestG12_CutOffFromTheJournal(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	p := servicetest.StartProxy(t, s.URL())
	through := strings.Replace(p.URL(), "nats://", "nats://"+servicetest.JournalUser+":"+servicetest.Password+"@", 1)
	journal, err := nats.Connect(through, nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(journal.Close)
	s.StartInstance(t, func(c *service.Config) { c.Journal = journal })
	nc := s.Connect(t)
	wire.SetText(t, nc, "alice", "before")
	get := func() protocol.GetReply {
		return wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}})
	}
	if get().Stale {
		t.Error("stale before anything happened")
	}
	p.Freeze()
	cut := time.Now()
	servicetest.Eventually(t, wire.Soon, "the answers to be stale", func() bool { return get().Stale })
	// Three seconds after the last entry, which may be a second old; loosely.
	if took := time.Since(cut); took < time.Second || took > 3*protocol.StaleAfter {
		t.Errorf("stale after %v, want at most %v", took, protocol.StaleAfter)
	}
	wire.Refused(t, nc, wire.To(protocol.OpSet, "alice"), `{"customStatus":"meanwhile"}`, protocol.ErrUnavailable)
	p.Thaw()
	servicetest.Eventually(t, 2*wire.Soon, "changes to be taken again", func() bool {
		_, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, "alice"), `{"customStatus":"after"}`)
		return err == nil
	})
	if reply := get(); reply.Stale || reply.SuccessUserList[0].CustomStatus != "after" {
		t.Errorf("after the cut: got %+v", reply)
	}
}
