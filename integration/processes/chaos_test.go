package processes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestChaos: three NATS servers, three presenced, and a load of every kind; one
// fault after the other, drawn by a seed, each with time to heal; the guarantees
// are checked all the while and at the end. "make chaos" runs it for minutes;
// otherwise it is six short faults.
func TestChaos(t *testing.T) {
	t.Parallel()
	c := startChaos(t)
	c.load = startLoad(t, c)
	defer func() { t.Logf("seed %d\n%s", c.seed, c.summary()) }()
	for f := range c.schedule(t) {
		c.strike(t, f)
	}
	c.load.finish(t)
}

// chaos is an installation that faults happen to.
//
//	clients ── NATS servers 0, 1, 2 ── near[i] ── presenced i
//	                                └─ back[i] ──┘ to its journal
type chaos struct {
	*trio
	near     []network // between each presenced and the servers, for clients and system events
	back     []network // the same for its journal
	watching network   // between one of the watchers and the servers

	certificates certificates
	plain        int // the presenced that does without TLS; 3: none

	begun  time.Time
	seed   uint64
	chance *rand.Rand
	load   *load
	struck []struck
}

// struck is a fault that happened, as the summary shows it.
type struck struct {
	at     time.Duration
	name   string
	lasted time.Duration
	// healed is from the end of the fault until all was as before; noSet and noGet
	// are the longest times from its beginning until then without an acknowledged
	// set and without an answered get.
	healed, noSet, noGet time.Duration
	failed               int // requests that were refused or got no answer
}

func startChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{certificates: newCertificates(t)}
	c.trio = &trio{Cluster: servicetest.StartCluster(t, 3, use(c.certificates.known))}
	c.seed, c.chance = seeded(t)
	c.plain = c.chance.IntN(4)
	c.watching = startNetwork(t, c.Cluster)
	for i := range 3 {
		c.near = append(c.near, startNetwork(t, c.Cluster))
		c.back = append(c.back, startNetwork(t, c.Cluster))
		c.daemons = append(c.daemons, c.StartDaemon(t, append(c.tlsArgs(i),
			"--nats-url", c.near[i].urls(servicetest.ClientsUser),
			"--system-url", c.near[i].urls(servicetest.SystemUser),
			"--journal-url", c.back[i].urls(servicetest.JournalUser))...))
	}
	c.begun = time.Now()
	return c
}

// strike lets a fault happen and waits until everything is healed.
func (c *chaos) strike(t *testing.T, f fault) {
	t.Helper()
	s := struck{at: time.Since(c.begun), name: f.name, lasted: f.lasts}
	t.Logf("%7s  %s for %v", clock(s.at), f.name, f.lasts)
	c.load.setGap.begin()
	c.load.getGap.begin()
	c.load.forgetComers()
	failed := c.load.failed()
	f.begin(t)
	time.Sleep(f.lasts)
	f.end(t)
	ended := time.Now()
	c.heal(t)
	s.healed = time.Since(ended).Round(10 * time.Millisecond)
	s.noSet, s.noGet = c.load.setGap.longest(), c.load.getGap.longest()
	s.failed = c.load.failed() - failed
	c.struck = append(c.struck, s)
	if !f.ofNATS { // else events may be lost on their way from server to server
		c.load.checkHeard(t)
	}
	time.Sleep(time.Second) // of peace
}

// heal waits until every server has the whole journal, and every presenced is
// there and follows it.
func (c *chaos) heal(t *testing.T) {
	t.Helper()
	servicetest.Eventually(t, 3*wire.Soon, "every server to have the journal", func() bool { return c.Current(t, journalStream) })
	servicetest.Eventually(t, 3*wire.Soon, "every presenced to answer", func() bool { return c.answering(t) == len(c.daemons) })
	servicetest.Eventually(t, 3*wire.Soon, "every presenced to follow the journal", func() bool {
		// Any of them may answer; that one is never asked is one in 200,000.
		for range 30 {
			reply, err := wire.AskWithin[protocol.GetReply](c.load.nc, patience, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"anyone"}, Fresh: true})
			if err != nil || reply.Stale {
				return false
			}
		}
		return true
	})
}

// answering returns how many presenced answer a ping, and complains of those
// that have ended by themselves.
func (c *chaos) answering(t *testing.T) int {
	t.Helper()
	for i, d := range c.daemons {
		select {
		case <-d.Exited():
			t.Fatalf("presenced %d ended by itself", i)
		default:
		}
	}
	inbox := c.load.nc.NewInbox()
	sub, err := c.load.nc.SubscribeSync(inbox)
	if err != nil {
		return 0
	}
	defer sub.Unsubscribe()
	if c.load.nc.PublishRequest("$SRV.PING.presence", inbox, nil) != nil {
		return 0
	}
	n := 0
	for ; n < len(c.daemons); n++ {
		if _, err := sub.NextMsg(500 * time.Millisecond); err != nil {
			break
		}
	}
	return n
}

// clock shows a time since the beginning.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%04.1f", int(d.Minutes()), (d % time.Minute).Seconds())
}

// summary tells a stranger what happened, what the callers saw, and what was
// checked.
func (c *chaos) summary() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tAT\tLASTED\tHEALED AFTER\tLONGEST WITHOUT A SET\tWITHOUT A GET\tREQUESTS FAILED")
	for _, s := range c.struck {
		fmt.Fprintf(w, "%s\t%s\t%v\t%v\t%v\t%v\t%d\n", s.name, clock(s.at), s.lasted.Round(time.Millisecond), s.healed, s.noSet, s.noGet, s.failed)
	}
	fmt.Fprintln(w, "\nREQUESTS\tOUTCOMES")
	for _, kind := range requestKinds {
		fmt.Fprintf(w, "%s\t%v\n", kind, c.load.outcomes(kind))
	}
	fmt.Fprintln(w, "\nGUARANTEE\tCHECKED\tBROKEN")
	for _, g := range c.load.guarantees {
		fmt.Fprintf(w, "%s %s\t%d\t%d\n", g.number, g.text, g.checked.Load(), g.broken.Load())
	}
	w.Flush()
	b.WriteString("\nA presenced or server that is paused or silent keeps its share of the requests until its connection is given up,\n" +
		"after 3 to 4 s; those go without an answer (4 s for a set, 1 s for a get), and are asked again only by a client.\n")
	return b.String()
}
