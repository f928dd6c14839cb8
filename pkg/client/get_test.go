package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

func TestGetSplitsLongLists(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	ids := []string{"", "user0"} // one is not valid, one is repeated
	for i := range 1203 {
		ids = append(ids, fmt.Sprintf("user%d", i))
	}
	f.failUser("user7", protocol.ErrInternal)

	got, err := c.GetUserStatus(testContext(t), ids, client.Fresh(), client.Detail())
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range got.SuccessUserList {
		order = append(order, s.UserID)
	}
	if want := slices.DeleteFunc(slices.Clone(ids[2:]), func(id string) bool { return id == "user7" }); !slices.Equal(order, want) {
		t.Errorf("got %d users, %v…, want %d in the order asked", len(order), order[:3], len(want))
	}
	if l := got.FailureUserList; len(l) != 2 || !errors.Is(l[0].Err(), protocol.ErrInvalidUserID) || l[1].UserID != "user7" {
		t.Errorf("failures %v, want the empty ID and user7", l)
	}
	if got.Revision != f.Revision() || got.Epoch != f.Epoch() || got.Stale {
		t.Errorf("revision %d, epoch %q, stale %v, want those of the journal", got.Revision, got.Epoch, got.Stale)
	}
	var sizes []int
	for i, g := range asked[protocol.GetRequest](f, "get") {
		sizes = append(sizes, len(g.UserIDList))
		if !g.Detail || g.Fresh != (i == 0) || i > 0 && (g.MinRevision != got.Revision || g.Epoch != got.Epoch) {
			t.Errorf("page %d was asked with detail %v, fresh %v, minRevision %d, epoch %q", i, g.Detail, g.Fresh, g.MinRevision, g.Epoch)
		}
	}
	if !slices.Equal(sizes, []int{500, 500, 203}) {
		t.Errorf("pages of %v, want 500, 500, 203", sizes)
	}
}

func TestGetHalvesWhatIsTooLarge(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	ids := []string{"a", "b", "c", "d", "e", "f", "g"}
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		var get protocol.GetRequest
		if r.Op == "get" && r.Into(&get) == nil && len(get.UserIDList) > 2 {
			return nil, protocol.ErrRequestTooLarge
		}
		return next()
	})
	got, err := c.GetUserStatus(testContext(t), ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range got.SuccessUserList {
		if s.UserID != ids[i] {
			t.Errorf("user %d is %q, want %q", i, s.UserID, ids[i])
		}
	}
	if len(got.SuccessUserList) != len(ids) {
		t.Errorf("got %d users, want %d", len(got.SuccessUserList), len(ids))
	}
	f.Fail("get", protocol.ErrRequestTooLarge)
	if _, err := c.GetUserStatus(testContext(t), ids); !errors.Is(err, protocol.ErrRequestTooLarge) {
		t.Errorf("where one user is too large: %v, want request_too_large", err)
	}
}

func TestGetOfNobodyAsksNobody(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	got, err := c.GetUserStatus(testContext(t), []string{strings.Repeat("x", 129)})
	if err != nil || len(got.FailureUserList) != 1 || f.count("get") != 0 {
		t.Errorf("got %v, %v after %d requests, want one failure after none", got, err, f.count("get"))
	}
}

func TestGetShowsOwnWrites(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	ctx := testContext(t)
	status, err := c.SetSelfStatus(ctx, "alice", "busy", client.ExpiresIn(time.Minute))
	if err != nil || status.CustomStatus != "busy" {
		t.Fatalf("SetSelfStatus: %v, %v", status, err)
	}
	if _, err := c.GetUserStatus(ctx, []string{"alice"}); err != nil {
		t.Fatal(err)
	}
	if g := asked[protocol.GetRequest](f, "get")[0]; g.MinRevision != status.Revision || g.Epoch != f.Epoch() {
		t.Errorf("asked with minRevision %d, epoch %q, want %d, %q", g.MinRevision, g.Epoch, status.Revision, f.Epoch())
	}
}

