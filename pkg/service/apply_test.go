package service

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
)

// TestApply_EmptyEntryKeepsReports: an entry of this instance counts as empty, perhaps because it
// was stored too late. The reports in it, which nobody waits for, are packed again. White-box,
// because a broker that is so slow takes long.
func TestApply_EmptyEntryKeepsReports(t *testing.T) {
	s := &Service{log: slog.New(slog.DiscardHandler), instance: "w", state: state.New(), journal: &journal.Journal[waiter]{}}
	s.responder, s.announcer = newResponder(s), newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
	e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "w", Sequence: 1},
		Commands: []entry.Command{{Kind: entry.Closed, Server: "N", Client: 7}}}
	for position := uint64(1); position <= 2; position++ {
		if err := s.apply(journal.Applied[waiter]{Entry: e, Position: position, Time: 1_000, Callers: &journal.Callers[waiter]{}}); err != nil {
			t.Fatal(err)
		}
		if got, want := s.journal.Unpacked(), position == 2; got != want {
			t.Errorf("stored %d times, the report waits to be packed again: %t, want %t", position, got, want)
		}
	}
}

// TestApply_EmptyEntryKeepsRenewals: the renewals of such an entry are done with the next one.
// So their callers are not told that nothing was done (PROTOCOL 6).
func TestApply_EmptyEntryKeepsRenewals(t *testing.T) {
	s := &Service{log: slog.New(slog.DiscardHandler), instance: "w", state: state.New(), journal: &journal.Journal[waiter]{}}
	s.responder, s.announcer = newResponder(s), newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
	e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "w", Sequence: 1}}
	if err := s.apply(journal.Applied[waiter]{Entry: e, Position: 1, Time: 1_000, Callers: &journal.Callers[waiter]{}}); err != nil {
		t.Fatal(err)
	}
	again := &entry.Entry{Header: e.Header, Renewed: []uint32{7}, Commands: []entry.Command{{Kind: entry.Set, User: "alice"}}}
	callers := &journal.Callers[waiter]{Commands: []waiter{&barrier{}}, Renewals: []journal.Renewing[waiter]{{Number: 7, Caller: &barrier{}}}}
	if err := s.apply(journal.Applied[waiter]{Entry: again, Position: 2, Time: 1_000, Callers: callers}); err != nil {
		t.Fatal(err)
	}
	if !s.journal.Unpacked() {
		t.Error("the renewal does not wait for the next entry")
	}
	for i, want := range []*protocol.Error{protocol.ErrUnavailable, protocol.ErrOverloaded} {
		if got := s.responder.queue[i].err; !errors.Is(got, want) {
			t.Errorf("answer %d: got %v, want %s", i, got, want.Name)
		}
	}
}

// TestApply_SaysThatAnAmnestyBegins: an operator who wonders why nobody is lost finds the reason in
// the log, once. Amnesties from before this instance started are not logged.
func TestApply_SaysThatAnAmnestyBegins(t *testing.T) {
	var logged strings.Builder
	s := &Service{log: slog.New(slog.NewTextHandler(&logged, nil)), instance: "w", state: state.New(), journal: &journal.Journal[waiter]{}}
	s.responder, s.announcer = newResponder(s), newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
	at, sequence := int64(1_000), uint64(0)
	apply := func(after time.Duration) {
		t.Helper()
		at, sequence = at+after.Milliseconds(), sequence+1
		e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "v", Sequence: sequence}}
		if err := s.apply(journal.Applied[waiter]{Entry: e, Position: sequence, Time: at}); err != nil {
			t.Fatal(err)
		}
	}
	apply(0)
	apply(time.Minute)
	for range 60 {
		apply(time.Second)
	}
	if logged.Len() > 0 {
		t.Errorf("of what was before it logged:\n%s", logged.String())
	}
	s.registered.Store(true)
	apply(time.Minute)
	apply(time.Second)
	if got := strings.Count(logged.String(), "there was an outage"); got != 1 {
		t.Errorf("logged %d times that there was an outage, want once:\n%s", got, logged.String())
	}
}

// TestOutcomeWithin: the journal gives an entry up in time to answer the callers, and an entry
// counts for no longer than its callers wait.
func TestOutcomeWithin(t *testing.T) {
	if journal.GiveUp >= protocol.OutcomeWithin {
		t.Errorf("an entry is given up after %v, and callers are promised an answer within %v", journal.GiveUp, protocol.OutcomeWithin)
	}
	if state.CountsFor+state.Skew >= protocol.OutcomeWithin {
		t.Errorf("an entry counts for %v, with clocks that are %v off; a read settles it after %v", state.CountsFor, state.Skew, protocol.OutcomeWithin)
	}
}

// TestStamp_WhileCatchingUp: an entry that is packed while the instance catches up counts for no
// longer than its callers wait. White-box, like the one above.
func TestStamp_WhileCatchingUp(t *testing.T) {
	s := &Service{log: slog.New(slog.DiscardHandler), instance: "w", state: state.New(), journal: &journal.Journal[waiter]{}}
	s.responder, s.announcer = newResponder(s), newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
	s.registered.Store(true)
	then := time.Now().Add(-time.Hour)
	e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "v", Sequence: 1}}
	if err := s.apply(journal.Applied[waiter]{Entry: e, Position: 1, Time: then.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	var h entry.Header
	s.stamp(&h, time.Now())
	if got := time.UnixMilli(h.StoreBy); got.Before(then) || got.After(then.Add(30*time.Minute)) {
		t.Errorf("an entry as of %v counts until %v", then, got)
	}
}
