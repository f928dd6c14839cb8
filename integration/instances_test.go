package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"
)

// startDaemons starts processes that share one NATS server, as somebody would
// run them.
func startDaemons(t *testing.T, s *servicetest.Server, n int) []*servicetest.Daemon {
	t.Helper()
	daemons := make([]*servicetest.Daemon, n)
	for i := range daemons {
		daemons[i] = servicetest.StartDaemon(t, "--nats-url", s.URLAs(servicetest.ClientsUser),
			"--journal-url", s.URLAs(servicetest.JournalUser), "--system-url", s.URLAs(servicetest.SystemUser))
	}
	return daemons
}

// steadyLoad makes requests, each of them once, until it is stopped, and fails with
// the first that is not answered as it should be. Nothing in it tries again.
type steadyLoad struct {
	ctx    context.Context
	cancel context.CancelFunc
	group  *errgroup.Group

	requests atomic.Int64
	mu       sync.Mutex
	set      map[string]map[uint64]bool // revisions of changes made, by user
}

func startSteadyLoad() *steadyLoad {
	l := &steadyLoad{set: map[string]map[uint64]bool{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.group, l.ctx = errgroup.WithContext(l.ctx)
	return l
}

// keep makes rounds of requests.
func (l *steadyLoad) keep(what string, round func(i int) error) {
	l.group.Go(func() error {
		for i := 0; l.ctx.Err() == nil; i++ {
			if err := round(i); err != nil {
				return fmt.Errorf("%s, round %d: %w", what, i, err)
			}
			l.requests.Add(1)
			time.Sleep(time.Millisecond) // others want the machine too
		}
		return nil
	})
}

func (l *steadyLoad) note(s protocol.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set[s.UserID] == nil {
		l.set[s.UserID] = map[uint64]bool{}
	}
	l.set[s.UserID][s.Revision] = true
}

// made reports whether a revision of a user is that of a change of the load.
func (l *steadyLoad) made(user string, revision uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set[user][revision]
}

func (l *steadyLoad) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	if err := l.group.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d rounds of requests", l.requests.Load())
}

// setAndGet has a user set a text, and everybody see it who asks for it.
func (l *steadyLoad) setAndGet(nc *nats.Conn, user string) {
	l.keep("set and get of "+user, func(i int) error {
		text := fmt.Sprint("text ", i)
		done, err := ask[protocol.ChangeReply](nc, to(protocol.OpSet, user), protocol.SetRequest{CustomStatus: &text})
		if err != nil {
			return fmt.Errorf("set: %w", err)
		}
		l.note(done.Status)
		for name, get := range map[string]protocol.GetRequest{
			"plain": {}, "fresh": {Fresh: true}, "minRevision": {MinRevision: done.Revision, Epoch: done.Epoch},
		} {
			get.UserIDList = []string{user}
			reply, err := ask[protocol.GetReply](nc, subjects.Get(), get)
			if err != nil {
				return fmt.Errorf("%s get: %w", name, err)
			}
			if reply.Stale || reply.Epoch != done.Epoch {
				return fmt.Errorf("%s get: got %+v", name, reply)
			}
			if got := reply.SuccessUserList[0]; name != "plain" && got.CustomStatus != text {
				return fmt.Errorf("%s get after %q was set: got %+v", name, text, got)
			}
		}
		return nil
	})
}

// renew renews a session that has the shortest TTL.
func (l *steadyLoad) renew(nc *nats.Conn, user string) {
	l.keep("renewals of "+user, func(int) error {
		_, err := ask[protocol.ChangeReply](nc, to(protocol.OpRenew, user), `{"sessionID":"s"}`)
		return err
	})
}

// apply has a gateway set a text for a user.
func (l *steadyLoad) apply(nc *nats.Conn, user string) {
	subject, _ := subjects.Gateway("gw", protocol.OpApply)
	l.keep("a gateway", func(i int) error {
		reply, err := ask[protocol.ApplyReply](nc, subject, fmt.Sprintf(
			`{"process":"p","seq":%d,"ops":[{"op":"set","userID":%q,"customStatus":"%d"}]}`, i+1, user, i))
		if err == nil && reply.Applied != 1 {
			err = fmt.Errorf("got %+v", reply)
		}
		l.note(protocol.Status{UserID: user, Revision: reply.Revision})
		return err
	})
}

// TestG07_RollingRestart: each of several instances is restarted in turn under
// constant load. No request fails, though none is made twice; nothing is
// announced but what the load itself changes; nobody goes OFFLINE. Users who
// do nothing but stay are not heard of at all.
func TestG07_RollingRestart(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	daemons := startDaemons(t, s, 3)
	nc := s.Connect(t)

	idle := newClient(t, s.Connect(t), client.Options{})
	var still []string
	for i, user := range names("idle", 8) {
		withClient(t, idle, user, client.LoginOptions{TTL: protocol.MinTTL, Unbound: i%2 == 0})
		still = append(still, user)
	}
	busy, renewing := names("busy", 3), names("renewing", 2)
	for _, user := range append(busy, renewing...) {
		login(t, nc, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: 5, Connection: boundTo(nc)})
	}
	open, _ := subjects.Gateway("gw", protocol.OpOpen)
	must[protocol.LeaseReply](t, nc, open, `{"process":"p","ttlSeconds":3600}`)
	before := fresh(t, nc, append(still, renewing...)...)
	events := record(t, s.Connect(t), subjects.AnyEvent())

	l := startSteadyLoad()
	for _, user := range busy {
		l.setAndGet(s.Connect(t), user)
	}
	for _, user := range append(renewing, busy...) {
		l.renew(s.Connect(t), user)
	}
	l.apply(s.Connect(t), "through-a-gateway")

	enough := func() {
		at := l.requests.Load()
		servicetest.Eventually(t, soon, "requests to be made", func() bool { return l.requests.Load() > at+300 || l.ctx.Err() != nil })
	}
	for i, d := range daemons {
		enough()
		begun := time.Now()
		d.Stop(t)
		stopped := time.Since(begun)
		enough() // on those that are left
		d.Restart(t)
		t.Logf("instance %d stopped within %v", i, stopped.Round(time.Millisecond))
		if stopped > 5*time.Second { // about 0.1 s on a quiet machine
			t.Errorf("instance %d took %v to stop", i, stopped)
		}
	}
	enough()
	l.stop(t)

	checkUndisturbed(t, nc, events, before)
	for _, user := range append(busy, "through-a-gateway") {
		last := fresh(t, nc, user)[0]
		servicetest.Eventually(t, soon, "the last event of "+user, func() bool {
			list := events.events(t, user)
			return len(list) > 0 && list[len(list)-1].Revision == last.Revision
		})
		for _, e := range events.events(t, user) {
			if !l.made(user, e.Revision) && e.Cause != protocol.CauseLogin {
				t.Errorf("%s: announced, but nobody changed it: %+v", user, e.Event)
			}
			if e.StatusType == protocol.Offline {
				t.Errorf("%s: %+v", user, e.Event)
			}
		}
	}
}

