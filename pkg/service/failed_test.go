package service

import (
	"log/slog"
	"testing"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/service/internal/journal"
)

// TestG10_ApplyPanics: applying an entry panics. Then the journal stops, and every caller is
// answered. Answering reads the state, so the state must not stay locked, and its half-changed
// content is not shown to anybody. White-box, because no entry is known that makes it panic.
func TestG10_ApplyPanics(t *testing.T) {
	s := &Service{log: slog.New(slog.DiscardHandler), instance: "w", state: state.New(), journal: &journal.Journal[waiter]{}}
	s.responder, s.announcer = newResponder(s), newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
	e := &entry.Entry{Header: entry.Header{Epoch: "E", Generation: 1, Instance: "w", Sequence: 1}}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not panic")
			}
		}()
		more := &journal.Callers[waiter]{Commands: []waiter{nil}} // than the entry has commands
		_ = s.apply(journal.Applied[waiter]{Entry: e, Position: 1, Time: 1_000, Callers: more})
	}()
	if !s.mu.TryLock() {
		t.Fatal("the state stays locked")
	}
	s.mu.Unlock()
	if !s.stateIsWrong() {
		t.Error("the state is still taken for right")
	}
}
