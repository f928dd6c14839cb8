package processes

import (
	"fmt"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestLinearizable_NoMajority: of three presenced with their servers inside the two stand
// still that do not lead the journal, while changes are in hand; the leader has those in
// its log, and stores them with their old timestamps when the two go on. A change is
// answered within 10 s all the same, and a fresh get that was sent 10 s after a change
// which nobody knew of settles it (G2, PROTOCOL 6). "make chaos" does it again and again,
// for up to 40 s.
func TestLinearizable_NoMajority(t *testing.T) {
	t.Parallel()
	_, chance := seeded(t)
	c := servicetest.StartDaemonCluster(t, exampleConfig)
	end := time.Now().Add(*chaosTime)
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		lasts := 12 * time.Second // of which 10 until a get settles what is unknown
		if *chaosTime > 0 {
			lasts += time.Duration(chance.IntN(28_000)) * time.Millisecond
		}
		leader := journalLeader(t, c)
		t.Logf("round %d: all but presence-%d, which leads, stand still for %v", round, leader+1, lasts)
		// What a server holds back that stands still counts as sent when it goes on: so all
		// are connected to the one that does not.
		var conns []*nats.Conn
		for range 4 {
			conns = append(conns, c.Connect(t, leader, "operator", hasty()...))
		}
		h := &history{begun: time.Now()}
		h.runClients(t, conns, chance, wire.Names(fmt.Sprint("round", round, "-"), 3), func() {
			servicetest.Eventually(t, wire.Soon, "some requests to be answered", func() bool { return h.of("acknowledged") > 50 })
			checkInHand(t, c, leader, lasts)
			n := h.of("acknowledged")
			servicetest.Eventually(t, 3*wire.Soon, "requests to be answered again", func() bool { return h.of("acknowledged") > n+500 })
		})
		h.check(t, fmt.Sprintf("round %d", round))
		h.checkRising(t)
		for _, nc := range conns {
			nc.Close()
		}
	}
}

// checkInHand has all but the leader stand still for a while, and checks that changes
// sent just then are answered in time. Each instance may have some of them; those that go
// to one that stands still get no answer in time.
func checkInHand(t *testing.T, c *servicetest.DaemonCluster, leader int, lasts time.Duration) {
	t.Helper()
	nc := c.Connect(t, leader, "operator")
	defer nc.Close()
	for i, d := range c.Daemons {
		if i != leader {
			d.Pause(t)
		}
	}
	type answered struct {
		outcome string
		after   time.Duration
	}
	const changes = 20
	answers := make(chan answered, changes)
	begun := time.Now()
	for i := range changes {
		go func() {
			text := fmt.Sprint("in hand ", i)
			_, err := wire.AskWithin[protocol.ChangeReply](nc, lasts, wire.To(protocol.OpSet, fmt.Sprint("inhand", i)), protocol.SetRequest{CustomStatus: &text})
			answers <- answered{outcome(err), time.Since(begun)}
		}()
	}
	inTime := 0
	for range changes {
		a := <-answers
		if a.outcome != "no answer" {
			inTime++
		}
		if late := protocol.OutcomeWithin + time.Second; a.outcome == protocol.ErrOutcomeUnknown.Name && a.after > late {
			t.Errorf("a change was answered %s after %v, want within %v", a.outcome, a.after, late)
		}
	}
	t.Logf("%d of %d changes were answered while there was no majority", inTime, changes)
	time.Sleep(time.Until(begun.Add(lasts)))
	for i, d := range c.Daemons {
		if i != leader {
			d.Resume(t)
		}
	}
}
