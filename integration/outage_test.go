package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// newClient is a client that is closed with the test.
func newClient(t testing.TB, nc *nats.Conn, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.New(nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// withClient logs a user in through the client, until the test ends.
func withClient(t testing.TB, c *client.Client, userID string, opts client.LoginOptions) *client.Session {
	t.Helper()
	s, err := c.Login(t.Context(), userID, opts)
	if err != nil {
		t.Fatalf("Login(%q): %v", userID, err)
	}
	return s
}

// subscribe watches users, all of whom can be watched.
func subscribe(t testing.TB, c *client.Client, userIDs ...string) {
	t.Helper()
	failures, err := c.SubscribeUserStatus(t.Context(), userIDs)
	if err != nil || len(failures) > 0 {
		t.Fatalf("SubscribeUserStatus: %v, %+v", err, failures)
	}
}

// keepers are users whose client renews, bound to its connection or not, with
// the shortest TTL.
func keepers(t testing.TB, d *servicetest.Daemon) []string {
	t.Helper()
	c := newClient(t, d.Connect(t), client.Options{Timeout: 2 * time.Second})
	users := names("keeper", 8)
	for i, id := range users {
		s := withClient(t, c, id, client.LoginOptions{TTL: protocol.MinTTL, Unbound: i%2 == 0})
		if _, err := s.SetSelfStatus(t.Context(), "here"); err != nil {
			t.Fatal(err)
		}
	}
	return users
}

// checkUndisturbed fails where a change was announced or a status is not as
// before. Events of before may come again.
func checkUndisturbed(t *testing.T, nc *nats.Conn, events *recorder, before []protocol.Status) {
	t.Helper()
	for i, now := range fresh(t, nc, userIDs(before)...) {
		if !reflect.DeepEqual(now, before[i]) {
			t.Errorf("%s: got %+v, want %+v as before", now.UserID, now, before[i])
		}
		for _, e := range events.events(t, now.UserID) {
			if e.Revision > before[i].Revision {
				t.Errorf("something was announced: %+v", e.Event)
			}
		}
	}
}

func userIDs(list []protocol.Status) (ids []string) {
	for _, s := range list {
		ids = append(ids, s.UserID)
	}
	return ids
}

// waitForJournal waits until the journal's time is past a moment. An instance
// that was away may be unavailable at first.
func waitForJournal(t *testing.T, nc *nats.Conn, moment time.Time) {
	t.Helper()
	servicetest.Eventually(t, soon, "time to pass in the journal", func() bool {
		reply, err := ask[protocol.GetReply](nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"anyone"}, Fresh: true})
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
	before := fresh(t, nc, keepers(t, d)...)
	events := record(t, nc, subjects.AnyEvent())

	d.Signal(t, syscall.SIGSTOP)
	time.Sleep(protocol.MinTTL + 2*time.Second) // the pause itself, not a guess
	d.Signal(t, syscall.SIGCONT)

	waitForJournal(t, nc, time.Now().Add(protocol.MinTTL+2*time.Second))
	checkUndisturbed(t, nc, events, before)
}

// TestG06_RestartDropsNobody: the daemon is killed and stays down for longer
// than a TTL. Whoever comes back and renews was never gone, during the amnesty
// and after it; whoever does not is lost when it is over.
func TestG06_RestartDropsNobody(t *testing.T) {
	t.Parallel()
	const amnesty = 30 * time.Second
	d := servicetest.StartDaemon(t)
	nc := d.Connect(t)
	before := fresh(t, nc, keepers(t, d)...)
	events := record(t, nc, subjects.AnyEvent())

	watcher := newClient(t, d.Connect(t), client.Options{})
	told := tell(watcher)
	subscribe(t, watcher, userIDs(before)...)

	login(t, nc, "silent", protocol.LoginRequest{SessionID: "s", TTLSeconds: 5})
	d.Kill(t)
	servicetest.Eventually(t, soon, "the watcher to be blind", func() bool { return !watcher.State().Live })
	time.Sleep(protocol.MinTTL + time.Second) // the outage itself, not a guess
	restarted := time.Now()
	d.Restart(t)

	lost := events.await(t, 3*(amnesty+protocol.MinTTL), "silent", protocol.Offline)
	if took := lost.at.Sub(restarted); took < amnesty {
		t.Errorf("OFFLINE %v after the restart, want an amnesty of %v", took, amnesty)
	}
	checkUndisturbed(t, nc, events, before)
	servicetest.Eventually(t, soon, "the watcher to see again", func() bool { return watcher.State().Live })
	for _, want := range before {
		if got, _ := watcher.Watched(want.UserID); !reflect.DeepEqual(got, want) {
			t.Errorf("Watched(%q): got %+v, want %+v", want.UserID, got, want)
		}
		for _, s := range told.all() {
			if s.UserID == want.UserID && s.StatusType != protocol.Online {
				t.Errorf("the watcher was told %+v", s)
			}
		}
	}
}

// teller keeps what a client was told.
type teller struct {
	mu       sync.Mutex
	statuses []protocol.Status
	states   []client.State
}

func tell(c *client.Client) *teller {
	told := &teller{}
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		told.mu.Lock()
		defer told.mu.Unlock()
		told.statuses = append(told.statuses, list...)
	})
	c.OnState(func(s client.State) {
		told.mu.Lock()
		defer told.mu.Unlock()
		told.states = append(told.states, s)
	})
	return told
}

