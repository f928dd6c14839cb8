package admission

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"presence/pkg/protocol"
)

// asked is a request that notes when it is handled.
type asked struct{ handled, refused chan error }

func newAsked() asked { return asked{make(chan error, 1), make(chan error, 1)} }

func (a asked) Handle()          { a.handled <- nil }
func (a asked) Refuse(err error) { a.refused <- err }

func open() *Gate {
	return New(Limits{UserChanges: Unlimited, UserRenewals: Unlimited, GatewayOps: Unlimited, QueryBytes: 1 << 20, AskerBytes: 1 << 20})
}

// TestGate_Active: a request that waits in the gate counts as active until it is done. An instance
// that stops waits until none is active.
func TestGate_Active(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, query, refused := open(), newAsked(), newAsked()
		release := make(chan struct{})
		var ticket Ticket
		for what, err := range map[string]error{
			"a query":     g.Query(query, &ticket, "asker", 10),
			"contacts":    g.Contacts("alice", func(context.Context) { <-release }),
			"an ordering": g.Order(func(context.Context) { <-release }),
		} {
			if err != nil {
				t.Errorf("%s: got %v", what, err)
			}
		}
		if !g.Refuse(refused, protocol.ErrRateLimited) {
			t.Error("the refusal is not taken")
		}
		if n := g.Active(); n != 4 {
			t.Errorf("before Run %d are active, want 4", n)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { g.Run(ctx, ctx); close(ended) }()
		synctest.Wait()
		if n := g.Active(); n != 2 {
			t.Errorf("%d are active, want the two that are not done", n)
		}
		if err := <-refused.refused; !errors.Is(err, protocol.ErrRateLimited) {
			t.Errorf("refused with %v", err)
		}
		<-query.handled
		close(release)
		synctest.Wait()
		if n := g.Active(); n != 0 {
			t.Errorf("%d are active, and nothing is left", n)
		}
		stop()
		<-ended
	})
}

// TestGate_WorkAfterFailure: an instance that failed still answers what arrives until its
// subscriptions are gone. Its workers are told to give up their work, but they go on to take more.
func TestGate_WorkAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := open()
		answering, stop := context.WithCancel(t.Context())
		ctx, fail := context.WithCancel(answering)
		ended := make(chan struct{})
		go func() { g.Run(ctx, answering); close(ended) }()
		fail()
		synctest.Wait()
		told := make(chan error, 2)
		do := func(ctx context.Context) { told <- ctx.Err() }
		if err := errors.Join(g.Contacts("alice", do), g.Order(do)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(told) != 2 || g.Active() != 0 {
			t.Fatalf("%d of 2 were done, %d are active", len(told), g.Active())
		}
		for range 2 {
			if <-told == nil {
				t.Error("one was not told to give up")
			}
		}
		stop()
		<-ended
	})
}

// TestGate_RefusalsAreBounded: only so many refusals wait. Those beyond do not count as active.
func TestGate_RefusalsAreBounded(t *testing.T) {
	g := open()
	for i := range maxRefusals {
		if !g.Refuse(nil, nil) {
			t.Fatalf("refusal %d is not taken", i)
		}
	}
	if g.Refuse(nil, nil) || g.Active() != maxRefusals {
		t.Errorf("one more was taken, or %d are active", g.Active())
	}
}

// TestGate_SetLimits: what waits when the limits change is handled, the bounds of queries can grow,
// and what is used of an allowance stays used.
func TestGate_SetLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{UserChanges: 4, UserRenewals: Unlimited, GatewayOps: Unlimited, QueryBytes: 2 * queryOverhead, AskerBytes: 2 * queryOverhead}
		g := New(l)
		now := time.Now()
		for range 2 {
			if err := g.Change("alice", now); err != nil {
				t.Fatal(err)
			}
		}
		var before, after []asked
		ask := func(list *[]asked) error {
			q := newAsked()
			err := g.Query(q, new(Ticket), "asker", 0)
			if err == nil {
				*list = append(*list, q)
			}
			return err
		}
		if err := errors.Join(ask(&before), ask(&before)); err != nil || !errors.Is(ask(&before), protocol.ErrOverloaded) {
			t.Fatalf("two queries and no third should be let in: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		l.UserChanges, l.QueryBytes, l.AskerBytes = 8, 1000*queryOverhead, 1000*queryOverhead
		g.SetLimits(l)
		for range 998 {
			if err := ask(&after); err != nil {
				t.Fatalf("with a higher limit, the query %d: %v", len(after)+3, err)
			}
		}
		go func() { g.Run(ctx, ctx); close(ended) }()
		for _, q := range append(before, after...) {
			<-q.handled
		}
		// Half of the allowance was used, so half of the new one is left: 4 of 8.
		for n := range 5 {
			if err := g.Change("alice", now); (err == nil) != (n < 4) {
				t.Errorf("change %d after the reload: got %v", n+1, err)
			}
		}
		l.UserChanges = Unlimited
		g.SetLimits(l)
		for range 1000 {
			if err := g.Change("alice", now); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		<-ended
		if n := g.Active(); n != 0 {
			t.Errorf("%d are active, and nothing is left", n)
		}
	})
}
