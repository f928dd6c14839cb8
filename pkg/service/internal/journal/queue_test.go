package journal

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
)

// TestQueue_OldestRenewalsFirst: if more leases are to be renewed than fit into an entry, none
// waits for ever. Without an order, some would.
func TestQueue_OldestRenewalsFirst(t *testing.T) {
	var q Queue[int]
	const leases = 3 * entry.MaxCommands
	for n := range uint32(leases) {
		q.Renew(n, int(n), true)
	}
	for next := uint32(0); next < leases; {
		e, callers := q.Take()
		for i, number := range e.Renewed[:min(len(e.Renewed), int(leases-next))] {
			if number != next || callers.Renewals[i].Caller != int(next) {
				t.Fatalf("Take() renews lease %d for caller %d, want %d", number, callers.Renewals[i].Caller, next)
			}
			next++
		}
		q.Renew(0, 0, false) // comes again and again
	}
}

// TestQueue_PutBack: the reports and renewals of an entry that did nothing go into the next one.
// That holds for a decoded entry too, whose memory is used again.
func TestQueue_PutBack(t *testing.T) {
	var q Queue[int]
	q.Command(entry.Command{Kind: entry.Set, User: "alice"}, 1)
	if err := q.Report(entry.Command{Kind: entry.Closed, Client: 7}); err != nil {
		t.Fatal(err)
	}
	q.Renew(3, 0, false)
	e, callers := q.Take()
	q.PutBack(e, callers)
	e.Commands[1] = entry.Command{Kind: entry.RequestsLost}
	again, _ := q.Take()
	if len(again.Commands) != 1 || again.Commands[0].Client != 7 || len(again.Renewed) != 1 || again.Renewed[0] != 3 {
		t.Errorf("after PutBack() the next entry is %+v, want the report of connection 7 and the renewal of lease 3", again)
	}
}

// TestForgetState_KeepsReports: no report that is in flight is lost when the state is built anew,
// for example because its next entry was trimmed.
func TestForgetState_KeepsReports(t *testing.T) {
	j := &Journal[int]{wake: make(chan struct{}, 1), inFlight: map[uint64]*inFlight[int]{1: {
		entry:   &entry.Entry{Commands: []entry.Command{{Kind: entry.Closed, Client: 7}}},
		callers: &Callers[int]{},
		done:    make(chan struct{}),
	}}}
	j.forgetState()
	e, _ := j.take()
	if e == nil || len(e.Commands) != 1 || e.Commands[0].Client != 7 {
		t.Errorf("after forgetState() the next entry is %+v, want the report of connection 7", e)
	}
}

