package journal

import (
	"testing"
	"time"

	"presence/pkg/internal/entry"
)

// TestGatherMany: after an entry of many commands, the next one waits for three quarters as many.
// Whatever else wants an entry ends that wait, and time does. After an entry of few commands
// nothing waits.
func TestGatherMany(t *testing.T) {
	r := open(t, startBroker(t), "A", nil) // it does not run, so nothing is packed
	gathered := make(chan struct{})
	gather := func() {
		go func() {
			r.gatherMany(t.Context())
			gathered <- struct{}{}
		}()
	}
	begin := func(last int, within time.Duration) {
		r.Journal.mu.Lock()
		r.pending = Queue[string]{}
		r.Journal.mu.Unlock()
		r.lastCommands, r.gatherWithin = last, within
		gather()
	}
	ends := func(what string) {
		t.Helper()
		select {
		case <-gathered:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it still waits", what)
		}
		r.Journal.mu.Lock()
		defer r.Journal.mu.Unlock()
		if r.many != 0 {
			t.Errorf("%s: many is %d afterwards, want 0: who submits next would wake nobody", what, r.many)
		}
	}
	waits := func(what string) {
		t.Helper()
		for begun := time.Now(); ; time.Sleep(time.Millisecond) {
			r.Journal.mu.Lock()
			many := r.many
			r.Journal.mu.Unlock()
			if many != 0 {
				return
			}
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("%s: it does not wait", what)
			}
		}
	}
	submit := func() {
		t.Helper()
		if err := r.Submit(entry.Command{Kind: entry.Set, User: "alice"}, "caller"); err != nil {
			t.Fatal(err)
		}
	}

	begin(100, time.Hour)
	waits("after 100 commands")
	for i := range 74 {
		if submit(); len(r.wake) != 0 {
			t.Errorf("command %d woke it, want the 75th", i+1)
		}
	}
	submit()
	ends("75 commands after 100")
	gather()
	ends("75 commands that are there already")

	for what, want := range map[string]func(){
		"a tick":    r.Tick,
		"a report":  func() { _ = r.Report(entry.Command{Kind: entry.Closed}) },
		"a renewal": func() { _ = r.Renew(1, "caller", false) },
	} {
		begin(100, time.Hour)
		waits("before " + what)
		want()
		ends(what)
	}

	begin(100, time.Millisecond)
	ends("a millisecond")
	begin(gatherLeast-1, time.Hour)
	ends("few commands")
	submit()
	if len(r.wake) != 1 {
		t.Error("a command afterwards wakes nobody")
	}
}
