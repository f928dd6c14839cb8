package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// A set whose outcome is unknown is settled by the first fresh read 10 s after it.
func ExampleClient_Settle() {
	c, end := example(clienttest.Options{})
	defer end()
	ctx := context.Background()

	presence.FailNext(protocol.OpSet, protocol.ErrOutcomeUnknown)
	_, err := c.SetSelfStatus(ctx, "alice", "in a meeting")
	unknown, ok := errors.AsType[*client.UnknownOutcome](err)
	if !ok {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(err, protocol.ErrOutcomeUnknown))

	// Settle waits for 11 s. Here the set was sent so long ago: an example is to be quick.
	own, err := c.Settle(ctx, "alice", unknown.SentAt.Add(-11*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(own.Status.CustomStatus == "in a meeting") // it was not done, and never will be
	// Output:
	// true
	// false
}

func TestSettle(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{Timeout: 100 * time.Millisecond})
	ctx := testContext(t)
	for what, fail := range map[string]error{"said so": protocol.ErrOutcomeUnknown, "no answer": clienttest.ErrNoAnswer} {
		f.FailNext(protocol.OpSet, fail)
		begun := time.Now()
		_, err := c.SetAvailability(ctx, "alice", protocol.Invisible)
		u, ok := errors.AsType[*client.UnknownOutcome](err)
		if !ok || !errors.Is(err, protocol.ErrOutcomeUnknown) || u.SentAt.Before(begun) || u.SentAt.After(time.Now()) {
			t.Fatalf("%s: got %v, want an unknown outcome and when it was sent", what, err)
		}
		if got := u.SettledAt().Sub(u.SentAt); got <= protocol.OutcomeWithin {
			t.Errorf("settled after %v, want more than %v", got, protocol.OutcomeWithin)
		}
	}
	if _, err := c.SetAvailability(ctx, "alice", protocol.Invisible); err != nil {
		t.Fatal(err)
	}

	const left = 300 * time.Millisecond // of the wait
	sent := time.Now().Add(left - 11*time.Second)
	begun, gets := time.Now(), len(asked[protocol.GetRequest](f, "get"))
	own, err := c.Settle(ctx, "alice", sent)
	if err != nil || own.Availability.Lasting != protocol.Invisible {
		t.Errorf("got %+v, %v, want the truth of an invisible user", own, err)
	}
	if got := asked[protocol.GetRequest](f, "get")[gets:]; time.Since(begun) < left || len(got) != 1 || !got[0].Fresh {
		t.Errorf("asked %+v after %v, want one fresh get after the wait", got, time.Since(begun))
	}

	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := c.Settle(short, "alice", time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before it can be settled: %v", err)
	}
	if _, err := c.Settle(ctx, "Caf\xe9", sent); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("of nobody: %v", err)
	}
}

// The instance that tells the owner's view must have come as far as the fresh read.
func TestSettleByAnInstanceThatIsBehind(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	f.set("alice", "old")
	behind := 2
	f.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		reply, err := next()
		if own, ok := reply.(protocol.OwnStatusReply); ok && behind > 0 {
			behind--
			own.Revision--
			own.Status.CustomStatus = "long ago"
			return own, err
		}
		return reply, err
	})
	own, err := c.Settle(testContext(t), "alice", time.Now().Add(-time.Minute))
	if err != nil || own.Status.CustomStatus != "old" || behind != 0 {
		t.Errorf("got %+v, %v", own, err)
	}
}
