package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
)

// texts hears the events of one user, whose texts are numbers.
func texts(t *testing.T, nc *nats.Conn, user string) <-chan *nats.Msg {
	t.Helper()
	subject, err := wire.Subjects.Event(user)
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *nats.Msg, 1<<16)
	if _, err := nc.ChanSubscribe(subject, ch); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return ch
}

// checkRising waits for the event with the last text. In the order of revisions the texts rise: none
// was done twice, and none before the one that goes first.
func checkRising(t *testing.T, events <-chan *nats.Msg, last int) {
	t.Helper()
	deadline := time.After(wire.Soon)
	seen := map[uint64]int{}
	for done := false; !done; {
		select {
		case m := <-events:
			var e protocol.Event
			if err := protocol.Unmarshal(m.Data, &e); err != nil {
				t.Fatal(err)
			}
			n, err := strconv.Atoi(e.CustomStatus)
			if err != nil {
				t.Fatal(err)
			}
			seen[e.Revision] = n
			done = n == last
		case <-deadline:
			t.Fatalf("the text %d was not announced; %d others were", last, len(seen))
		}
	}
	before := 0
	for _, r := range slices.Sorted(maps.Keys(seen)) {
		if seen[r] <= before {
			t.Fatalf("the text %d has revision %d, and %d a lower one", seen[r], r, before)
		}
		before = seen[r]
	}
}

// TestG08_AppliesUnderWay: a gateway has four applies under way, each of them twice, and any of three
// instances gets any of them. Each is done once, in the order of seq. All that are answered as done
// are answered the same.
func TestG08_AppliesUnderWay(t *testing.T) {
	t.Parallel()
	const applies, window = 200, protocol.ApplyWindow
	kit := startInstances(t, 3)
	nc := kit.Connect(t)
	events := texts(t, kit.Connect(t), "alice")
	subject := func(op string) string {
		s, err := wire.Subjects.Gateway("gw", op)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	opened, err := wire.Ask[protocol.LeaseReply](nc, subject(protocol.OpOpen), protocol.OpenRequest{Process: "p", TTLSeconds: int64(protocol.MaxTTL / time.Second)})
	if err != nil || opened.Window != window {
		t.Fatalf("open: %+v, %v", opened, err)
	}
	overtook := 0
	for first := 1; first <= applies; first += window {
		var replies [window][2]protocol.ApplyReply
		var open [window][2]bool
		for i := range open {
			open[i] = [2]bool{true, true}
		}
		for left := 2 * window; left > 0; {
			var errs [window][2]error
			var asking errgroup.Group
			for i := range open {
				for copy := range open[i] {
					if !open[i][copy] {
						continue
					}
					seq := first + i
					asking.Go(func() error {
						replies[i][copy], errs[i][copy] = wire.Ask[protocol.ApplyReply](nc, subject(protocol.OpApply), protocol.ApplyRequest{
							Process: "p", Seq: uint64(seq), Ops: []protocol.Op{{Op: protocol.OpKindSet, UserID: "alice", CustomStatus: protocol.Ptr(strconv.Itoa(seq))}}})
						return nil
					})
				}
			}
			_ = asking.Wait() // none returns an error
			for i := range open {
				for copy := range open[i] {
					switch err := errs[i][copy]; {
					case !open[i][copy]:
					case err == nil:
						open[i][copy] = false
						left--
					case errors.Is(err, protocol.ErrOutOfOrder), errors.Is(err, protocol.ErrOverloaded):
						overtook++
					default:
						t.Fatalf("apply of seq %d: %v", first+i, err)
					}
				}
			}
		}
		for i, r := range replies {
			if r[0].Applied != 1 || fmt.Sprint(r[0]) != fmt.Sprint(r[1]) {
				t.Fatalf("seq %d was answered %+v, and %+v", first+i, r[0], r[1])
			}
		}
	}
	if overtook == 0 {
		t.Error("nothing was overtaken: this has shown nothing")
	}
	checkRising(t, events, applies)
	checkAllAnswered(t, kit, wire.Subjects.AnyGateway(protocol.OpApply), 50)
}

// TestG08_GatewayOfManyCallers: callers change the texts of their users through one client.Gateway,
// each one after the other, while instances come and go. Nothing is done twice or in another order.
func TestG08_GatewayOfManyCallers(t *testing.T) {
	t.Parallel()
	const callers, least = 40, 150
	kit := startInstances(t, 3)
	c, err := client.New(kit.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	g, err := c.OpenGateway(ctx, "gw", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{})
	var calling errgroup.Group
	var events [callers]<-chan *nats.Msg
	var last [callers]int
	for i, user := range wire.Names("u", callers) {
		events[i] = texts(t, kit.Connect(t), user)
		calling.Go(func() error {
			for n := 1; ; n++ {
				select {
				case <-changed:
					if n > least {
						last[i] = n - 1
						return nil
					}
				default:
				}
				if err := g.SetStatus(ctx, user, strconv.Itoa(n)); err != nil {
					return fmt.Errorf("%s, text %d: %w", user, n, err)
				}
			}
		})
	}
	for range 2 {
		kit.Instances[0].Stop(t)
		kit.Instances = kit.Instances[1:]
		kit.AddInstance(t)
	}
	close(changed)
	if err := calling.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range events {
		checkRising(t, events[i], last[i])
	}
}
