package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
)

// hangingJS acknowledges nothing once it hangs. It notes until when each entry is published.
type hangingJS struct {
	jetstream.JetStream
	mu        sync.Mutex
	hangs     bool
	deadlines map[string]time.Time // by the user of the entry's command
}

func (h *hangingJS) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	h.mu.Lock()
	hangs := h.hangs
	var e entry.Entry
	if err := entry.Decode(m.Data, &e); err == nil && hangs && len(e.Commands) > 0 { // one may have renewals only
		h.deadlines[e.Commands[0].User], _ = ctx.Deadline()
	}
	h.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.JetStream.PublishMsg(ctx, m, opts...)
}

// TestJournal_GivesUpByArrival: the time to be packed and the time to be acknowledged have one
// limit together, from the request's arrival. Each once had a limit of its own, so that an answer
// could take twice as long as the contract says.
func TestJournal_GivesUpByArrival(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	js := &hangingJS{deadlines: map[string]time.Time{}}
	var mu sync.Mutex
	arrived := map[string]time.Time{}
	r := openWith(t, nc, "A", func(cfg *Config[string]) {
		js.JetStream = cfg.JetStream
		cfg.JetStream = js
		cfg.Arrived = func(caller string) time.Time {
			mu.Lock()
			defer mu.Unlock()
			return arrived[caller]
		}
	})
	r.giveUp = 500 * time.Millisecond
	r.start(t)
	js.mu.Lock()
	js.hangs = true
	js.mu.Unlock()
	for _, caller := range []string{"first", "second"} { // the second waits for the first one's turn to be over
		mu.Lock()
		arrived[caller] = time.Now()
		mu.Unlock()
		r.submit(t, caller)
		r.wait(t, "the first to be in flight", func() bool {
			js.mu.Lock()
			defer js.mu.Unlock()
			return len(js.deadlines) > 0
		})
	}
	for _, caller := range []string{"first", "second"} {
		r.waitAnswer(t, caller, ErrOutcomeUnknown.Error())
		js.mu.Lock()
		got := js.deadlines[caller]
		js.mu.Unlock()
		if want := arrived[caller].Add(r.giveUp); !got.Equal(want) {
			t.Errorf("%s is published until %v after it arrived, want %v", caller, got.Sub(arrived[caller]), r.giveUp)
		}
	}
}

// TestJournal_StoredAndNotBack: the callers of an acknowledged entry are answered in time, although
// the entry cannot be applied.
func TestJournal_StoredAndNotBack(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	r := open(t, nc, "A", nil)
	r.giveUp = 200 * time.Millisecond
	r.start(t)
	other := open(t, nc, "B", nil).start(t)
	r.asleep.Lock() // while it applies what the other does
	other.submit(t, "other")
	other.waitAnswer(t, "other", "applied")
	r.submit(t, "mine")
	r.waitAnswer(t, "mine", ErrOutcomeUnknown.Error())
	r.asleep.Unlock()
	r.wait(t, "all to be applied", func() bool { return slices.Equal(r.commands, []string{"other", "mine"}) })
	if r.Waiting() != 0 || len(r.twice) > 0 {
		t.Errorf("%d wait, answered twice: %v; want nobody", r.Waiting(), r.twice)
	}
}

// TestJournal_LateBehindAnother: a caller who waits to be packed is answered in time, although the
// entry before has more time, because that one has no callers.
func TestJournal_LateBehindAnother(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	open(t, nc, "genesis", nil)
	js := &hangingJS{deadlines: map[string]time.Time{}}
	long := time.Now().Add(-time.Minute)
	r := openWith(t, nc, "A", func(cfg *Config[string]) {
		js.JetStream = cfg.JetStream
		cfg.JetStream = js
		cfg.Arrived = func(string) time.Time { return long }
	})
	r.start(t)
	js.mu.Lock()
	js.hangs = true
	js.mu.Unlock()
	if err := r.Report(entry.Command{Kind: entry.Closed, User: "report"}); err != nil {
		t.Fatal(err)
	}
	r.wait(t, "the report to be in flight", func() bool {
		js.mu.Lock()
		defer js.mu.Unlock()
		return len(js.deadlines) > 0
	})
	begun := time.Now()
	r.submit(t, "late")
	if err := r.Renew(7, "late renewal", true); err != nil {
		t.Fatal(err)
	}
	r.waitAnswer(t, "late", ErrRejected.Error())
	r.waitAnswer(t, "late renewal", ErrRenewalPending.Error()) // not that nothing was done
	if !r.Unpacked() {
		t.Error("the late renewal is gone, and is to be done all the same")
	}
	if took := time.Since(begun); took > GiveUp/2 {
		t.Errorf("who is late was told so after %v, when the entry before was given up", took)
	}
}

// TestQueue_TakeLate_Everybody: all callers who wait for too long leave the queue, those of
// barriers and renewals too. The lease is renewed all the same.
func TestQueue_TakeLate_Everybody(t *testing.T) {
	var q Queue[string]
	q.Command(entry.Command{Kind: entry.Set, User: "old"}, "old command")
	q.Renew(7, "old renewal", true)
	q.Barrier("old read")
	q.Renew(8, "new renewal", true)
	q.Barrier("new read")
	late := func(caller string) bool { return caller[:3] == "old" }
	if got, want := q.TakeLate(late).all(), []string{"old command", "old read", "old renewal"}; !slices.Equal(got, want) {
		t.Errorf("TakeLate: got %q, want %q", got, want)
	}
	e, callers := q.Take()
	if got, want := callers.all(), []string{"new read", "new renewal"}; !slices.Equal(got, want) {
		t.Errorf("Take: got the callers %q, want %q", got, want)
	}
	if !slices.Equal(e.Renewed, []uint32{7, 8}) || len(e.Commands) > 0 {
		t.Errorf("Take: got %+v, want both leases renewed and no command", e)
	}
}

// TestAttempts_WithinTheContract: the times of an entry add up to no more than the contract says.
func TestAttempts_WithinTheContract(t *testing.T) {
	if LateAfter+AttemptTimeout > GiveUp {
		t.Errorf("an entry whose request waited %v has less than one publish of %v until %v", LateAfter, AttemptTimeout, GiveUp)
	}
	if _, outcome := new(Attempts).Failed(context.DeadlineExceeded); !errors.Is(outcome, ErrOutcomeUnknown) {
		t.Errorf("a publish without an answer: %v, want %v", outcome, ErrOutcomeUnknown)
	}
}