// startInstances is a kit with several instances, over TCP as they would be.
func startInstances(t *testing.T, n int, opts ...servicetest.Option) *servicetest.Kit {
	t.Helper()
	kit := servicetest.StartOverNATS(t, opts...)
	for range n - 1 {
		kit.AddInstance(t)
	}
	return kit
}

// answered returns how many requests each instance has answered at a subject,
// by its ID.
func answered(t *testing.T, nc *nats.Conn, subject string) map[string]uint64 {
	t.Helper()
	counts := map[string]uint64{}
	for _, m := range askAll(t, nc, "$SRV.STATS.presence") {
		var all micro.Stats
		if err := json.Unmarshal(m.Data, &all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all.Endpoints {
			var s service.EndpointStats
			if e.Subject == subject && json.Unmarshal(e.Data, &s) == nil {
				counts[all.ID] += s.Requests - s.Errors
			}
		}
	}
	return counts
}

// askAll returns all answers to a request, of which there may be any number: it
// waits until none has come for a while.
func askAll(t *testing.T, nc *nats.Conn, subject string) (answers []*nats.Msg) {
	t.Helper()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, sub.Subject, nil); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := sub.NextMsg(500 * time.Millisecond)
		if err != nil {
			return answers
		}
		answers = append(answers, m)
	}
}

