package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"
)

// startInstances is a kit with several instances, over TCP as they would be.
func startInstances(t *testing.T, n int, opts ...servicetest.Option) *servicetest.Kit {
	t.Helper()
	kit := servicetest.StartOverNATS(t, opts...)
	for range n - 1 {
		kit.AddInstance(t)
	}
	return kit
}

// answered returns how many requests each instance has answered at a subject,
// by its ID.
func answered(t *testing.T, nc *nats.Conn, subject string) map[string]uint64 {
	t.Helper()
	counts := map[string]uint64{}
	for _, m := range wire.AskAll(t, nc, "$SRV.STATS.presence") {
		var all micro.Stats
		if err := json.Unmarshal(m.Data, &all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all.Endpoints {
			var s service.EndpointStats
			if e.Subject == subject && json.Unmarshal(e.Data, &s) == nil {
				counts[all.ID] += s.Requests - s.Errors
			}
		}
	}
	return counts
}

// checkAllAnswered fails where an instance had no part in what was asked: then
// the test has shown nothing of it.
func checkAllAnswered(t *testing.T, kit *servicetest.Kit, subject string, atLeast uint64) {
	t.Helper()
	counts := answered(t, kit.Connect(t), subject)
	if len(counts) != len(kit.Instances) {
		t.Errorf("%d instances answer $SRV.STATS, want %d", len(counts), len(kit.Instances))
	}
	for id, n := range counts {
		if n < atLeast {
			t.Errorf("instance %s answered %d requests on %s, want at least %d", id, n, subject, atLeast)
		}
	}
}

// TestG02_ReadYourWritesByAnyInstance: 200 changes and 400 reads of them, all
// of which each of three instances had its share of.
func TestG02_ReadYourWritesByAnyInstance(t *testing.T) {
	kit := startInstances(t, 3)
	checkReadYourWrites(t, kit)
	checkAllAnswered(t, kit, wire.Subjects.Get(), 50)
	checkAllAnswered(t, kit, wire.Subjects.AnyUser(protocol.OpSet), 20)
}

// TestG03_RevisionsRiseOnAllInstances: three instances have one history. And
// whoever answers, the state at a revision is the same, users who do not change
// included.
func TestG03_RevisionsRiseOnAllInstances(t *testing.T) {
	kit := startInstances(t, 3)
	stop := make(chan struct{})
	var (
		mu      sync.Mutex
		at      = map[uint64]string{} // answers, by revision
		again   int
		readers errgroup.Group
	)
	for range 3 {
		nc := kit.Connect(t)
		readers.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				reply, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: append(wire.Names("u", 3), "nobody"), Detail: true})
				if err != nil {
					return err
				}
				if reply.Stale {
					return fmt.Errorf("a stale answer: %+v", reply)
				}
				got := fmt.Sprintf("%+v as of %v", reply.SuccessUserList, reply.AsOf)
				mu.Lock()
				before, ok := at[reply.Revision]
				at[reply.Revision] = got
				if ok {
					again++
				}
				mu.Unlock()
				if ok && got != before {
					return fmt.Errorf("two states of revision %d:\n%s\n%s", reply.Revision, before, got)
				}
			}
		})
	}
	checkRevisionsRise(t, kit, true)
	close(stop)
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d revisions, seen %d times more than once", len(at), again)
	if again < 100 {
		t.Errorf("only %d answers were of a revision that was seen before", again)
	}
	checkAllAnswered(t, kit, wire.Subjects.Get(), 50)
	checkAllAnswered(t, kit, wire.Subjects.AnyUser(protocol.OpSet), 20)
}

// TestG12_OneOfTwoIsCutOff: the one that is cut off from the journal says so and
// refuses changes; callers who try again, as the client does, are answered by
// the other. When the network is back it has missed nothing.
func TestG12_OneOfTwoIsCutOff(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t)
	p := servicetest.StartProxy(t, s.URL())
	through := strings.Replace(p.URL(), "nats://", "nats://"+servicetest.JournalUser+":"+servicetest.Password+"@", 1)
	journal, err := nats.Connect(through, nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(journal.Close)
	s.StartInstance(t, func(c *service.Config) { c.Journal = journal })
	s.StartInstance(t)
	nc := s.Connect(t)
	c := wire.NewClient(t, s.Connect(t), client.Options{})
	set := func(text string) protocol.Status {
		t.Helper()
		status, err := c.SetSelfStatus(t.Context(), "alice", text)
		if err != nil {
			t.Errorf("SetSelfStatus(%q): %v", text, err)
		}
		return status
	}
	set("before")

	p.Freeze()
	since := time.Now()
	stale := func() bool {
		return wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}}).Stale
	}
	servicetest.Eventually(t, wire.Soon, "a stale answer", stale)
	if took := time.Since(since); took < time.Second || took > 3*protocol.StaleAfter {
		t.Errorf("stale after %v, want at most %v", took, protocol.StaleAfter)
	}
	var done, refused int
	for i := range 15 {
		set(fmt.Sprint("meanwhile ", i))
		got, err := c.GetUserStatus(t.Context(), []string{"alice"}, client.Fresh())
		if err != nil || got.Stale || got.SuccessUserList[0].CustomStatus != fmt.Sprint("meanwhile ", i) {
			t.Errorf("GetUserStatus: got %+v, %v", got, err)
		}
		switch _, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, "bob"), `{"customStatus":"once"}`); {
		case err == nil:
			done++
		case errors.Is(err, protocol.ErrUnavailable):
			refused++
		default:
			t.Error(err)
		}
	}
	if done == 0 || refused == 0 {
		t.Errorf("of those who asked once %d were answered and %d refused: one instance answered them all", done, refused)
	}

	p.Thaw()
	last := set("after")
	servicetest.Eventually(t, 2*wire.Soon, "nobody to be stale", func() bool { return !slices.ContainsFunc(make([]bool, 20), func(bool) bool { return stale() }) })
	for range 20 {
		got := wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}})
		if !reflect.DeepEqual(got.SuccessUserList[0], last) {
			t.Errorf("after the cut: got %+v, want %+v", got.SuccessUserList[0], last)
		}
	}
}