// all returns the statuses told so far.
func (told *teller) all() []protocol.Status {
	told.mu.Lock()
	defer told.mu.Unlock()
	return told.statuses[:len(told.statuses):len(told.statuses)]
}

// last returns the status that each user was told to have.
func (told *teller) last() map[string]protocol.Status {
	last := map[string]protocol.Status{}
	for _, s := range told.all() {
		last[s.UserID] = s
	}
	return last
}

// blind reports whether the client has said so, for a reason.
func (told *teller) blind(reason client.Reason) bool {
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, s := range told.states {
		if !s.Live && s.Reason == reason {
			return true
		}
	}
	return false
}

// checkRising fails where a user was told a status older than one before.
func (told *teller) checkRising(t *testing.T) {
	t.Helper()
	last := map[string]protocol.Status{}
	for _, s := range told.all() {
		if s.Revision < last[s.UserID].Revision {
			t.Errorf("told %+v and then %+v", last[s.UserID], s)
		}
		last[s.UserID] = s
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
				if _, err := ask[protocol.ChangeReply](nc, to(op, id), body); err != nil {
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

// truth returns the statuses of users as of now.
func truth(t *testing.T, nc *nats.Conn, users []string) map[string]protocol.Status {
	t.Helper()
	statuses := map[string]protocol.Status{}
	for _, s := range fresh(t, nc, users...) {
		statuses[s.UserID] = s
	}
	return statuses
}

// watched returns the copies of a client.
func watched(c *client.Client, users []string) map[string]protocol.Status {
	statuses := map[string]protocol.Status{}
	for _, id := range users {
		statuses[id], _ = c.Watched(id)
	}
	return statuses
}

// checkEndsInTheTruth waits until a client's copies are true, and until it has
// told so.
func checkEndsInTheTruth(t *testing.T, nc *nats.Conn, c *client.Client, told *teller, users []string) {
	t.Helper()
	want := truth(t, nc, users)
	same := func(got map[string]protocol.Status) bool { return maps.EqualFunc(got, want, equal) }
	servicetest.Eventually(t, soon, "the copies to be true", func() bool { return same(watched(c, users)) })
	servicetest.Eventually(t, soon, "the client to have told so", func() bool { return same(told.last()) })
	told.checkRising(t)
}

func equal(a, b protocol.Status) bool { return reflect.DeepEqual(a, b) }

// TestG11_SubscribeUnderChanges: a change that happens while a watcher
// subscribes is in the snapshot or in an event, or in both.
func TestG11_SubscribeUnderChanges(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), names("u", 10)
	s := startStorm(kit.Connect(t), users)
	c := newClient(t, kit.Connect(t), client.Options{})
	told := tell(c)
	for range 20 {
		for _, id := range users {
			subscribe(t, c, id)
		}
		if _, err := c.UnsubscribeUserStatus(t.Context()); err != nil {
			t.Error(err)
		}
		subscribe(t, c, users...)
	}
	s.stop(t)
	checkEndsInTheTruth(t, nc, c, told, users)
}

// TestG11_DroppedEvents: more events than the client has room for.
func TestG11_DroppedEvents(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), names("u", 50)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	c := newClient(t, kit.Connect(t, quiet), client.Options{EventBuffer: 2})
	told := tell(c)
	subscribe(t, c, users...)
	s := startStorm(kit.Connect(t), users)
	servicetest.Eventually(t, soon, "many changes", func() bool { return len(told.all()) > 2000 || told.blind(client.Dropped) })
	s.stop(t)
	checkEndsInTheTruth(t, nc, c, told, users)
}

// TestG11_BehindABrokenNetwork: while its connection is cut or frozen, or the
// server away, the watcher says that it is blind. When it says that it sees
// again, what happened before is in its copies.
func TestG11_BehindABrokenNetwork(t *testing.T) {
	kit := servicetest.Start(t)
	nc, users := kit.Connect(t), names("u", 10)
	p := startProxy(t, kit.URL())
	through, err := nats.Connect(p.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.PingInterval(200*time.Millisecond), nats.MaxPingsOutstanding(2), nats.Timeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.Close)
	c := newClient(t, through, client.Options{})
	told := tell(c)
	subscribe(t, c, users...)

	for name, outage := range map[string]struct{ begin, end func() }{
		"cut":       {p.Cut, p.Mend},
		"frozen":    {p.Freeze, p.Thaw},
		"cut again": {p.Cut, p.Mend},
	} {
		s := startStorm(nc, users)
		servicetest.Eventually(t, soon, "changes to arrive", func() bool { return len(told.last()) == len(users) })
		outage.begin()
		servicetest.Eventually(t, soon, name+": the watcher to be blind", func() bool { return !c.State().Live })
		if got, ok := c.Watched("u0"); got.StatusType != protocol.Unknown || !ok {
			t.Errorf("%s: Watched while blind: got %+v, %v, want UNKNOWN", name, got, ok)
		}
		s.stop(t)
		want := truth(t, nc, users)
		outage.end()
		servicetest.Eventually(t, soon, name+": the watcher to see again", func() bool { return c.State().Live })
		if got := watched(c, users); !maps.EqualFunc(got, want, equal) {
			t.Errorf("%s: the watcher sees again: got %+v, want %+v", name, got, want)
		}
		checkEndsInTheTruth(t, nc, c, told, users)
	}
	if !told.blind(client.Disconnected) {
		t.Error("OnState never told that the client was disconnected")
	}

	kit.Restart(t)
	servicetest.Eventually(t, soon, "the connection to be back", nc.IsConnected)
	for _, id := range users {
		setText(t, nc, id, "after the restart")
	}
	checkEndsInTheTruth(t, nc, c, told, users)
}

// TestG04_EventsSurviveTheirInstance: a daemon is killed in a storm of changes,
// with events that it has not published. A watcher that only listens, and never
// asks, hears the last change of every user all the same.
func TestG04_EventsSurviveTheirInstance(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--sync", "interval")
	events := record(t, d.Connect(t), subjects.AnyEvent())
	nc := d.Connect(t)
	users := names("user", 200)
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
				if err := nc.Publish(to(protocol.OpSet, user), fmt.Appendf(nil, `{"customStatus":"%d-%d"}`, c, i)); err != nil {
					return err
				}
				if i%100 == 99 {
					if err := nc.FlushTimeout(soon); err != nil {
						return nil // it is being killed
					}
				}
			}
		})
	}
	servicetest.Eventually(t, soon, "the storm to be heard", func() bool { return len(events.all()) > 2000 })
	d.Signal(t, syscall.SIGKILL)
	close(killed)
	if err := callers.Wait(); err != nil {
		t.Error(err)
	}
	nc.Close() // what it still buffers is not to be sent to the next daemon
	d.Wait(t)
	d.Restart(t)
	after := fresh(t, d.Connect(t), users...)
	for _, want := range after {
		servicetest.Eventually(t, 3*soon, "the last change of "+want.UserID+" to be announced", func() bool {
			list := events.events(t, want.UserID)
			return len(list) > 0 && slices.ContainsFunc(list, func(e arrived) bool { return e.Revision == want.Revision })
		})
	}
}