// TestQueue_TakeIsCheap: what it costs to make an entry depends on the entry only, and not on how
// many commands wait behind it. Earlier each entry copied all of those, which made an overload
// worse.
func TestQueue_TakeIsCheap(t *testing.T) {
	var q Queue[int]
	const waiting = 16 * entry.MaxCommands
	for i := range waiting {
		q.Command(entry.Command{Kind: entry.Set, User: "alice"}, i)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := 0; i < waiting; {
		e, callers := q.Take()
		if callers.Commands[0] != i || len(callers.Commands) != len(e.Commands) {
			t.Fatalf("an entry begins with caller %d and has %d of %d, want %d and all", callers.Commands[0], len(callers.Commands), len(e.Commands), i)
		}
		i += len(e.Commands)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / waiting; got > 16 {
		t.Errorf("taking %d commands by the entry allocated %d bytes each, want next to nothing", waiting, got)
	}
}

// TestQueue_Take_AppendsBehind: commands that come later do not overwrite those in an entry.
func TestQueue_Take_AppendsBehind(t *testing.T) {
	var q Queue[int]
	for i := range entry.MaxCommands + 1 {
		q.Command(entry.Command{Kind: entry.Set, User: "before"}, i)
	}
	if err := q.Report(entry.Command{Kind: entry.Closed, User: "report"}); err != nil {
		t.Fatal(err)
	}
	e, _ := q.Take()
	for i := range 3 * entry.MaxCommands {
		q.Command(entry.Command{Kind: entry.Set, User: "after"}, i)
	}
	last := len(e.Commands) - 1
	for i, c := range e.Commands {
		if want := "before"; c.User != want && (i < last || c.User != "report") {
			t.Fatalf("command %d of the entry became one of %q", i, c.User)
		}
	}
	if next, _ := q.Take(); next.Commands[0].User != "before" {
		t.Errorf("the next entry begins with a command of %q, want what was left of before", next.Commands[0].User)
	}
}

// TestQueue_TakeLate: only callers who have waited for too long leave the queue. The next entry has
// the rest.
func TestQueue_TakeLate(t *testing.T) {
	var q Queue[string]
	for _, user := range []string{"old1", "old2", "new1", "new2"} {
		q.Command(entry.Command{Kind: entry.Set, User: user}, user)
	}
	late := func(caller string) bool { return strings.HasPrefix(caller, "old") }
	if got := q.TakeLate(late).all(); !slices.Equal(got, []string{"old1", "old2"}) {
		t.Errorf("TakeLate: got %q, want old1 and old2", got)
	}
	if got := q.TakeLate(late).all(); len(got) > 0 {
		t.Errorf("TakeLate again: got %q, want nobody", got)
	}
	e, callers := q.Take()
	if !slices.Equal(callers.Commands, []string{"new1", "new2"}) || len(e.Commands) != 2 || e.Commands[0].User != "new1" {
		t.Errorf("Take: got %q and %+v, want those of new1 and new2", callers.Commands, e.Commands)
	}
}

// TestQueue_SmallPayload: whatever Submit has admitted, no entry is larger than the server takes,
// and each entry takes something of what waits.
func TestQueue_SmallPayload(t *testing.T) {
	for _, payload := range []int{16 << 10, 64 << 10, 1 << 20} {
		var q Queue[int]
		q.Bytes = entryBytes(payload)
		largest := entry.Command{Kind: entry.Set, Text: strings.Repeat("x", largestCommand(payload)-200)}
		for n := range uint32(20_000) {
			q.Renew(n, 0, n%2 == 0)
		}
		for n := range 2000 {
			if err := q.Report(entry.Command{Kind: entry.Closed, Server: strings.Repeat("N", 56), Client: uint64(n)}); err != nil {
				t.Fatal(err)
			}
			c := entry.Command{Kind: entry.Set, User: "alice", Text: strings.Repeat("x", n%400)}
			if n%500 == 0 {
				c = largest
			}
			if c.EncodedSize() > largestCommand(payload) {
				t.Fatalf("of %d bytes a command may have %d, this has %d", payload, largestCommand(payload), c.EncodedSize())
			}
			q.Command(c, n)
		}
		entries := 0
		for ; !q.Empty(); entries++ {
			e, _ := q.Take()
			e.Header = entry.Header{Epoch: strings.Repeat("E", 36), Instance: strings.Repeat("W", 64)}
			data, err := entry.Append(nil, e)
			if err != nil {
				t.Fatal(err)
			}
			if len(data)+headersOfEntry > payload {
				t.Fatalf("where a message may have %d bytes, an entry has %d", payload, len(data))
			}
			if len(e.Commands)+len(e.Renewed) == 0 {
				t.Fatal("an entry takes nothing of what waits")
			}
		}
		t.Logf("payload %d: %d entries", payload, entries)
	}
}

// TestAttempts_TooLarge: an entry that is too large for the server is not sent by the client
// library. So it is not stored, and not published again.
func TestAttempts_TooLarge(t *testing.T) {
	var a Attempts
	if again, outcome := a.Failed(nats.ErrMaxPayload); again || !errors.Is(outcome, ErrRejected) {
		t.Errorf("got %t, %v, want that it is rejected and not sent again", again, outcome)
	}
}
