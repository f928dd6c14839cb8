package service

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"presence/pkg/protocol"
)

// TestRevisionWaiters: each query is answered once, and the reasons differ. White-box, because no
// client can make a query arrive after the instance has refused those that wait.
func TestRevisionWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		responder := newResponder(&Service{})
		w := &revisionWaiters{responder: responder}
		answers := func() []answer {
			defer func() { responder.queue = nil }()
			return responder.queue
		}
		first, second := &get{}, &get{}
		for c, position := range map[*get]uint64{first: 10, second: 20} {
			if err := w.add(c, position); err != nil {
				t.Fatal(err)
			}
		}
		w.applied(9)
		if got := answers(); len(got) > 0 {
			t.Fatalf("at position 9: answered %v", got)
		}
		w.applied(10)
		if got := answers(); len(got) != 1 || got[0].to != first || got[0].err != nil {
			t.Fatalf("at position 10: answered %v, want the first", got)
		}
		time.Sleep(protocol.MinRevisionWait + time.Millisecond)
		w.applied(11)
		if got := answers(); len(got) != 1 || got[0].to != second || !errors.Is(got[0].err, protocol.ErrUnavailable) {
			t.Fatalf("after %v: answered %v, want that the second is refused", protocol.MinRevisionWait, got)
		}
		for range maxWaiters {
			if err := w.add(first, 10); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.add(second, 20); !errors.Is(err, protocol.ErrOverloaded) {
			t.Errorf("one more than %d: got %v, want %v", maxWaiters, err, protocol.ErrOverloaded)
		}
		w.stop()
		if got := answers(); len(got) != maxWaiters || w.any() {
			t.Errorf("stopped: %d are answered, want %d; some still wait: %t", len(got), maxWaiters, w.any())
		}
		if err := w.add(second, 20); !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("after it stopped: got %v, want %v", err, protocol.ErrUnavailable)
		}
	})
}
