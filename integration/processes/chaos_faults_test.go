package processes

import (
	"fmt"
	"testing"
	"time"

	"presence/pkg/service/servicetest"
)

// fault is something that happens to one process or one network, and is over.
type fault struct {
	name       string
	begin, end func(testing.TB)
	lasts      time.Duration
	ofNATS     bool // it happens to a NATS server
}

// kinds are the faults there are. Each draws its victim and how long it lasts;
// those that are frequent in life come twice.
var kinds = []func(*chaos, testing.TB) fault{
	// The short run has one of each of these.
	(*chaos).presencedKilled, (*chaos).presencedPaused, (*chaos).presencedCutOff, (*chaos).leaderKilled, (*chaos).presencedRestarted,
	(*chaos).operation,
	(*chaos).presencedKilled, (*chaos).presencedPaused, (*chaos).presencedSilent, (*chaos).journalCutOff, (*chaos).journalSilent,
	(*chaos).serverKilled, (*chaos).serverPaused, (*chaos).leaderPaused, (*chaos).serverRestarted,
	(*chaos).watcherCutOff, (*chaos).watcherSilent, (*chaos).majorityPaused, (*chaos).operation, (*chaos).operation,
	(*chaos).payloadLowered, (*chaos).certificateReplaced, (*chaos).certificatesReplaced,
}

const (
	shortRun     = 6               // how many of kinds
	shortLasting = 4 * time.Second // each of them, at most
)

// schedule yields the faults, each drawn when the one before is over: the first
// kinds once in any order, or all kinds until the time is over.
func (c *chaos) schedule(t testing.TB) func(yield func(fault) bool) {
	return func(yield func(fault) bool) {
		if *chaosTime == 0 {
			for _, k := range c.chance.Perm(shortRun) {
				f := kinds[k](c, t)
				f.lasts = min(f.lasts, shortLasting)
				if !yield(f) {
					return
				}
			}
			return
		}
		for time.Since(c.begun) < *chaosTime && yield(kinds[c.chance.IntN(len(kinds))](c, t)) {
		}
	}
}

// seconds draws how long something lasts.
func (c *chaos) seconds(from, to int) time.Duration {
	return time.Duration(from*1000+c.chance.IntN((to-from)*1000)) * time.Millisecond
}

// someone draws a presenced or a server.
func (c *chaos) someone() int { return c.chance.IntN(3) }

func (c *chaos) presencedKilled(testing.TB) fault {
	i := c.someone()
	d := c.daemons[i]
	return fault{name: fmt.Sprintf("presenced %d killed", i), begin: d.Kill, end: d.Restart, lasts: c.seconds(0, 10)}
}

func (c *chaos) presencedPaused(testing.TB) fault {
	i := c.someone()
	d := c.daemons[i]
	return fault{name: fmt.Sprintf("presenced %d paused", i), begin: d.Pause, end: d.Resume, lasts: c.seconds(1, 15)}
}

func (c *chaos) presencedRestarted(testing.TB) fault {
	i := c.someone()
	d := c.daemons[i]
	return fault{name: fmt.Sprintf("presenced %d restarted gracefully", i), begin: d.Stop, end: d.Restart, lasts: c.seconds(0, 2)}
}

func (c *chaos) presencedCutOff(testing.TB) fault {
	i := c.someone()
	return c.cut(fmt.Sprintf("presenced %d cut off", i), c.near[i], c.back[i])
}

func (c *chaos) presencedSilent(testing.TB) fault {
	i := c.someone()
	return c.freeze(fmt.Sprintf("presenced %d: network silent", i), c.near[i], c.back[i])
}

func (c *chaos) journalCutOff(testing.TB) fault {
	i := c.someone()
	return c.cut(fmt.Sprintf("presenced %d cut off from the journal", i), c.back[i])
}

func (c *chaos) journalSilent(testing.TB) fault {
	i := c.someone()
	return c.freeze(fmt.Sprintf("presenced %d: journal silent", i), c.back[i])
}

func (c *chaos) watcherCutOff(testing.TB) fault { return c.cut("a watcher cut off", c.watching) }

func (c *chaos) watcherSilent(testing.TB) fault {
	return c.freeze("a watcher: network silent", c.watching)
}

func (c *chaos) serverKilled(testing.TB) fault { return c.killed("", c.someone()) }

func (c *chaos) serverPaused(testing.TB) fault { return c.paused("", c.someone()) }

func (c *chaos) leaderKilled(t testing.TB) fault {
	return c.killed(" (leads the journal)", c.StreamLeader(t, journalStream))
}

func (c *chaos) leaderPaused(t testing.TB) fault {
	return c.paused(" (leads the journal)", c.StreamLeader(t, journalStream))
}

func (c *chaos) serverRestarted(testing.TB) fault {
	i := c.someone()
	s := c.Servers[i]
	return fault{name: fmt.Sprintf("NATS server %d restarted gracefully", i), begin: s.Stop, end: s.Restart, lasts: c.seconds(0, 2), ofNATS: true}
}

func (c *chaos) killed(which string, i int) fault {
	s := c.Servers[i]
	return fault{name: fmt.Sprintf("NATS server %d%s killed", i, which), begin: s.Kill, end: s.Restart, lasts: c.seconds(0, 10), ofNATS: true}
}

func (c *chaos) paused(which string, i int) fault {
	s := c.Servers[i]
	return fault{name: fmt.Sprintf("NATS server %d%s paused", i, which), begin: s.Pause, end: s.Resume, lasts: c.seconds(1, 15), ofNATS: true}
}

// majorityPaused leaves the journal's leader without a majority: it has in its log what
// is in hand, and stores that when the others go on.
func (c *chaos) majorityPaused(t testing.TB) fault {
	leader := c.StreamLeader(t, journalStream)
	others := func(do func(*servicetest.ClusterServer, testing.TB)) func(testing.TB) {
		return func(t testing.TB) {
			for i, s := range c.Servers {
				if i != leader {
					do(s, t)
				}
			}
		}
	}
	return fault{name: fmt.Sprintf("all NATS servers but %d (leads the journal) paused", leader), ofNATS: true, lasts: c.seconds(12, 40),
		begin: others(func(s *servicetest.ClusterServer, t testing.TB) { s.Pause(t) }),
		end:   others(func(s *servicetest.ClusterServer, t testing.TB) { s.Resume(t) })}
}

func (c *chaos) cut(name string, networks ...network) fault {
	return fault{name: name, begin: each(networks, (*servicetest.Proxy).Cut), end: each(networks, (*servicetest.Proxy).Mend), lasts: c.seconds(1, 15)}
}

func (c *chaos) freeze(name string, networks ...network) fault {
	return fault{name: name, begin: each(networks, (*servicetest.Proxy).Freeze), end: each(networks, (*servicetest.Proxy).Thaw), lasts: c.seconds(1, 15)}
}

func each(networks []network, do func(*servicetest.Proxy)) func(testing.TB) {
	return func(testing.TB) {
		for _, n := range networks {
			for _, p := range n {
				do(p)
			}
		}
	}
}

// network is the way to a cluster: a proxy to each of its servers.
type network []*servicetest.Proxy

func startNetwork(t testing.TB, cl *servicetest.Cluster) (n network) {
	t.Helper()
	for _, s := range cl.Servers {
		n = append(n, servicetest.StartProxy(t, s.URL))
	}
	return n
}

// urls are those of all servers for one of their users, through the proxies.
func (n network) urls(user string) string {
	var urls []string
	for _, p := range n {
		urls = append(urls, p.URL())
	}
	return servicetest.URLsAs(user, urls...)
}