func TestGetTellsStale(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	f.SetStale(true)
	if got, err := c.GetUserStatus(testContext(t), []string{"alice"}); err != nil || !got.Stale {
		t.Errorf("got stale %v, %v, want true", got.Stale, err)
	}
}

func TestErrorsOfTheWire(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{Timeout: 100 * time.Millisecond})
	ctx := testContext(t)
	set := func() error { _, err := c.SetSelfStatus(ctx, "alice", "x", client.IfRevision(0)); return err }

	f.Fail(protocol.OpSet, protocol.ErrRevisionConflict.With("it has 4"))
	if err := set(); !errors.Is(err, protocol.ErrRevisionConflict) || !strings.Contains(err.Error(), "it has 4") {
		t.Errorf("got %v, want revision_conflict as the service said it", err)
	}

	f.Fail(protocol.OpSet, protocol.ErrOverloaded)
	asked := f.count(protocol.OpSet)
	done := make(chan error, 1)
	go func() { done <- set() }()
	eventually(t, "a set is tried again", func() bool { return f.count(protocol.OpSet) > asked+1 })
	f.Fail(protocol.OpSet, nil)
	if err := <-done; err != nil {
		t.Errorf("after it was overloaded: %v", err)
	}

	f.Fail(protocol.OpSet, clienttest.ErrNoAnswer)
	f.Fail("get", clienttest.ErrNoAnswer)
	asked = f.count(protocol.OpSet)
	if err := set(); !errors.Is(err, protocol.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a set without an answer: %v, want outcome_unknown", err)
	}
	if n := f.count(protocol.OpSet) - asked; n != 1 {
		t.Errorf("a set without an answer was sent %d times, want once", n)
	}
	if _, err := c.GetUserStatus(ctx, []string{"alice"}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, protocol.ErrOutcomeUnknown) {
		t.Errorf("a get without an answer: %v, want a deadline exceeded", err)
	}
	if n := f.count("get"); n != 3 {
		t.Errorf("a get without an answer was sent %d times, want 3", n)
	}

	if _, err := c.SetSelfStatus(ctx, "", "x"); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("an empty user ID: %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{Prefix: "elsewhere"})
	_, err := c.GetUserStatus(testContext(t), []string{"alice"})
	if !errors.Is(err, protocol.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) || !strings.Contains(err.Error(), "elsewhere.get") {
		t.Errorf("got %v, want unavailable that says who does not answer", err)
	}
}

// TestNobodyAnswersForAWhile: a request that comes while the only instance
// restarts is answered by the next one.
func TestNobodyAnswersForAWhile(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	f.Leave()
	done := make(chan error, 1)
	go func() { _, err := c.SetSelfStatus(testContext(t), "alice", "x"); done <- err }()
	select {
	case err := <-done:
		t.Fatalf("given up at once: %v", err)
	case <-time.After(300 * time.Millisecond): // how long it is away
	}
	f.Return()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRequestsWaitForTheConnection(t *testing.T) {
	f := newFake(t)
	c, _, cable := f.connect(client.Options{})
	cable.Cut()
	eventually(t, "blind", func() bool { return !c.State().Live })
	short, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if _, err := c.SetSelfStatus(short, "alice", "x"); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("a set while disconnected: %v, want unavailable: nothing was done", err)
	}
	done := make(chan error, 1)
	go func() { _, err := c.SetSelfStatus(testContext(t), "alice", "y"); done <- err }()
	cable.Mend()
	if err := <-done; err != nil {
		t.Errorf("a set that waited for the connection: %v", err)
	}
	if n := f.count(protocol.OpSet); n != 1 {
		t.Errorf("%d sets arrived, want 1: the first was given up", n)
	}
}

func TestClosedConnection(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	nc.Close()
	if _, err := c.GetUserStatus(testContext(t), []string{"alice"}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want that the connection is closed", err)
	}
	eventually(t, "blind for good", func() bool { return c.State().Reason == client.Closed })
}
