package client_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// windowed is a gateway whose applies a test answers one by one.
type windowed struct {
	*fakeLease
	g       *client.Gateway
	mu      sync.Mutex
	answers map[uint64][]func(next func() (any, error)) (any, error)
}

// newWindowed opens a gateway. Whatever the test does not say is answered as the service would.
func newWindowed(t *testing.T) *windowed {
	t.Helper()
	w := &windowed{fakeLease: newFakeLease(t), answers: map[uint64][]func(func() (any, error)) (any, error){}}
	w.g = w.open(client.GatewayOptions{})
	w.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		var apply protocol.ApplyRequest
		if r.Op != "gateway.apply" || r.Into(&apply) != nil {
			return next()
		}
		w.mu.Lock()
		answer := next
		if list := w.answers[apply.Seq]; len(list) > 0 {
			first := list[0]
			answer, w.answers[apply.Seq] = func() (any, error) { return first(next) }, list[1:]
		}
		w.mu.Unlock()
		return answer()
	})
	return w
}

// answer says how the next copies of an apply are answered.
func (w *windowed) answer(seq uint64, list ...func(next func() (any, error)) (any, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[seq] = append(w.answers[seq], list...)
}

// undone answers without doing it, unheard does it and does not answer.
func undone(err error) func(func() (any, error)) (any, error) {
	return func(func() (any, error)) (any, error) { return nil, err }
}

func unheard(next func() (any, error)) (any, error) {
	_, _ = next()
	return nil, clienttest.ErrNoAnswer
}

// calls makes calls one after the other, without waiting for the answers: each is on its way before
// the next is made.
func (w *windowed) calls(list ...func() error) (errs []error) {
	w.t.Helper()
	var wg sync.WaitGroup
	errs = make([]error, len(list))
	for i, call := range list {
		sent := len(w.logged())
		wg.Go(func() { errs[i] = call() })
		eventually(w.t, fmt.Sprintf("call %d is sent or waits", i), func() bool { return len(w.logged()) > sent || client.Waiting(w.g) > 0 })
	}
	wg.Wait()
	return errs
}

func (w *windowed) set(user, text string) func() error {
	return func() error { return w.g.SetStatus(testContext(w.t), user, text) }
}

func (w *windowed) wantText(user, text string) {
	w.t.Helper()
	if got := w.Status(user).CustomStatus; got != text {
		w.t.Errorf("%s has the text %q, want %q", user, got, text)
	}
}

// Four are under way, and the fifth waits. Those that were done and not answered are sent again,
// byte for byte, and done once.
func TestGatewayWindow(t *testing.T) {
	w := newWindowed(t)
	for seq := uint64(1); seq <= 4; seq++ {
		w.answer(seq, unheard)
	}
	var list []func() error
	for i := range 6 {
		list = append(list, w.set("alice", fmt.Sprint(i)))
	}
	for i, err := range w.calls(list...) {
		if err != nil {
			t.Errorf("set %d: %v", i, err)
		}
	}
	w.wantText("alice", "5")
	log := w.logged()
	if first := []string{"1 set:alice", "2 set:alice", "3 set:alice", "4 set:alice", "1 set:alice"}; !slices.Equal(log[:5], first) {
		t.Errorf("sent first: %q, want %q", log[:5], first)
	}
	bodies := map[uint64]string{}
	for _, r := range w.Requests("gateway.apply") {
		var apply protocol.ApplyRequest
		must(t, r.Into(&apply))
		if before, ok := bodies[apply.Seq]; ok && before != string(r.Body) {
			t.Errorf("seq %d was sent as %s, and as %s", apply.Seq, before, r.Body)
		}
		bodies[apply.Seq] = string(r.Body)
	}
	if n := len(w.opens()); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
}

// What overtakes the one before it is refused, and sent again after that. Two changes of one user
// are done in their order, whatever became of the first attempt of the first one.
func TestGatewayOvertaken(t *testing.T) {
	for name, refused := range map[string]error{
		"lost on the way": clienttest.ErrNoAnswer, "unavailable": protocol.ErrUnavailable,
		"overloaded": protocol.ErrOverloaded, "unknown": protocol.ErrOutcomeUnknown, "rate limited": protocol.ErrRateLimited,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindowed(t)
			w.answer(1, undone(refused))
			errs := w.calls(w.set("alice", "first"), w.set("alice", "second"), w.set("alice", "third"))
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
			w.wantText("alice", "third")
			if n := len(w.opens()); n != 1 {
				t.Errorf("%d leases, want 1", n)
			}
			// The others answer before the second is sent. The third may be sent once or twice.
			want := []string{"1 set:alice", "2 set:alice", "1 set:alice", "2 set:alice"}
			log := slices.DeleteFunc(w.logged(), func(s string) bool { return s == "3 set:alice" })
			if refused == clienttest.ErrNoAnswer && !slices.Equal(log, want) {
				t.Errorf("applies: %q, want %q", log, want)
			}
			if refused != clienttest.ErrNoAnswer {
				return
			}
			// From then on one is under way, until many were answered in order.
			before := len(w.logged())
			w.answer(4, undone(clienttest.ErrNoAnswer))
			if err := errors.Join(w.calls(w.set("alice", "fourth"), w.set("alice", "fifth"))...); err != nil {
				t.Error(err)
			}
			if log, want := w.logged()[before:], []string{"4 set:alice", "4 set:alice", "5 set:alice"}; !slices.Equal(log, want) {
				t.Errorf("applies: %q, want %q", log, want)
			}
			for i := range client.TrustAfter {
				must(t, w.set("alice", fmt.Sprint(i))())
			}
			before = len(w.logged())
			next := uint64(6 + client.TrustAfter)
			w.answer(next, undone(clienttest.ErrNoAnswer))
			if err := errors.Join(w.calls(w.set("alice", "a"), w.set("alice", "b"))...); err != nil {
				t.Error(err)
			}
			if log, want := w.logged()[before+1], fmt.Sprint(next+1, " set:alice"); log != want {
				t.Errorf("behind the first one came %q, want %q", log, want)
			}
		})
	}
}