// checkAllAnswered fails where an instance had no part in what was asked: then
// the test has shown nothing of it.
func checkAllAnswered(t *testing.T, kit *servicetest.Kit, subject string, atLeast uint64) {
	t.Helper()
	counts := answered(t, kit.Connect(t), subject)
	if len(counts) != len(kit.Instances) {
		t.Errorf("%d instances answer $SRV.STATS, want %d", len(counts), len(kit.Instances))
	}
	for id, n := range counts {
		if n < atLeast {
			t.Errorf("instance %s answered %d requests on %s, want at least %d", id, n, subject, atLeast)
		}
	}
}

// TestG02_ReadYourWritesByAnyInstance: 200 changes and 400 reads of them, all
// of which each of three instances had its share of.
func TestG02_ReadYourWritesByAnyInstance(t *testing.T) {
	kit := startInstances(t, 3)
	checkReadYourWrites(t, kit)
	checkAllAnswered(t, kit, subjects.Get(), 50)
	checkAllAnswered(t, kit, subjects.AnyUser(protocol.OpSet), 20)
}

// TestG03_RevisionsRiseOnAllInstances: three instances have one history. And
// whoever answers, the state at a revision is the same, users who do not change
// included.
func TestG03_RevisionsRiseOnAllInstances(t *testing.T) {
	kit := startInstances(t, 3)
	stop := make(chan struct{})
	var (
		mu      sync.Mutex
		at      = map[uint64]string{} // answers, by revision
		again   int
		readers errgroup.Group
	)
	for range 3 {
		nc := kit.Connect(t)
		readers.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				reply, err := ask[protocol.GetReply](nc, subjects.Get(), protocol.GetRequest{UserIDList: append(names("u", 3), "nobody"), Detail: true})
				if err != nil {
					return err
				}
				if reply.Stale {
					return fmt.Errorf("a stale answer: %+v", reply)
				}
				got := fmt.Sprintf("%+v as of %v", reply.SuccessUserList, reply.AsOf)
				mu.Lock()
				before, ok := at[reply.Revision]
				at[reply.Revision] = got
				if ok {
					again++
				}
				mu.Unlock()
				if ok && got != before {
					return fmt.Errorf("two states of revision %d:\n%s\n%s", reply.Revision, before, got)
				}
			}
		})
	}
	checkRevisionsRise(t, kit, true)
	close(stop)
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d revisions, seen %d times more than once", len(at), again)
	if again < 100 {
		t.Errorf("only %d answers were of a revision that was seen before", again)
	}
	checkAllAnswered(t, kit, subjects.Get(), 50)
	checkAllAnswered(t, kit, subjects.AnyUser(protocol.OpSet), 20)
}

