package service

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/histogram"
)

// Histogram is what a histogram of durations has counted.
type Histogram = histogram.Snapshot

// Figures are what an instance measures. Those of the state are the same on every instance that
// has applied as much. The others are this instance's own, and count from its start.
type Figures struct {
	Endpoints []EndpointFigures

	// Of the state.
	Position  uint64
	Users     protocol.UserCounts
	Sessions  int // live ones of users shown ONLINE
	Leases    int // of sessions, lost ones included, and of gateways
	Gateways  int
	Instances int // that appended within the last minute
	// InstanceList has all that are in the table, in no order. Those that are gone stay for a while.
	InstanceList []protocol.InstanceStats
	Format       int // of journal and snapshots, in use
	InAmnesty    bool
	// Remembered counts what is kept in memory, by names: in the state, and beside it.
	Remembered map[string]int

	// Of the journal as this instance sees it.
	Applied       uint64        // entries applied, counted again after the state was built anew
	Lag           time.Duration // since the state was known to be current; 0 until the instance has caught up
	Waiting       int           // callers whose command is not applied yet
	Snapshot      uint64        // position of the last snapshot; 0: none
	SnapshotBytes uint64
	SnapshotAt    time.Time
	// JournalBytes and SnapshotsBytes are what the journal's stream and all snapshots take, as of
	// the last look some seconds ago.
	JournalBytes, SnapshotsBytes uint64
	// Append has the times from publishing an entry to its acknowledgement, Apply those of
	// applying one. Entries are applied at a start and after the state was built anew, too.
	Append, Apply Histogram

	// Detection has, by cause, the times from the last sign of life to the announcement that a
	// session or a gateway is lost, see detections. All causes are there.
	Detection map[string]Histogram

	// Server is the name of the NATS server that requests come from; empty until it is known.
	// Vitals are of the NATS server in this process, as of some seconds ago; nil: there is none, or
	// it has told nothing yet.
	Server string
	Vitals *protocol.ServerVitals

	// Of announcing.
	Events      uint64 // events published
	Unannounced int    // changes of this instance that do not count as announced yet

	Mismatches uint64 // digests in the journal that were not this instance's
}

// EndpointKind is what requests of an endpoint do.
type EndpointKind int

const (
	KindChange  EndpointKind = iota // they change users, sessions or contacts, by way of the journal
	KindQuery                       // they read
	KindRenewal                     // they renew leases: most come without anybody doing anything
)

// EndpointFigures are those of one kind of request.
type EndpointFigures struct {
	Name     string
	Kind     EndpointKind
	Requests uint64
	Errors   map[string]uint64 // by the names of PROTOCOL 6, without those that are 0
	// Dropped requests had a reply subject that is not allowed. Unanswered requests were
	// refused, and got no answer because too many were refused at once. Neither are in
	// Requests.
	Dropped, Unanswered uint64
	Latency             Histogram       // the times from arrival to answer of all requests
	LastError           *protocol.Error // the last error answered; nil: none
}

// counted is what the instance counts beside its endpoints.
type counted struct{ applied, mismatches atomic.Uint64 }

// silentFor is longer than any instance that runs appends nothing: see replica.Due.
const silentFor = time.Minute

// Figures returns the figures of now. It may be called at any time.
func (s *Service) Figures() Figures {
	f := Figures{Applied: s.counted.applied.Load(), Events: s.announcer.events.Load(), Mismatches: s.counted.mismatches.Load(),
		Detection: s.detections.figures(), Server: s.replies.server(), Vitals: s.server.Load()}
	for _, e := range s.endpoints {
		f.Endpoints = append(f.Endpoints, e.figures())
	}
	s.mu.RLock()
	f.Position, f.Format, f.InAmnesty = s.state.Position(), int(s.state.Format()), s.state.InAmnesty()
	users, platforms := s.state.Counts()
	f.Users = users
	for _, n := range platforms { // clients choose the names of platforms
		f.Sessions += n
	}
	f.Remembered = s.state.Remembered()
	f.Gateways, f.Leases = s.state.Gateways(), s.state.Gateways()+s.state.Sessions()
	f.InstanceList = s.state.Instances()
	s.mu.RUnlock()
	for n := range f.InstanceList {
		i := &f.InstanceList[n]
		if i.Answering = i.Writer == s.instance; i.Answering {
			f.Unannounced = i.Owes
		}
		if i.SilentMs < silentFor.Milliseconds() {
			f.Instances++
		}
	}
	s.gate.Remembered(f.Remembered)
	s.connections.Remembered(f.Remembered)
	f.Remembered["erased-to-trim"] = s.trims.wait()
	f.Remembered["revision-waiters"], f.Remembered["answers"] = s.waiters.count(), s.responder.waiting()
	f.Remembered["traces"] = s.traces.count()
	f.Remembered["closed-to-detect"], f.Remembered["losses-to-announce"] = s.detections.counts()
	select {
	case <-s.opened:
	default:
		return f
	}
	p := s.journal.Progress()
	f.Snapshot, f.SnapshotBytes, f.SnapshotAt = p.Snapshot, p.SnapshotBytes, p.SnapshotAt
	if x, ok := s.journal.Stored(); ok {
		f.JournalBytes, f.SnapshotsBytes = x.Bytes, x.Snapshots
	}
	f.Append, f.Apply = s.journal.Latencies()
	s.journal.Remembered(f.Remembered)
	f.Waiting = s.journal.Waiting()
	if s.journal.Follows() {
		f.Lag = s.journal.SinceCurrent()
	}
	return f
}

// endpointStats counts the requests of an endpoint. A request counts when it is answered, with the
// time since its arrival.
type endpointStats struct {
	dropped, unanswered atomic.Uint64
	latency             histogram.Histogram

	mu     sync.Mutex
	errors map[string]uint64 // by name
	last   *protocol.Error   // the last one answered
}

func (st *endpointStats) done(begun time.Time, e *protocol.Error) {
	st.latency.Observe(time.Since(begun))
	if e == nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.errors == nil {
		st.errors = make(map[string]uint64)
	}
	st.errors[e.Name]++
	st.last = e
}

// figures returns those of an endpoint, with its kind.
func (e *endpoint) figures() EndpointFigures {
	f := e.stats.figures(e.name)
	switch {
	case e.renewal:
		f.Kind = KindRenewal
	case e.query:
		f.Kind = KindQuery
	}
	return f
}

func (st *endpointStats) figures(name string) EndpointFigures {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := EndpointFigures{
		Name: name, Latency: st.latency.Snapshot(), Errors: make(map[string]uint64),
		Dropped: st.dropped.Load(), Unanswered: st.unanswered.Load(),
		LastError: st.last,
	}
	f.Requests = f.Latency.Count
	maps.Copy(f.Errors, st.errors)
	return f
}