// The lease is lost while several are under way. What surely was not done is done on the next one,
// in order.
func TestGatewayLosesTheLeaseUnderWay(t *testing.T) {
	w := newWindowed(t)
	ctx := testContext(t)
	must(t, w.g.Login(ctx, "alice", "s1", client.GatewayLogin{}))
	for seq := uint64(2); seq <= 4; seq++ {
		w.answer(seq, undone(protocol.ErrLeaseNotFound))
	}
	errs := w.calls(w.set("alice", "first"), func() error { return w.g.Login(ctx, "bob", "s1", client.GatewayLogin{}) }, w.set("alice", "third"))
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	w.wantText("alice", "third")
	if w.Status("bob").StatusType != protocol.Online || w.g.Sessions() != 2 || len(w.opens()) != 2 {
		t.Errorf("bob is %v, %d sessions, %d leases", w.Status("bob").StatusType, w.g.Sessions(), len(w.opens()))
	}
}

// The first one was done and nobody heard of it, a later one was answered, and then the lease is
// lost. The answer counts. A set whose outcome is not known is not repeated. Sessions end as the
// order of the calls says.
func TestGatewayLosesTheLeaseAfterAnAnswer(t *testing.T) {
	w := newWindowed(t)
	ctx := testContext(t)
	must(t, w.g.Login(ctx, "alice", "s1", client.GatewayLogin{}))
	w.answer(2, unheard, undone(protocol.ErrLeaseNotFound))
	w.answer(3, unheard, undone(protocol.ErrLeaseNotFound))
	errs := w.calls(
		func() error { return w.g.Logout(ctx, "alice", "s1") }, // done twice: on the next lease, too
		w.set("bob", "of unknown outcome"),
		w.set("carol", "answered"),
		func() error { return w.g.Login(ctx, "alice", "s1", client.GatewayLogin{}) },
	)
	for i, want := range []error{nil, protocol.ErrOutcomeUnknown, nil, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("call %d: got %v, want %v", i, errs[i], want)
		}
	}
	if w.Status("alice").StatusType != protocol.Online || w.g.Sessions() != 1 {
		t.Errorf("alice is %v, %d sessions", w.Status("alice").StatusType, w.g.Sessions())
	}
	w.wantText("carol", "answered")
}

// A defect of one is told to its callers, and the others are done on the next lease.
func TestGatewayDefectUnderWay(t *testing.T) {
	w := newWindowed(t)
	w.answer(2, undone(protocol.ErrInternal))
	errs := w.calls(w.set("alice", "first"), w.set("alice", "second"), w.set("alice", "third"))
	if errs[0] != nil || !errors.Is(errs[1], protocol.ErrInternal) || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	w.wantText("alice", "third")
	eventually(t, "the first lease is closed", func() bool { return w.count("gateway.close") == 1 })
	if len(w.opens()) != 2 {
		t.Errorf("%d leases, want 2", len(w.opens()))
	}
}
