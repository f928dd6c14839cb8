package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"presence/pkg/internal/entry"
)

// The tests are white-box because they shorten the time after which an entry is given up.
// Everything else goes through the exported methods, over a real broker.

func TestMain(m *testing.M) {
	// The object store publishes asynchronously, for which nats.go has a goroutine
	// that never ends where the connection is closed by then.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// TestJournal_Order: everything submitted is applied once with its caller, at its place. A second
// instance and a later start see the same entries in the same order.
func TestJournal_Order(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil).start(t)
	other := open(t, nc, "B", nil).start(t)
	const callers, each = 20, 100
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for k := range each {
				r.submit(t, fmt.Sprintf("a%d-%d", i, k))
				other.submit(t, fmt.Sprintf("b%d-%d", i, k))
			}
		})
	}
	wg.Wait()
	for _, j := range []*rig{r, other} {
		if err := j.Barrier("barrier"); err != nil {
			t.Fatal(err)
		}
		j.wait(t, "all answered", func() bool { return len(j.answered) == callers*each+1 })
		if len(j.twice) > 0 {
			t.Errorf("answered twice: %v", j.twice)
		}
	}
	r.wait(t, "all applied", func() bool { return len(r.commands) == 2*callers*each })
	other.wait(t, "all applied", func() bool { return len(other.commands) == 2*callers*each })
	later := open(t, nc, "C", nil).start(t)
	for name, j := range map[string]*rig{"other": other, "later": later} {
		if strings.Join(j.commands, " ") != strings.Join(r.commands, " ") {
			t.Errorf("%s applied another order", name)
		}
	}
}

// deafJS loses publishes or their acknowledgements, as publish says.
type deafJS struct {
	jetstream.JetStream
	attempts atomic.Int64
	publish  func(attempt int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error)
}

func (d *deafJS) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return d.publish(d.attempts.Add(1), func() (*jetstream.PubAck, error) { return d.JetStream.PublishMsg(ctx, m, opts...) })
}

func deaf(publish func(attempt int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error)) func(jetstream.JetStream) jetstream.JetStream {
	return func(js jetstream.JetStream) jetstream.JetStream { return &deafJS{JetStream: js, publish: publish} }
}

// TestJournal_LostAcknowledgement: an entry whose acknowledgement is lost is
// published again, unchanged; its callers are answered once.
func TestJournal_LostAcknowledgement(t *testing.T) {
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	r := open(t, nc, "A", deaf(func(attempt int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		ack, err := store()
		if attempt%2 == 1 {
			return nil, context.DeadlineExceeded
		}
		return ack, err
	})).start(t)
	for i := range 10 {
		r.submit(t, fmt.Sprint(i))
		r.waitAnswer(t, fmt.Sprint(i), "applied")
	}
	if len(r.twice) > 0 {
		t.Errorf("answered twice: %v", r.twice)
	}
}

// TestJournal_OutcomeUnknown: an entry that nobody acknowledges is given up, and its callers are
// told that the outcome is unknown.
func TestJournal_OutcomeUnknown(t *testing.T) {
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	var down atomic.Bool
	r := open(t, nc, "A", deaf(func(_ int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		if down.Load() {
			return nil, context.DeadlineExceeded
		}
		return store()
	}))
	r.giveUp = 200 * time.Millisecond
	r.start(t)
	down.Store(true)
	r.submit(t, "early")
	r.waitAnswer(t, "early", ErrOutcomeUnknown.Error())
	down.Store(false)
	r.submit(t, "late")
	r.waitAnswer(t, "late", "applied")
}

// TestJournal_Rejected: an entry that the stream refuses is not stored, and the callers of its
// commands are told so. Its reports and renewals are put back. So nobody is told that a renewal was
// not done.
func TestJournal_Rejected(t *testing.T) {
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	var full atomic.Bool
	r := open(t, nc, "A", deaf(func(_ int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		if full.Load() {
			return nil, &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"}
		}
		return store()
	})).start(t)
	full.Store(true)
	if err := r.Report(entry.Command{Kind: entry.Closed, User: "report"}); err != nil {
		t.Fatal(err)
	}
	r.submit(t, "early")
	r.waitAnswer(t, "early", ErrRejected.Error())
	if err := r.Renew(7, "renewal", true); err != nil {
		t.Fatal(err)
	}
	r.waitAnswer(t, "renewal", ErrRenewalPending.Error())
	full.Store(false)
	r.submit(t, "late")
	r.waitAnswer(t, "late", "applied")
	r.wait(t, "the report applied", func() bool { return slices.Contains(r.commands, "report") })
	r.wait(t, "the lease renewed", func() bool { return slices.Contains(r.renewed, 7) })
	if slices.Contains(r.commands, "early") {
		t.Error("a refused command was applied")
	}
}

