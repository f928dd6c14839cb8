package processes

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
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

// keep makes rounds of requests, with a pause after each: others want the machine too.
func (l *steadyLoad) keep(what string, pause time.Duration, round func(i int) error) {
	l.group.Go(func() error {
		for i := 0; l.ctx.Err() == nil; i++ {
			if err := round(i); err != nil {
				return fmt.Errorf("%s, round %d: %w", what, i, err)
			}
			l.requests.Add(1)
			select {
			case <-l.ctx.Done():
			case <-time.After(pause):
			}
		}
		return nil
	})
}

// more waits until there were so many rounds more, or the load has failed.
func (l *steadyLoad) more(t *testing.T, rounds int64) {
	t.Helper()
	at := l.requests.Load()
	servicetest.Eventually(t, wire.Soon, "requests to be made", func() bool { return l.requests.Load() > at+rounds || l.ctx.Err() != nil })
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
func (l *steadyLoad) setAndGet(nc *nats.Conn, user string, pause time.Duration) {
	l.keep("set and get of "+user, pause, func(i int) error {
		text := fmt.Sprint("text ", i)
		done, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, user), protocol.SetRequest{CustomStatus: &text})
		if err != nil {
			return fmt.Errorf("set: %w", err)
		}
		l.note(done.Status)
		for name, get := range map[string]protocol.GetRequest{
			"plain": {}, "fresh": {Fresh: true}, "minRevision": {MinRevision: done.Revision, Epoch: done.Epoch},
		} {
			get.UserIDList = []string{user}
			reply, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), get)
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

// renew renews a session that has the shortest TTL, not so often that one instance alone would
// refuse it.
func (l *steadyLoad) renew(nc *nats.Conn, user string) {
	const pause = 100 * time.Millisecond // 200 in 5 s are answered
	l.keep("renewals of "+user, pause, func(int) error {
		_, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpRenew, user), `{"sessionID":"s"}`)
		return err
	})
}

// apply has a gateway set a text for a user.
func (l *steadyLoad) apply(nc *nats.Conn, user string, pause time.Duration) {
	subject, _ := wire.Subjects.Gateway("gw", protocol.OpApply)
	l.keep("a gateway", pause, func(i int) error {
		reply, err := wire.Ask[protocol.ApplyReply](nc, subject, fmt.Sprintf(
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

	idle := wire.NewClient(t, s.Connect(t), client.Options{})
	var still []string
	for i, user := range wire.Names("idle", 8) {
		wire.LoginClient(t, idle, user, client.LoginOptions{TTL: protocol.MinTTL, Unbound: i%2 == 0})
		still = append(still, user)
	}
	busy, renewing := wire.Names("busy", 3), wire.Names("renewing", 2)
	for _, user := range append(busy, renewing...) {
		wire.Login(t, nc, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: 5, Connection: wire.BoundTo(nc)})
	}
	open, _ := wire.Subjects.Gateway("gw", protocol.OpOpen)
	wire.Must[protocol.LeaseReply](t, nc, open, `{"process":"p","ttlSeconds":3600}`)
	before := wire.Fresh(t, nc, append(still, renewing...)...)
	events := wire.Record(t, s.Connect(t), wire.Subjects.AnyEvent())

	l := startSteadyLoad()
	for _, user := range busy {
		l.setAndGet(s.Connect(t), user, time.Millisecond)
	}
	for _, user := range append(renewing, busy...) {
		l.renew(s.Connect(t), user)
	}
	l.apply(s.Connect(t), "through-a-gateway", time.Millisecond)

	enough := func() { l.more(t, 300) }
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

	wire.CheckUndisturbed(t, nc, events, before)
	for _, user := range append(busy, "through-a-gateway") {
		last := wire.Fresh(t, nc, user)[0]
		servicetest.Eventually(t, wire.Soon, "the last event of "+user, func() bool {
			list := events.Events(t, user)
			return len(list) > 0 && list[len(list)-1].Revision == last.Revision
		})
		for _, e := range events.Events(t, user) {
			if !l.made(user, e.Revision) && e.Cause != protocol.CauseLogin {
				t.Errorf("%s: announced, but nobody changed it: %+v", user, e.Event)
			}
			if e.StatusType == protocol.Offline {
				t.Errorf("%s: %+v", user, e.Event)
			}
		}
	}
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
				if err := nc.Publish(wire.To(protocol.OpSet, user), []byte(`{"customStatus":"hello"}`)); err != nil {
					return err
				}
				if i%50 == 49 {
					if err := nc.FlushTimeout(wire.Soon); err != nil {
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
		servicetest.Eventually(t, wire.Soon, "somebody to answer", func() bool {
			m, err := nc.Request(wire.Subjects.Get(), wire.Encode(protocol.GetRequest{UserIDList: page, Fresh: true}), 500*time.Millisecond)
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
func announced(t *testing.T, messages []wire.Received) map[string]uint64 {
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
func checkNotOld(t *testing.T, answers *wire.Recorder, moment time.Time) {
	t.Helper()
	var stale, old, refused int
	for _, m := range answers.All() {
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
	t.Logf("%d answers, %d stale, %d refused", len(answers.All()), stale, refused)
	if stale == 0 {
		t.Error("none of the answers is stale: nothing was tested")
	}
	if old > 0 {
		t.Errorf("%d of %d answers are of long ago and do not say so", old, len(answers.All()))
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
			events := wire.Record(t, s.Connect(t), wire.Subjects.AnyEvent())
			stop := flood(t, s.Connect(t))
			servicetest.Eventually(t, wire.Soon, "the storm to be heard", func() bool { return len(events.All()) > 2000 })
			daemons[0].Signal(t, signal)
			ended := time.Now()
			heard := len(events.All())
			servicetest.Eventually(t, wire.Soon, "the storm to go on", func() bool { return len(events.All()) > heard+1000 })
			users := stop()

			told := announced(t, events.All())
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
			servicetest.Eventually(t, 3*wire.Soon, "every change to be announced", func() bool {
				told = announced(t, events.All())
				return missing() == 0
			})
			t.Logf("of %d changes some %d were owed when the instance ended, and announced within %v", len(users), owed, time.Since(ended).Round(time.Second))
			if signal == syscall.SIGKILL {
				return
			}

			// Longer than what is refused by its age alone.
			time.Sleep(time.Until(ended.Add(protocol.OutcomeWithin + time.Second)))
			heard = len(events.All())
			waiting := s.Connect(t)
			old := wire.Record(t, waiting, "old.answers")
			// Half of them wait for the one that stands still, and keep it busy
			// with what is old while it catches up.
			for range 60000 {
				if err := waiting.PublishRequest(wire.Subjects.Get(), "old.answers", wire.Encode(protocol.GetRequest{UserIDList: users[:1]})); err != nil {
					t.Fatal(err)
				}
			}
			goesOn := time.Now()
			daemons[0].Signal(t, syscall.SIGCONT)
			servicetest.Eventually(t, wire.Soon, "it to answer again", func() bool { return len(wire.AskAll(t, nc, "$SRV.PING.presence")) == 2 })
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
			repeated := announced(t, events.All()[heard:])
			for user, revision := range repeated {
				if revision != after[user] {
					t.Errorf("announced late: %s at revision %d, it has %d", user, revision, after[user])
				}
			}
			t.Logf("%d events were repeated", len(repeated))
		})
	}
}
