package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"presence/pkg/protocol"
)

func (i *instance) name() string { return protocol.ParseInstanceID(i.Writer).Name() }

// judge makes the checks of one instance.
func (i *instance) judge(f *findings) {
	at := len(f.list)
	f.add(i.judgeReady())
	f.add(i.judgeLatency())
	if i.Vitals == nil {
		f.skip("instance.vitals", "a version that tells its vitals: upgrade presenced "+i.Version)
	} else {
		f.add(i.judgeLag())
		f.add(i.judgeClock())
		f.add(i.judgeDisk())
		f.add(i.judgeDefects())
		f.add(i.judgeNoticing())
	}
	for k := range f.list[at:] {
		f.list[at+k].Instance = i.Writer
	}
}

func (i *instance) judgeReady() Check {
	c := Check{Name: "instance.ready", Result: OK, Found: "ready"}
	if i.Vitals != nil {
		c.Found += fmt.Sprintf(", for %s", span(time.Duration(i.Vitals.UptimeSeconds*float64(time.Second))))
	}
	switch {
	case i.NotReady != "":
		c.Result, c.Found, c.Do = Fail, "not ready: "+i.NotReady, "do what it says; else "+readTheLog
		c.Means = "it should get no requests"
	case i.Vitals != nil && i.Vitals.Impaired != "":
		c.Result, c.Found, c.Do = Warn, "ready, but "+i.Vitals.Impaired, readTheLog
		c.Means = "closed connections may be noticed late"
	}
	return c
}

func (i *instance) judgeLatency() Check {
	if len(i.took) == 0 {
		return Check{Name: "instance.latency", Result: Fail, Found: "it answered once, and not when it was asked by its name", Means: "it stops, or is overloaded", Do: "look at its processor and its log"}
	}
	median := i.took[len(i.took)/2]
	c := Check{Name: "instance.latency", Result: OK, Found: "answers in " + shown(median)}
	if median > slowAnswer {
		c.Result, c.Means, c.Do = Warn, "it has too much to do, or the way to it is long", "look at its processor, and at connection.server above"
	}
	return c
}

func (i *instance) judgeLag() Check {
	lag := time.Duration(i.Vitals.LagSeconds * float64(time.Second))
	c := Check{Name: "instance.lag", Result: OK, Found: fmt.Sprintf("up to date with the journal as of %s ago", shown(lag))}
	if lag > protocol.StaleAfter || i.Stale {
		c.Result = Fail
		c.Means, c.Do = "it is stale: it refuses changes, and its answers may be old (G12)", "look at the NATS servers, the journal's leader and the disk"
	}
	return c
}

func (i *instance) judgeClock() Check {
	if len(i.took) == 0 {
		return needs("instance.clock", "an answer")
	}
	off, which := i.ahead, "ahead of"
	if off < 0 {
		off, which = -off, "behind"
	}
	c := Check{Name: "instance.clock", Result: OK, Found: fmt.Sprintf("its clock is this machine's, within %s", shown(max(off, i.bound)))}
	if off-i.bound > clockOff {
		c.Result, c.Found = Warn, fmt.Sprintf("its clock is %s %s this machine's", shown(off), which)
		c.Means, c.Do = "times that people see are wrong, and a leader whose clock goes back costs leases time", "synchronise both clocks (chronyc tracking, timedatectl)"
	}
	return c
}

func (i *instance) judgeDisk() Check {
	x := i.Vitals.Server
	if x == nil {
		return Check{Name: "instance.disk", Result: NotChecked, Found: "needs a look at the NATS servers' own disks (df): none is inside this instance"}
	}
	if x.DiskBytes == 0 {
		return needs("instance.disk", "a system that tells the free space of a disk")
	}
	c := Check{Name: "instance.disk", Result: OK, Found: fmt.Sprintf("%s of %s of the disk are free", humanize.IBytes(x.FreeBytes), humanize.IBytes(x.DiskBytes))}
	switch {
	case x.FreeBytes < min(fullDisk, x.DiskBytes/20):
		c.Result, c.Means, c.Do = Fail, "changes are refused", "make space on that disk: presenced goes on by itself"
	case x.FreeBytes < lowDisk:
		c.Result, c.Means, c.Do = Warn, "changes are refused below 64 MiB", "make space on that disk, or move the data directory"
	}
	return c
}

// judgeDefects looks at what should never happen.
func (i *instance) judgeDefects() Check {
	internal := i.Vitals.Refusals[protocol.ErrInternal.Name]
	c := Check{Name: "instance.defects", Result: OK, Found: "no digest differed, no request failed by a defect"}
	var found []string
	if n := i.Vitals.Mismatches; n > 0 {
		c.Result = Fail
		found = append(found, fmt.Sprintf("digests of other instances differed from its own, %d times since its start", n))
		c.Means = "two instances did not hold the same (G14)"
	}
	if internal > 0 {
		c.Result = Fail
		found = append(found, fmt.Sprintf("requests were answered with internal, %d since its start", internal))
		if c.Means == "" {
			c.Means = "a defect: the cause is in its log"
		}
	}
	if len(found) > 0 {
		c.Found, c.Do = strings.Join(found, "; "), tellDefect
	}
	return c
}

// judgeNoticing says how soon this instance notices clients that are gone.
func (i *instance) judgeNoticing() Check {
	c := Check{Name: "instance.noticing", Result: OK}
	grace := i.Vitals.Rules["grace"]
	if !i.Vitals.SystemAccount {
		c.Result, c.Found = Warn, fmt.Sprintf("it hears of no closed connection: a killed client is OFFLINE after its TTL, %v by default", protocol.DefaultTTL)
		c.Means, c.Do = "with the system account it would be OFFLINE after its grace, "+grace, "presenced --system-creds (docs/operations.md, NATS servers of your own)"
		return c
	}
	if x := i.Vitals.Server; x != nil {
		r := judgePings("instance.noticing", time.Duration(x.PingIntervalSeconds*float64(time.Second)), x.PingMax)
		r.Found = fmt.Sprintf("a closed connection is OFFLINE after its grace (%s); ", grace) + r.Found
		return r
	}
	c.Found = fmt.Sprintf("a closed connection is OFFLINE after its grace (%s); how soon a silent one is closed needs --system-creds", grace)
	return c
}

// judgePings says how soon a NATS server closes a connection that is silent.
func judgePings(name string, interval time.Duration, most int) Check {
	least := interval * time.Duration(most+1)
	c := Check{Name: name, Result: OK, Found: fmt.Sprintf("a silent one is closed after %s to %s, or OFFLINE by its TTL (%v, bound to a connection %v)",
		span(least), span(least+interval), protocol.DefaultTTL, protocol.DefaultBoundTTL)}
	if least > longSilence {
		c.Result, c.Means, c.Do = Warn, "an instance that hangs swallows its share of the requests for so long", `ping_interval: "10s" on the NATS servers`
	}
	return c
}

// span is a longer time for people.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return days(d)
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