// TestG12_CutOffFromTheJournal: an instance whose connection to the journal is
// silent says within three seconds that its answers are stale, and refuses
// changes; when the network is back it is as before.
func TestG12_CutOffFromTheJournal(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	p := startProxy(t, s.URL())
	through := strings.Replace(p.URL(), "nats://", "nats://"+servicetest.JournalUser+":"+servicetest.Password+"@", 1)
	journal, err := nats.Connect(through, nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(journal.Close)
	s.StartInstance(t, func(c *service.Config) { c.Journal = journal })
	nc := s.Connect(t)
	setText(t, nc, "alice", "before")
	get := func() protocol.GetReply {
		return must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}})
	}
	if get().Stale {
		t.Error("stale before anything happened")
	}
	p.Freeze()
	cut := time.Now()
	servicetest.Eventually(t, soon, "the answers to be stale", func() bool { return get().Stale })
	// Three seconds after the last entry, which may be a second old; loosely.
	if took := time.Since(cut); took < time.Second || took > 3*protocol.StaleAfter {
		t.Errorf("stale after %v, want at most %v", took, protocol.StaleAfter)
	}
	refused(t, nc, to(protocol.OpSet, "alice"), `{"customStatus":"meanwhile"}`, protocol.ErrUnavailable)
	p.Thaw()
	servicetest.Eventually(t, 2*soon, "changes to be taken again", func() bool {
		_, err := ask[protocol.ChangeReply](nc, to(protocol.OpSet, "alice"), `{"customStatus":"after"}`)
		return err == nil
	})
	if reply := get(); reply.Stale || reply.SuccessUserList[0].CustomStatus != "after" {
		t.Errorf("after the cut: got %+v", reply)
	}
}
