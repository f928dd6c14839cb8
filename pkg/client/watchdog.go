package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// probeDefault is Options.Probe's default.
	probeDefault = 10 * time.Second
	// probePatienceMax bounds how long a PING may be unanswered. Each time that a connection was
	// replaced in vain, the patience doubles up to this, in case the broker is only slow.
	probePatienceMax = time.Minute
	// probePause is the least time between two PINGs, however many answers do not come.
	probePause = time.Second
	// answersWait is the least time between two replacements of the connection because answers
	// cannot be heard. It doubles up to answersWaitMax.
	answersWait    = 2 * time.Second
	answersWaitMax = time.Minute
	// lameDuckSpread is the time over which the clients of a server in lame duck mode leave it.
	// It is below the 10 s after which such a server begins to close connections.
	lameDuckSpread = 5 * time.Second
)

// watchdog notices that a connection is dead although its status is "connected", and makes nats.go
// connect again. A network may forget a connection without a word, while new ones work. nats.go
// notices that after several minutes, with its default options.
//
// It asks the broker, never the service. The broker answers a PING even if no service runs. So the
// connection stays while the service is away.
//
//	nothing came for Options.Probe ──┐
//	                                 ├─► PING ─► answered, or something else came: alive
//	an answer stayed away ───────────┘        └► nothing within half of Options.Probe: dead
type watchdog struct {
	c           *Client
	doubt       chan struct{} // an answer did not come; holds one
	leaving     chan struct{} // the server is in lame duck mode; holds one
	answersLost chan struct{} // answers cannot be heard any more; holds one

	patience time.Duration // of run: how long a PING may be unanswered
}

func newWatchdog(c *Client) *watchdog {
	return &watchdog{c: c, doubt: make(chan struct{}, 1), leaving: make(chan struct{}, 1), answersLost: make(chan struct{}, 1), patience: c.opts.Probe / 2}
}

// run watches until ctx ends.
func (d *watchdog) run(ctx context.Context) {
	every := d.c.opts.Probe
	if every < 0 {
		every = probeDefault // to check the error handler
	}
	var earliest time.Time // of the next PING
	var cure answersBackoff
	for heard := d.heard(); ; {
		timer := time.NewTimer(jitter(every))
		doubt := false
		select {
		case <-ctx.Done():
		case <-d.leaving:
			d.move(ctx)
		case <-d.answersLost:
			conn := d.c.link.current()
			if d.c.opts.Probe > 0 && sleep(ctx, cure.next()) && conn.Err() == nil {
				d.c.opts.Logger.Warn("the NATS server refuses the subscription for answers, or has ended it: making another connection")
				d.reconnect()
			}
		case <-d.doubt:
			doubt = sleep(ctx, time.Until(earliest))
		case <-timer.C:
			d.c.hub.listen(d.c.nc)
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		now := d.heard()
		if (doubt || now == heard) && d.c.opts.Probe > 0 {
			d.probe(ctx)
			earliest = time.Now().Add(probePause)
		}
		heard = now
	}
}

// heard is a measure of how much has come over the connection.
func (d *watchdog) heard() uint64 {
	s := d.c.nc.Stats()
	return s.InMsgs + s.InBytes
}

// probe asks the broker for a sign of life, and gives the connection up if there is none.
func (d *watchdog) probe(ctx context.Context) {
	conn := d.c.link.current()
	for conn.Err() == nil && ctx.Err() == nil {
		begun, heard := time.Now(), d.heard()
		within, cancel := context.WithTimeout(ctx, d.patience)
		err := d.c.nc.FlushWithContext(within)
		cancel()
		switch {
		case err == nil:
			d.patience = d.c.opts.Probe / 2
			return
		case !errors.Is(err, context.DeadlineExceeded) || conn.Err() != nil:
			return // by now there is another connection or none: the link reports it
		case d.heard() != heard:
			return // it is slow, but not dead
		case time.Since(begun) > 2*d.patience:
			continue // this process was suspended: the answer may have come
		}
		d.c.opts.Logger.Warn("the NATS connection brings nothing, not even an answer to a PING: making another",
			"waited", time.Since(begun))
		d.patience = min(2*d.patience, max(probePatienceMax, d.c.opts.Probe/2))
		d.reconnect()
		return
	}
}

// move renews what is kept alive, and leaves a server that is about to stop, if there is another.
func (d *watchdog) move(ctx context.Context) {
	d.c.link.nudge()
	conn := d.c.link.current()
	if len(d.c.nc.Servers()) < 2 {
		return
	}
	// To move takes only a moment, but not all clients should do it at the same one.
	wait := time.NewTimer(rand.N(lameDuckSpread))
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-conn.Done():
	case <-wait.C:
		d.c.opts.Logger.Info("the NATS server is in lame duck mode: moving to another")
		d.reconnect()
	}
}

func (d *watchdog) reconnect() {
	if err := d.c.nc.ForceReconnect(); err != nil { // it is closed: the link reports it
		d.c.opts.Logger.Warn("asking for another NATS connection", "err", err)
	}
}

// answersBackoff is how long to wait before the connection is replaced because the broker refuses
// the subscription for answers. That belongs to nats.go, which makes it anew only on a new
// connection. Each time that it is refused there too, the next attempt comes later.
type answersBackoff struct {
	last time.Time
	wait time.Duration
}

func (c *answersBackoff) next() time.Duration {
	if time.Since(c.last) > 2*answersWaitMax {
		c.wait = answersWait
	} else {
		c.wait = min(2*c.wait, answersWaitMax)
	}
	c.last = time.Now()
	return jitter(c.wait)
}
