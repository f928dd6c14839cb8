package processes

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// deluge sends sets as fast as it can for a time, each of a user of its own, and
// waits for the answers: what became of each, by the name of the error or "done".
// window is how many may be without an answer.
type deluge struct {
	prefix string
	sent   int
	became map[string]string // by user
	lost   int               // without an answer
}

func (s *deluge) run(nc *nats.Conn, window int, d time.Duration) error {
	s.became = map[string]string{}
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox + ".*")
	if err != nil {
		return err
	}
	defer answers.Unsubscribe()
	if err := answers.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	take := func(within time.Duration) error {
		m, err := answers.NextMsg(within)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(m.Header.Get(protocol.ErrorHeader), ":")
		if name == "" {
			name = "done"
		}
		user := m.Subject[len(inbox)+1:]
		if before, twice := s.became[user]; twice {
			return fmt.Errorf("the set of %s was answered twice: by %q, then by %q", user, before, name)
		}
		s.became[user] = name
		return nil
	}
	for begun := time.Now(); time.Since(begun) < d; {
		for s.sent-len(s.became) >= window {
			if err := take(wire.Soon); err != nil {
				return err
			}
		}
		user := fmt.Sprint(s.prefix, s.sent)
		s.sent++
		if err := nc.PublishRequest(wire.To(protocol.OpSet, user), inbox+"."+user, []byte(`{"customStatus":"`+user+`"}`)); err != nil {
			return err
		}
	}
	for len(s.became) < s.sent {
		if err := take(wire.Soon); errors.Is(err, nats.ErrTimeout) {
			s.lost = s.sent - len(s.became)
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// deluges runs four of them at the same time, each on a connection of its own.
func deluges(t *testing.T, d *servicetest.Daemon, prefix string, window int, lasts time.Duration) []*deluge {
	t.Helper()
	all := make([]*deluge, 4)
	var wait sync.WaitGroup
	for i := range all {
		s, nc := &deluge{prefix: fmt.Sprint(prefix, i, "-")}, d.Connect(t)
		all[i] = s
		wait.Go(func() {
			if err := s.run(nc, window, lasts); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	return all
}

// largestHeap reads in a trace of the garbage collector how many MB the heap had at most.
func largestHeap(trace string) (most int) {
	for _, m := range regexp.MustCompile(`(?m)^gc \d+ @.* \d+->(\d+)->\d+ MB,`).FindAllStringSubmatch(trace, -1) {
		n, _ := strconv.Atoi(m[1]) // digits, by the expression
		most = max(most, n)
	}
	return most
}

// TestOverload: many times what the service may keep waiting arrives. Every request gets
// one answer, the state is what the acknowledged ones say, and no refused one has changed
// anything. When the storm is over a change is soon as quick as before.
func TestOverload(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemonIn(t, []string{"GODEBUG=gctrace=1"}, "--waiting-changes", "200")
	nc, asked := d.Connect(t), 0
	set := func() (time.Duration, error) {
		asked++
		begun := time.Now()
		_, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, fmt.Sprint("polite", asked)), `{"customStatus":"x"}`)
		return time.Since(begun), err
	}
	quiet := time.Duration(0)
	for range 100 {
		took, err := set()
		if err != nil {
			t.Fatal(err)
		}
		quiet = max(quiet, took)
	}
	calm := 0
	for _, s := range deluges(t, d, "calm", 20, time.Second) { // 80 wait at most, and 80 were just answered
		calm += s.sent
		for user, name := range s.became {
			if name != "done" {
				t.Errorf("%s was answered by %q while few changes waited", user, name)
			}
		}
	}
	before := d.Stderr()
	storms := deluges(t, d, "s", 2000, time.Second)
	ended := time.Now()
	servicetest.Eventually(t, wire.Soon, "a change to be as quick as before the storm", func() bool {
		took, err := set()
		return err == nil && took <= 2*quiet
	})
	t.Logf("the slowest set took %v before the storm; one was as quick, within twice that, %v after it", quiet, time.Since(ended).Round(time.Millisecond))
	t.Logf("the heap had at most %d MB before the storm, %d MB in it", largestHeap(before), largestHeap(d.Stderr()[len(before):]))

	sum, sent := map[string]int{}, 0
	for _, s := range storms {
		sent += s.sent
		sum["no answer"] += s.lost
		for page := range slices.Chunk(s.users(), protocol.MaxUsersPerGet) {
			for _, status := range wire.Fresh(t, nc, page...) {
				outcome := s.became[status.UserID]
				sum[outcome]++
				switch is, isNot := status.CustomStatus == status.UserID, status.Revision == 0; {
				case outcome == "done" && !is, outcome == "overloaded" && !isNot, !is && !isNot:
					t.Errorf("%s, of which the answer was %q: %+v", status.UserID, outcome, status)
				}
			}
		}
	}
	t.Logf("%d sets a second while few waited; in the storm, of %d: %v", calm, sent, sum)
	if sum["done"]+sum["overloaded"]+sum["outcome_unknown"] != sent || sum["no answer"] != 0 {
		t.Errorf("of %d requests: %v, want each done, overloaded or outcome_unknown", sent, sum)
	}
	if sum["done"] == 0 || sum["overloaded"] == 0 {
		t.Errorf("%v: that was no overload", sum)
	}
}

func (s *deluge) users() (users []string) {
	for i := range s.sent {
		users = append(users, fmt.Sprint(s.prefix, i))
	}
	return users
}

// TestOverload_FloodersHurtNobodyElse: a user, a reader, a session and a gateway,
// each on a connection of its own, send as fast as they can and wait for no answer.
// Whoever is polite beside them is served every time, without a second attempt,
// and a connection that closes is noticed as soon as always: a flood starts no
// amnesty.
func TestOverload_FloodersHurtNobodyElse(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--user-changes", "20", "--grace", "1s")
	admin := d.Connect(t)
	wire.Must[protocol.LoginReply](t, admin, wire.To(protocol.OpLogin, "flooder"), `{"sessionID":"s"}`)
	wire.Must[protocol.LeaseReply](t, admin, gatewaySubject("flood", protocol.OpOpen), `{"process":"p"}`)
	events := wire.Record(t, admin, wire.Subjects.AnyEvent())

	var ops []protocol.Op
	for i := range 200 {
		ops = append(ops, protocol.Op{Op: protocol.OpKindSet, UserID: fmt.Sprint("guest", i), CustomStatus: protocol.Ptr("x")})
	}
	stop := make(chan struct{})
	var floods sync.WaitGroup
	var refused, sent atomic.Int64
	// As many as the server takes, with a breath for the machine, which all share.
	flood := func(subject string, batch int, body func(i int) []byte) {
		nc := d.Connect(t)
		inbox := nc.NewInbox()
		if _, err := nc.Subscribe(inbox+".*", func(m *nats.Msg) {
			if m.Header.Get(protocol.ErrorHeader) != "" {
				refused.Add(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
		floods.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := nc.PublishRequest(subject, fmt.Sprint(inbox, ".", i), body(i)); err != nil {
					t.Error(err)
					return
				}
				sent.Add(1)
				if i%batch == 0 {
					if err := nc.FlushTimeout(wire.Soon); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	flood(wire.To(protocol.OpSet, "flooder"), 200, func(i int) []byte { return fmt.Appendf(nil, `{"customStatus":"%d"}`, i) })
	flood(wire.To(protocol.OpRenew, "flooder"), 200, func(int) []byte { return []byte(`{"sessionID":"s"}`) })
	flood(wire.Subjects.Get(), 20, func(int) []byte { return wire.Encode(protocol.GetRequest{UserIDList: wire.Names("guest", 100)}) })
	flood(gatewaySubject("flood", protocol.OpApply), 4, func(i int) []byte {
		return wire.Encode(protocol.ApplyRequest{Process: "p", Seq: uint64(i + 1), Ops: ops})
	})

	// The polite, with what they may do at once and no more.
	begun := time.Now()
	var worst time.Duration
	nc := d.Connect(t)
	for _, user := range wire.Names("polite", 20) {
		for _, r := range []struct {
			subject string
			body    any
		}{
			{wire.To(protocol.OpLogin, user), `{"sessionID":"s"}`},
			{wire.To(protocol.OpSet, user), `{"customStatus":"hello"}`},
			{wire.To(protocol.OpRenew, user), `{"sessionID":"s"}`},
			{wire.To(protocol.OpStatus, user), `{}`},
			{wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{user}, Fresh: true}},
		} {
			asked := time.Now()
			if _, err := wire.Ask[json.RawMessage](nc, r.subject, r.body); err != nil {
				t.Errorf("%s: %v", r.subject, err)
			}
			worst = max(worst, time.Since(asked))
		}
	}
	took := time.Since(begun)

	phone := d.Connect(t)
	wire.Must[protocol.LoginReply](t, nc, wire.To(protocol.OpLogin, "leaving"), protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(phone)})
	phone.Close()
	closed := time.Now()
	events.Await(t, 2*wire.Soon, "leaving", protocol.Offline)
	t.Logf("100 polite requests took %v, the slowest %v; OFFLINE %v after the connection closed; %d of %d others refused",
		took.Round(time.Millisecond), worst.Round(time.Millisecond), time.Since(closed).Round(time.Millisecond), refused.Load(), sent.Load())
	close(stop)
	floods.Wait()
	if refused.Load() == 0 {
		t.Error("nobody was refused: that was no flood")
	}
	if strings.Contains(d.Stderr(), "requests were lost") {
		t.Logf("the daemon says:\n%s", d.Stderr())
	}
	if _, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, "after"), `{"customStatus":"x"}`); err != nil && !errors.Is(err, protocol.ErrOverloaded) {
		t.Errorf("afterwards: %v", err)
	}
}

func gatewaySubject(gateway, op string) string {
	subject, err := wire.Subjects.Gateway(gateway, op)
	if err != nil {
		panic(err)
	}
	return subject
}
