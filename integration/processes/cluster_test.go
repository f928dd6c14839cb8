package processes

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// journalStream is the stream that holds the journal.
const journalStream = "PRESENCE_JOURNAL"

// trio is what an installation looks like that has no single point of failure:
// three NATS servers, a journal with three replicas, three presenced, each a
// process of its own.
type trio struct {
	*servicetest.Cluster
	daemons []*servicetest.Daemon
}

func startTrio(t testing.TB) *trio {
	t.Helper()
	tr := &trio{Cluster: servicetest.StartCluster(t, 3)}
	for range 3 {
		tr.daemons = append(tr.daemons, tr.StartDaemon(t))
	}
	return tr
}

// connect connects as a client that notices a silent server soon and sends
// nothing late: what cannot be sent now is refused here.
func (tr *trio) connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return tr.Connect(t, append(hasty(), opts...)...)
}

func hasty() []nats.Option {
	return []nats.Option{
		nats.ReconnectBufSize(-1), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(2 * time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // of broken connections there are many
	}
}

// patience is how long a request of a test under faults waits for its answer:
// not for as long as presenced tries, 10 s, but past a short pause.
const patience = 4 * time.Second

// outcome names what became of a request.
func outcome(err error) string {
	if err == nil {
		return "acknowledged"
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Name
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return "no responders"
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return "not sent"
	}
	return "no answer"
}

// undecided reports whether a request that failed may have been carried out, or
// may be yet.
func undecided(err error) bool {
	name := outcome(err)
	return name == protocol.ErrOutcomeUnknown.Name || name == "no answer"
}

// tally counts outcomes. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[name]++
}

func (c *tally) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[name]
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.counts)) {
		list = append(list, fmt.Sprintf("%s %d", name, c.counts[name]))
	}
	return strings.Join(list, ", ")
}

// setter sets the texts of one user, one after the other, and remembers what
// the user's text may be. Its goroutine owns it until that is done.
type setter struct {
	user         string
	n            int
	acknowledged string          // the last one
	revision     uint64          // of it
	epoch        string          // of the revision
	undecided    map[string]bool // may have been set, or may be yet
}

// next returns the next text, which is no other's.
func (s *setter) next() string {
	s.n++
	return fmt.Sprintf("%s-%d", s.user, s.n)
}

// set sets the next text. refusal is what the service or NATS answered, wrong
// what must not be: an acknowledgement of something else, a revision that does
// not rise (G3).
func (s *setter) set(nc *nats.Conn) (reply protocol.ChangeReply, refusal, wrong error) {
	text := s.next()
	reply, refusal = wire.AskWithin[protocol.ChangeReply](nc, patience, wire.To(protocol.OpSet, s.user), protocol.SetRequest{CustomStatus: &text})
	s.note(text, refusal)
	if refusal != nil {
		return reply, refusal, nil
	}
	if reply.Status.CustomStatus != text || reply.Status.Revision <= s.revision {
		wrong = fmt.Errorf("%s: set %q, acknowledged %+v after revision %d", s.user, text, reply.Status, s.revision)
	}
	s.revision, s.epoch = reply.Status.Revision, reply.Epoch
	return reply, nil, wrong
}

// note takes down what came of setting a text.
func (s *setter) note(text string, err error) {
	switch {
	case err == nil:
		s.acknowledged = text
	case undecided(err):
		if s.undecided == nil {
			s.undecided = map[string]bool{}
		}
		s.undecided[text] = true
	}
}

// shows returns an error where a user's status is neither what was acknowledged
// last nor what nobody knows of whether it was set (G1, G10).
func (s *setter) shows(got protocol.Status) error {
	if got.CustomStatus != s.acknowledged && !s.undecided[got.CustomStatus] {
		return fmt.Errorf("%s: got %q, want %q, which was acknowledged, or one of the undecided %v",
			s.user, got.CustomStatus, s.acknowledged, slices.Sorted(maps.Keys(s.undecided)))
	}
	if got.Revision < s.revision {
		return fmt.Errorf("%s: got revision %d, %d was acknowledged", s.user, got.Revision, s.revision)
	}
	return nil
}

// gap measures the longest time without something. It is safe for concurrent use.
type gap struct {
	mu   sync.Mutex
	last time.Time
	most time.Duration
}

// begin forgets what was before.
func (g *gap) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.most = time.Now(), 0
}

// over says that it is there.
func (g *gap) over() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.most = max(g.most, now.Sub(g.last))
	g.last = now
}

// longest is rounded for people.
func (g *gap) longest() time.Duration {
	g.over()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most.Round(10 * time.Millisecond)
}

// background runs until it is stopped, or the test ends. Its functions are called
// again and again, each on a goroutine of its own, with a pause in between; an
// error ends one.
type background struct {
	stopping chan struct{}
	once     sync.Once // closes stopping
	running  sync.WaitGroup
	mu       sync.Mutex
	errs     []error
}

func newBackground(t testing.TB) *background {
	b := &background{stopping: make(chan struct{})}
	t.Cleanup(b.end)
	return b
}

func (b *background) end() {
	b.once.Do(func() { close(b.stopping) })
	b.running.Wait()
}