// TestJournal_RejectedAtIntervals: a journal that refuses each entry is not asked without end, though
// what waits for no answer waits for the next entry right away.
func TestJournal_RejectedAtIntervals(t *testing.T) {
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	var attempts atomic.Int64
	begun := time.Now()
	r := open(t, nc, "A", deaf(func(int64, func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		attempts.Add(1)
		return nil, &jetstream.APIError{Code: 503, ErrorCode: 10002, Description: "resource limits exceeded for account"}
	})).start(t)
	if err := r.Report(entry.Command{Kind: entry.Closed, User: "report"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Renew(7, "", false); err != nil {
		t.Fatal(err)
	}
	r.wait(t, "some attempts", func() bool { return attempts.Load() >= 5 })
	if n, most := attempts.Load(), 2+int64(time.Since(begun)/pauseRefused); n > most {
		t.Errorf("got %d attempts within %v, want at most %d", n, time.Since(begun), most)
	}
}

// TestJournal_Full: callers beyond Config.MaxWaiting are refused, renewals that nobody
// waits for are not.
func TestJournal_Full(t *testing.T) {
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	var down atomic.Bool
	r := open(t, nc, "A", deaf(func(_ int64, store func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		for down.Load() {
			time.Sleep(time.Millisecond)
		}
		return store()
	})).start(t)
	down.Store(true)
	for i := range DefaultMaxWaiting {
		r.submit(t, fmt.Sprint(i))
	}
	if err := r.Submit(entry.Command{Kind: entry.Set}, "more"); !errors.Is(err, ErrFull) {
		t.Errorf("Submit beyond the bound: got %v, want %v", err, ErrFull)
	}
	if err := r.Renew(1, "", false); err != nil {
		t.Errorf("Renew beyond the bound: %v", err)
	}
	if err := r.Renew(2, "renewal", true); !errors.Is(err, ErrRenewalPending) {
		t.Errorf("Renew with an answer beyond the bound: got %v, want %v", err, ErrRenewalPending)
	}
	down.Store(false)
	r.wait(t, "both leases renewed", func() bool { return slices.Contains(r.renewed, 1) && slices.Contains(r.renewed, 2) })
	r.wait(t, "all answered", func() bool { return len(r.answered) == DefaultMaxWaiting })
	r.submit(t, "after")
	r.waitAnswer(t, "after", "applied")
}

// TestJournal_FullOfBytes: a few large commands are enough for more to be refused. A barrier is not
// refused. When the commands are done, there is room again.
func TestJournal_FullOfBytes(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil)
	large := entry.Command{Kind: entry.Set, Text: strings.Repeat("x", 1<<19)}
	admitted := 0
	for range 200 {
		if err := r.Submit(large, fmt.Sprint(admitted)); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
		admitted++
	}
	if want := DefaultMaxWaitingBytes >> 19; admitted < want-1 || admitted > want {
		t.Errorf("%d halves of a MiB wait, want %d", admitted, want)
	}
	if err := r.Barrier("barrier"); err != nil {
		t.Errorf("Barrier: %v", err)
	}
	r.Journal.stop()
	if r.bytes != 0 || r.waiting != 0 {
		t.Errorf("nothing waits any more, and %d bytes of %d callers are counted", r.bytes, r.waiting)
	}
}

// TestJournal_Flood: however many commands wait, renewals, reports and barriers go
// with the next entry.
func TestJournal_Flood(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil)
	for i := range DefaultMaxWaiting - 2 {
		r.submit(t, fmt.Sprint(i))
	}
	for _, err := range []error{r.Renew(7, "renewal", true), r.Barrier("barrier"), r.Report(entry.Command{Kind: entry.Closed, User: "report"})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	e, callers := r.take()
	got := fmt.Sprint(callers.Renewals, callers.Barriers, e.Renewed, len(e.Commands) > len(callers.Commands))
	if want := "[{7 renewal}] [barrier] [7] true"; got != want {
		t.Errorf("the first entry: got %s, want %s", got, want)
	}
	if len(callers.Commands) < entry.MaxCommands/4 {
		t.Errorf("the first entry has %d commands", len(callers.Commands))
	}
}

// TestJournal_Recreated: a stream that begins anew is not taken for the journal.
func TestJournal_Recreated(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil).start(t)
	for i := range 5 {
		r.submit(t, fmt.Sprint(i))
		r.waitAnswer(t, fmt.Sprint(i), "applied")
	}
	if err := r.js.DeleteStream(t.Context(), DefaultStream); err != nil {
		t.Fatal(err)
	}
	open(t, nc, "B", nil) // writes a first entry
	r.Tick()
	select {
	case err := <-r.run:
		if err == nil || !errors.Is(err, ErrRestoredJournal) {
			t.Errorf("Run: got %v, want ErrRestoredJournal", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Run goes on with a recreated journal")
	}
}

// TestJournal_Poison: an entry that cannot be read stops the journal before it,
// and the error names it.
func TestJournal_Poison(t *testing.T) {
	for name, data := range map[string]string{"damaged": "\x01garbage", "newer": "\x1fwhatever", "text": "whatever", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			nc := startBroker(t)
			r := open(t, nc, "A", nil).start(t)
			if _, err := r.js.Publish(t.Context(), r.subject(), []byte(data)); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-r.run:
				if err == nil || !strings.Contains(err.Error(), "position 2") {
					t.Errorf("Run: got %v, want an error that names position 2", err)
				}
				// To start a newer version helps only where there is one.
				if newer := strings.Contains(err.Error(), "newer version"); newer != (name == "newer") || newer == strings.Contains(err.Error(), "--skip 2") {
					t.Errorf("Run: got %v, want it to name the cure, a newer version or --skip 2", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("Run goes on after a poisoned entry")
			}
		})
	}
}

// TestJournal_ConsumerLost: a consumer that disappears is replaced, and nothing
// is left out or applied twice.
func TestJournal_ConsumerLost(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil).start(t)
	r.submit(t, "before")
	r.waitAnswer(t, "before", "applied")
	names := r.stream.ConsumerNames(t.Context())
	for name := range names.Name() {
		if err := r.stream.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	r.submit(t, "after")
	r.waitAnswer(t, "after", "applied")
}

// TestJournal_ConsumerUnanswered: a cluster may give a consumer to a server that has just died, and
// then nobody answers. The follower asks again soon, and waits longer each time.
func TestJournal_ConsumerUnanswered(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil)
	deaf := &deafStream{Stream: r.stream, left: 2}
	r.stream = deaf
	begun := time.Now()
	r.start(t)
	r.submit(t, "after")
	r.waitAnswer(t, "after", "applied")
	if took := time.Since(begun); deaf.left != 0 || took < firstReplace*3 || took > 3*lastReplace {
		t.Errorf("it took %v, with %d more to be left unanswered; want it after two tries of %v and %v", took, deaf.left, firstReplace, 2*firstReplace)
	}
}