// flood has ever more users set a text, each once and without waiting for
// replies, so that much is under way when an instance ends. stop returns them.
func flood(t *testing.T, nc *nats.Conn) (stop func() []string) {
	t.Helper()
	const publishers = 4
	stopped := make(chan struct{})
	var callers errgroup.Group
	var users [publishers][]string
	for c := range users {
		callers.Go(func() error {
			for i := 0; ; i++ {
				select {
				case <-stopped:
					return nil
				default:
				}
				user := fmt.Sprintf("user-%d-%d", c, i)
				users[c] = append(users[c], user)
				if err := nc.Publish(to(protocol.OpSet, user), []byte(`{"customStatus":"hello"}`)); err != nil {
					return err
				}
				if i%50 == 49 {
					if err := nc.FlushTimeout(soon); err != nil {
						return err
					}
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	return func() []string {
		close(stopped)
		if err := callers.Wait(); err != nil {
			t.Error(err)
		}
		return slices.Concat(users[:]...)
	}
}

// revisions returns those of users, where one of the instances may not answer:
// 0 of a user whose request was lost.
func revisions(t *testing.T, nc *nats.Conn, users []string) map[string]uint64 {
	t.Helper()
	found := map[string]uint64{}
	for page := range slices.Chunk(users, protocol.MaxUsersPerGet) {
		servicetest.Eventually(t, soon, "somebody to answer", func() bool {
			m, err := nc.Request(subjects.Get(), encode(protocol.GetRequest{UserIDList: page, Fresh: true}), 500*time.Millisecond)
			if err != nil || m.Header.Get(protocol.ErrorHeader) != "" {
				return false
			}
			var reply protocol.GetReply
			if err := json.Unmarshal(m.Data, &reply); err != nil {
				t.Fatal(err)
			}
			for _, s := range reply.SuccessUserList {
				found[s.UserID] = s.Revision
			}
			return true
		})
	}
	return found
}

// announced returns the revisions that messages announce, by user.
func announced(t *testing.T, messages []received) map[string]uint64 {
	t.Helper()
	found := map[string]uint64{}
	for _, m := range messages {
		var e protocol.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		found[e.UserID] = max(found[e.UserID], e.Revision)
	}
	return found
}

// checkNotOld fails where an answer is of long before a moment and does not say
// that it is stale (G12).
func checkNotOld(t *testing.T, answers *recorder, moment time.Time) {
	t.Helper()
	var stale, old, refused int
	for _, m := range answers.all() {
		if m.Header.Get(protocol.ErrorHeader) != "" { // so many at once are too many
			refused++
			continue
		}
		var reply protocol.GetReply
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			t.Fatal(err)
		}
		switch {
		case reply.Stale:
			stale++
		case reply.AsOf.Time().Before(moment.Add(-2 * protocol.StaleAfter)):
			old++
		}
	}
	t.Logf("%d answers, %d stale, %d refused", len(answers.all()), stale, refused)
	if stale == 0 {
		t.Error("none of the answers is stale: nothing was tested")
	}
	if old > 0 {
		t.Errorf("%d of %d answers are of long ago and do not say so", old, len(answers.all()))
	}
}

// TestG04_AnotherInstanceAnnounces: an instance is killed, or stands still, in a
// storm of changes, with events that it has not published. A watcher that only
// listens hears every change from the other one. The one that stood still may
// say again what it owed when it goes on; nothing that was sent to it before
// takes effect then.
func TestG04_AnotherInstanceAnnounces(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// With the default of two minutes the broker keeps sending to the one
			// that stands still.
			s := servicetest.StartNATS(t, "ping_interval: '2m'")
			daemons := startDaemons(t, s, 2)
			nc := s.Connect(t)
			events := record(t, s.Connect(t), subjects.AnyEvent())
			stop := flood(t, s.Connect(t))
			servicetest.Eventually(t, soon, "the storm to be heard", func() bool { return len(events.all()) > 2000 })
			daemons[0].Signal(t, signal)
			ended := time.Now()
			heard := len(events.all())
			servicetest.Eventually(t, soon, "the storm to go on", func() bool { return len(events.all()) > heard+1000 })
			users := stop()

			told := announced(t, events.all())
			after := revisions(t, nc, users)
			missing := func() (n int) {
				for user, revision := range after {
					if told[user] != revision {
						n++
					}
				}
				return n
			}
			owed := missing()
			servicetest.Eventually(t, 3*soon, "every change to be announced", func() bool {
				told = announced(t, events.all())
				return missing() == 0
			})
			t.Logf("of %d changes some %d were owed when the instance ended, and announced within %v", len(users), owed, time.Since(ended).Round(time.Second))
			if signal == syscall.SIGKILL {
				return
			}

			// Longer than what is refused by its age alone.
			time.Sleep(time.Until(ended.Add(protocol.OutcomeWithin + time.Second)))
			heard = len(events.all())
			waiting := s.Connect(t)
			old := record(t, waiting, "old.answers")
			// Half of them wait for the one that stands still, and keep it busy
			// with what is old while it catches up.
			for range 60000 {
				if err := waiting.PublishRequest(subjects.Get(), "old.answers", encode(protocol.GetRequest{UserIDList: users[:1]})); err != nil {
					t.Fatal(err)
				}
			}
			goesOn := time.Now()
			daemons[0].Signal(t, syscall.SIGCONT)
			servicetest.Eventually(t, soon, "it to answer again", func() bool { return len(askAll(t, nc, "$SRV.PING.presence")) == 2 })
			checkNotOld(t, old, goesOn)
			for range 5 { // it has its share of those
				if now := revisions(t, nc, users); !reflect.DeepEqual(now, after) {
					late := 0
					for user := range after {
						if now[user] != after[user] {
							late++
						}
					}
					t.Fatalf("%d of %d changes took effect long after they were sent", late, len(users))
				}
			}
			repeated := announced(t, events.all()[heard:])
			for user, revision := range repeated {
				if revision != after[user] {
					t.Errorf("announced late: %s at revision %d, it has %d", user, revision, after[user])
				}
			}
			t.Logf("%d events were repeated", len(repeated))
		})
	}
}

// TestG12_OneOfTwoIsCutOff: the one that is cut off from the journal says so and
// refuses changes; callers who try again, as the client does, are answered by
// the other. When the network is back it has missed nothing.
func TestG12_OneOfTwoIsCutOff(t *testing.T) {
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
	s.StartInstance(t)
	nc := s.Connect(t)
	c := newClient(t, s.Connect(t), client.Options{})
	set := func(text string) protocol.Status {
		t.Helper()
		status, err := c.SetSelfStatus(t.Context(), "alice", text)
		if err != nil {
			t.Errorf("SetSelfStatus(%q): %v", text, err)
		}
		return status
	}
	set("before")

	p.Freeze()
	since := time.Now()
	stale := func() bool {
		return must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}}).Stale
	}
	servicetest.Eventually(t, soon, "a stale answer", stale)
	if took := time.Since(since); took < time.Second || took > 3*protocol.StaleAfter {
		t.Errorf("stale after %v, want at most %v", took, protocol.StaleAfter)
	}
	var done, refused int
	for i := range 15 {
		set(fmt.Sprint("meanwhile ", i))
		got, err := c.GetUserStatus(t.Context(), []string{"alice"}, client.Fresh())
		if err != nil || got.Stale || got.SuccessUserList[0].CustomStatus != fmt.Sprint("meanwhile ", i) {
			t.Errorf("GetUserStatus: got %+v, %v", got, err)
		}
		switch _, err := ask[protocol.ChangeReply](nc, to(protocol.OpSet, "bob"), `{"customStatus":"once"}`); {
		case err == nil:
			done++
		case errors.Is(err, protocol.ErrUnavailable):
			refused++
		default:
			t.Error(err)
		}
	}
	if done == 0 || refused == 0 {
		t.Errorf("of those who asked once %d were answered and %d refused: one instance answered them all", done, refused)
	}

	p.Thaw()
	last := set("after")
	servicetest.Eventually(t, 2*soon, "nobody to be stale", func() bool { return !slices.ContainsFunc(make([]bool, 20), func(bool) bool { return stale() }) })
	for range 20 {
		got := must[protocol.GetReply](t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}})
		if !reflect.DeepEqual(got.SuccessUserList[0], last) {
			t.Errorf("after the cut: got %+v, want %+v", got.SuccessUserList[0], last)
		}
	}
}