func (b *background) every(pause time.Duration, f func() error) {
	b.running.Go(func() {
		for {
			select {
			case <-b.stopping:
				return
			case <-time.After(pause):
			}
			if err := f(); err != nil {
				b.mu.Lock()
				b.errs = append(b.errs, err)
				b.mu.Unlock()
				return
			}
		}
	})
}

func (b *background) stop(t testing.TB) {
	t.Helper()
	b.end()
	for _, err := range b.errs {
		t.Error(err)
	}
}

// keepUsers logs users in through a client each, which keeps them ONLINE through
// whatever happens: half of them are bound to their connection.
func (tr *trio) keepUsers(t testing.TB, prefix string, n int) []string {
	t.Helper()
	c := wire.NewClient(t, tr.connect(t), client.Options{Timeout: 2 * time.Second})
	users := wire.Names(prefix, n)
	for i, id := range users {
		wire.LoginClient(t, c, id, client.LoginOptions{TTL: protocol.MinTTL, Unbound: i%2 == 0})
	}
	return users
}

// checkKept fails where one of the users was announced as anything but ONLINE.
func checkKept(t testing.TB, events *wire.Recorder, users []string) {
	t.Helper()
	for _, id := range users {
		for _, e := range events.Events(t, id) {
			if e.StatusType != protocol.Online {
				t.Errorf("%s, whose client renewed all the time, was announced as %v: %+v", id, e.StatusType, e.Event)
			}
		}
	}
}

// TestCluster_JournalLeaderKilled kills the NATS server that leads the journal.
// While another is elected, changes are refused, late, or of unknown outcome,
// and never acknowledged without being kept (G1); gets are answered all the time,
// and say that they are stale (G12); nobody goes OFFLINE (G6).
func TestCluster_JournalLeaderKilled(t *testing.T) {
	t.Parallel()
	tr := startTrio(t)
	kept := tr.keepUsers(t, "keeper", 8)
	leader := tr.StreamLeader(t, journalStream)
	survivor := tr.Servers[(leader+1)%3]
	nc, err := nats.Connect(survivor.URL, hasty()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())

	load, sets, acked := newBackground(t), &tally{}, &gap{}
	setters := make([]*setter, 12)
	for i := range setters {
		s := &setter{user: fmt.Sprint("user", i)}
		setters[i] = s
		load.every(2*time.Millisecond, func() error {
			_, refusal, wrong := s.set(nc)
			sets.add(outcome(refusal))
			if refusal == nil {
				acked.over()
			}
			return wrong
		})
	}
	gets, answered := &tally{}, &gap{}
	load.every(5*time.Millisecond, func() error {
		reply, err := wire.AskWithin[protocol.GetReply](nc, time.Second, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"user0"}})
		switch {
		case err != nil:
			gets.add(outcome(err))
		case reply.Stale:
			gets.add("stale")
		default:
			gets.add("current")
		}
		if err == nil {
			answered.over()
		}
		return nil
	})
	acknowledged := func() int { return sets.of("acknowledged") }
	servicetest.Eventually(t, 2*wire.Soon, "changes to be acknowledged", func() bool { return acknowledged() > 500 })

	acked.begin()
	answered.begin()
	tr.Servers[leader].Kill(t)
	killed := time.Now()
	next := -1
	servicetest.Eventually(t, 2*wire.Soon, "another leader", func() bool {
		next = tr.StreamLeader(t, journalStream)
		return next != leader
	})
	before := acknowledged()
	servicetest.Eventually(t, 2*wire.Soon, "changes to be acknowledged again", func() bool { return acknowledged() > before+500 })
	back := time.Since(killed)
	tr.Servers[leader].Restart(t)
	servicetest.Eventually(t, 2*wire.Soon, "the killed server to catch up", func() bool { return tr.Current(t, journalStream) })
	time.Sleep(protocol.MinTTL) // for whoever is lost by now to be announced
	outage, unanswered := acked.longest(), answered.longest()
	load.stop(t)

	t.Logf("%s was killed, %s leads; sets: %v; gets: %v; no set acknowledged for %v, no get answered for %v, sets as before after %v",
		tr.Servers[leader].Name, tr.Servers[next].Name, sets, gets, outage, unanswered, back.Round(time.Millisecond))
	if outage > 30*time.Second {
		t.Errorf("no change was acknowledged for %v", outage)
	}
	// A presenced whose connection was to the killed server is away for a moment.
	if unanswered > 5*time.Second {
		t.Errorf("no get was answered for %v", unanswered)
	}
	if outage > 3*protocol.StaleAfter/2 && gets.of("stale") == 0 {
		t.Errorf("no get said that it is stale")
	}
	tr.checkSetters(t, setters)
	checkKept(t, events, kept)
	for _, s := range wire.Fresh(t, nc, kept...) {
		if s.StatusType != protocol.Online {
			t.Errorf("%s: got %v, want ONLINE", s.UserID, s.StatusType)
		}
	}
}

// checkSetters fails where a user's status is not as it was set.
func (tr *trio) checkSetters(t testing.TB, setters []*setter) {
	t.Helper()
	nc := tr.connect(t)
	var ids []string
	for _, s := range setters {
		ids = append(ids, s.user)
	}
	for i, got := range wire.Fresh(t, nc, ids...) {
		if err := setters[i].shows(got); err != nil {
			t.Error(err)
		}
	}
}