// TestJournal_Reconnected: a server that was started again has dropped the consumer. The follower
// replaces it at the reconnect, and does not wait until heartbeats are missing.
func TestJournal_Reconnected(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil)
	counted := &deafStream{Stream: r.stream}
	r.stream = counted
	r.start(t)
	for n := range int64(3) {
		user := fmt.Sprint(n)
		r.submit(t, user)
		r.waitAnswer(t, user, "applied")
		if err := nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		r.wait(t, "another consumer", func() bool { return counted.asked.Load() == n+2 })
	}
}

// deafStream leaves so many requests for a consumer unanswered.
type deafStream struct {
	jetstream.Stream
	left  int
	asked atomic.Int64
}

func (s *deafStream) CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	s.asked.Add(1)
	if s.left > 0 {
		s.left--
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Stream.CreateConsumer(ctx, cfg)
}

// TestG01_WrongStream: neither a stream that could lose entries can be the journal, nor a bucket
// that could lose snapshots can hold them. The tables of package streams have every setting.
func TestG01_WrongStream(t *testing.T) {
	js, err := jetstream.New(startBroker(t))
	if err != nil {
		t.Fatal(err)
	}
	async := func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }
	aged := func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }
	for i, c := range []struct {
		journal, bucket func(*jetstream.StreamConfig)
		want            string // in the error; empty: none
	}{
		{nil, nil, ""},
		{async, nil, "persist_mode Async"},
		{aged, nil, "nats stream edit J2 --max-age=0s"},
		{nil, async, "persist_mode Async"},
		{nil, aged, "nats stream edit OBJ_B4 --max-age=0s"},
	} {
		stream, bucket := fmt.Sprint("J", i), fmt.Sprint("B", i)
		journal := jetstream.StreamConfig{Name: stream, Subjects: []string{stream + ".entries"}, Discard: jetstream.DiscardNew, DenyDelete: true}
		snapshots := jetstream.StreamConfig{Name: "OBJ_" + bucket, Subjects: []string{"$O." + bucket + ".C.>", "$O." + bucket + ".M.>"},
			Discard: jetstream.DiscardNew, AllowRollup: true, AllowDirect: true}
		if c.journal != nil {
			c.journal(&journal)
		}
		if c.bucket != nil {
			c.bucket(&snapshots)
		}
		for _, cfg := range []jetstream.StreamConfig{journal, snapshots} {
			if _, err := js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(t.Context(), Config[string]{JetStream: js, Stream: stream, Bucket: bucket})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("Open of %s: got %v, want %q in it", stream, err, c.want)
		}
	}
}

// TestJournal_ManyRenewals: more renewals than fit into one entry are spread
// over several, each caller answered once.
func TestJournal_ManyRenewals(t *testing.T) {
	nc := startBroker(t)
	r := open(t, nc, "A", nil)
	const n = 3*entry.MaxCommands + 7
	for i := range n {
		if err := r.Renew(uint32(i), fmt.Sprint(i), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Barrier("barrier"); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.wait(t, "all answered", func() bool { return len(r.answered) == n+1 })
	if len(r.twice) > 0 {
		t.Errorf("answered twice: %d", len(r.twice))
	}
}
