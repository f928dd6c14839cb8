package service

import (
	"sync"
	"time"
	"unique"

	"presence/pkg/internal/state"
	"presence/pkg/service/internal/histogram"
)

// cause is how the loss of a session or a gateway is detected, and from when on that is measured.
type cause uint8

const (
	// causeClosed: a NATS server reported the closed connection. From the report on, so the grace
	// is included.
	causeClosed cause = iota
	// causeComparison: a server, when asked, did not have the connection. From the last sign of
	// life on, because nobody knows when it closed.
	causeComparison
	// causeSilent: the TTL ran out. From the last sign of life on, so the TTL is included.
	causeSilent
	// causeGateway: a gateway was lost, and its users with it; it counts once. From the report on if
	// its connection was reported closed, otherwise from its last sign of life on.
	causeGateway
	causes
)

var causeNames = [causes]string{"closed", "comparison", "silent", "gateway"}

const (
	// maxClosings bounds the closed connections whose leases may still be lost, and
	// maxUnannounced the losses whose announcement is waited for. What is above is not measured,
	// or measured without the announcement.
	maxClosings    = 1 << 17
	maxUnannounced = 1 << 17
	// sweepClosingsEvery is how often closed connections are forgotten whose grace is over.
	sweepClosingsEvery = time.Minute
)

// detections measures how long it takes until a loss is announced. Each loss is measured by one
// instance: by the one that learned of the closed connection, or else by the one whose journal
// entry brought the loss. If another instance announces the loss, the time ends when it is
// applied. A sign of life is a login or a renewal; its age goes by the lease clock, which stands
// still while the service is away.
//
// Any goroutine may call its methods.
type detections struct {
	histograms [causes]histogram.Histogram

	mu       sync.Mutex
	closings map[connection]closing
	swept    time.Time
	// entries have losses that are applied and not yet announced, in order; count is of all.
	entries []lostByEntry
	count   int
}

// connection is one of a client to a NATS server.
type connection struct {
	server unique.Handle[string]
	client uint64
}

// closing is when this instance learned that a connection closed, and how.
type closing struct {
	at  time.Time
	how cause
}

// lostByEntry are the losses of one journal entry.
type lostByEntry struct {
	position uint64
	at       time.Time // when it was applied
	losses   []detection
}

// detection is a loss with how long it had taken when it was applied.
type detection struct {
	how  cause
	took time.Duration
}

func (d *detections) init() {
	for i := range d.histograms {
		d.histograms[i].Bounds = histogram.Detection
	}
	d.closings = make(map[connection]closing)
}

// closed notes that this instance has learned of a closed connection that leases are bound to.
func (d *detections) closed(server string, client uint64, how cause, now time.Time) {
	key := connection{unique.Make(server), client}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.closings[key]; !known && len(d.closings) < maxClosings {
		d.closings[key] = closing{now, how}
	}
}

// sweep forgets the closed connections of earlier than kept ago.
func (d *detections) sweep(now time.Time, kept time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.swept) < sweepClosingsEvery {
		return
	}
	d.swept = now
	for key, c := range d.closings {
		if now.Sub(c.at) > kept {
			delete(d.closings, key)
		}
	}
}

// lost takes the losses of an entry that was just applied. own says that this instance packed it.
func (d *detections) lost(losses []state.Loss, position uint64, own bool, now time.Time) {
	if len(losses) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := lostByEntry{position: position, at: now}
	for _, x := range losses {
		switch found, ok := d.detect(x, own, now); {
		case !ok:
		case own && d.count < maxUnannounced:
			e.losses = append(e.losses, found)
			d.count++
		default:
			d.histograms[found.how].Observe(found.took)
		}
	}
	if len(e.losses) > 0 {
		d.entries = append(d.entries, e)
	}
}

// detect returns how a loss was detected. It reports false if another instance measures it.
func (d *detections) detect(x state.Loss, own bool, now time.Time) (found detection, measured bool) {
	found = detection{causeSilent, x.Silence}
	measured = own
	if x.Server != "" {
		var c closing
		if c, measured = d.closings[connection{unique.Make(x.Server), x.Client}]; !measured {
			return found, false
		}
		if found.how = c.how; c.how == causeClosed {
			found.took = now.Sub(c.at)
		}
	}
	if x.Gateway {
		found.how = causeGateway
	}
	return found, measured
}

// announced notes that everything up to a position was published.
func (d *detections) announced(position uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.entries) > 0 && d.entries[0].position <= position {
		e := d.entries[0]
		for _, x := range e.losses {
			d.histograms[x.how].Observe(x.took + now.Sub(e.at))
		}
		d.count -= len(e.losses)
		d.entries[0] = lostByEntry{}
		if d.entries = d.entries[1:]; len(d.entries) == 0 {
			d.entries = nil
		}
	}
}

// figures returns the histograms by the names of their causes.
func (d *detections) figures() map[string]Histogram {
	all := make(map[string]Histogram, causes)
	for i, name := range causeNames {
		all[name] = d.histograms[i].Snapshot()
	}
	return all
}

// counts returns how many closed connections and how many losses are remembered.
func (d *detections) counts() (closings, unannounced int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.closings), d.count
}

// sweepDetections forgets the closed connections that no lease outlives any more.
func (s *Service) sweepDetections() {
	s.mu.RLock()
	grace := time.Duration(s.state.Params().LongestGrace()) * time.Millisecond
	s.mu.RUnlock()
	s.detections.sweep(time.Now(), grace+sweepClosingsEvery)
}
