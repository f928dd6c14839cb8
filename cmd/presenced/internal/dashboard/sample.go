package dashboard

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service"
)

// State is how the daemon is doing at a moment. Counters in it may begin anew.
type State struct {
	At      time.Time
	Host    string // the name of the instance
	Version string
	// NotReady is why the instance should get no requests; nil: it should. Beside says what does
	// not work all the same; empty for nothing.
	NotReady error
	Beside   string
	// Figures are the service's; nil while there is none.
	Figures *service.Figures
	// Connections and SlowConsumers are of the NATS server inside, if Inside says that there is one.
	Inside        bool
	Connections   int
	SlowConsumers uint64
}

// Sample is what is kept of a State. Rates are per second since the one before. Latencies are in
// milliseconds, estimated from the buckets of a histogram, and 0 where nothing was asked.
type Sample struct {
	At        int64   `json:"at"` // Unix, in milliseconds
	Served    bool    `json:"served,omitempty"`
	Online    int     `json:"online,omitempty"`
	Offline   int     `json:"offline,omitempty"`
	Unlogined int     `json:"unlogined,omitempty"`
	Changes   float64 `json:"changes,omitempty"`
	Queries   float64 `json:"queries,omitempty"`
	Renewals  float64 `json:"renewals,omitempty"`
	Events    float64 `json:"events,omitempty"`
	Refused   float64 `json:"refused,omitempty"`
	ChangeP50 float64 `json:"changeP50,omitempty"`
	ChangeP99 float64 `json:"changeP99,omitempty"`
	QueryP50  float64 `json:"queryP50,omitempty"`
	QueryP99  float64 `json:"queryP99,omitempty"`
	Lag       float64 `json:"lag,omitempty"` // in seconds
}

// Now is what is shown of the latest State only. Times are in seconds, sizes in bytes.
type Now struct {
	Host     string    `json:"host"`
	Version  string    `json:"version"`
	Server   string    `json:"server,omitempty"` // the NATS server that requests come from
	Ready    bool      `json:"ready"`
	Warnings []Warning `json:"warnings"`

	Sessions    int    `json:"sessions"`
	Gateways    int    `json:"gateways"`
	Position    uint64 `json:"position"`
	Format      int    `json:"format"`
	Waiting     int    `json:"waiting"`
	Unannounced int    `json:"unannounced"`

	JournalBytes     uint64  `json:"journalBytes"`
	SnapshotPosition uint64  `json:"snapshotPosition"` // 0: there is none
	SnapshotBytes    uint64  `json:"snapshotBytes"`
	SnapshotAge      float64 `json:"snapshotAge"`
	AppendP99        float64 `json:"appendP99"` // of all since the start, in milliseconds

	DiskFree    uint64 `json:"diskFree,omitempty"`
	DiskSize    uint64 `json:"diskSize,omitempty"`
	Inside      bool   `json:"inside"`
	Connections int    `json:"connections"`
	// SlowConsumers counts connections closed since the start because they did not read fast enough.
	SlowConsumers uint64 `json:"slowConsumers"`

	Instances []protocol.InstanceStats `json:"instances"`
	Refusals  []Refusal                `json:"refusals"` // the most frequent first
}

// Warning says in words what is wrong.
type Warning struct {
	Severe bool   `json:"severe"`
	Text   string `json:"text"`
}

// Refusal is how often an error was answered since the start.
type Refusal struct {
	Error string `json:"error"`
	Count uint64 `json:"count"`
}

// sampleOf makes a sample of a state and the one before.
func sampleOf(before, state State) Sample {
	s := Sample{At: state.At.UnixMilli()}
	f := state.Figures
	if f == nil {
		return s
	}
	s.Served, s.Online, s.Offline, s.Unlogined = true, f.Users.Online, f.Users.Offline, f.Users.Unlogined
	s.Lag = rounded(f.Lag.Seconds())
	seconds := state.At.Sub(before.At).Seconds()
	if before.Figures == nil || seconds <= 0 {
		return s
	}
	rate := func(now, then uint64) float64 { return rounded(float64(since(now, then)) / seconds) }
	then, all := totalsOf(before.Figures), totalsOf(f)
	s.Changes = rate(all.latency[service.KindChange].Count, then.latency[service.KindChange].Count)
	s.Queries = rate(all.latency[service.KindQuery].Count, then.latency[service.KindQuery].Count)
	s.Renewals = rate(all.latency[service.KindRenewal].Count, then.latency[service.KindRenewal].Count)
	s.Refused, s.Events = rate(all.refused, then.refused), rate(f.Events, before.Figures.Events)
	percentile := func(kind service.EndpointKind, part float64) float64 {
		return quantile(all.latency[kind], then.latency[kind], part)
	}
	s.ChangeP50, s.ChangeP99 = percentile(service.KindChange, 0.5), percentile(service.KindChange, 0.99)
	s.QueryP50, s.QueryP99 = percentile(service.KindQuery, 0.5), percentile(service.KindQuery, 0.99)
	return s
}

// since is how much a counter has risen. One that fell began anew.
func since(now, then uint64) uint64 {
	if now < then {
		return now
	}
	return now - then
}

// totals are sums over all endpoints.
type totals struct {
	latency [service.KindRenewal + 1]service.Histogram // by the endpoints' kind
	refused uint64
	errors  map[string]uint64
}

func totalsOf(f *service.Figures) totals {
	t := totals{errors: make(map[string]uint64)}
	for _, e := range f.Endpoints {
		h := &t.latency[e.Kind]
		if h.Bounds == nil {
			h.Bounds, h.Counts = e.Latency.Bounds, make([]uint64, len(e.Latency.Bounds))
		}
		for i, n := range e.Latency.Counts {
			h.Counts[i] += n
		}
		h.Count += e.Latency.Count
		for name, n := range e.Errors {
			t.errors[name] += n
			t.refused += n
		}
		t.refused += e.Unanswered
	}
	return t
}

// quantile estimates, in milliseconds, what a part of the durations did not exceed that were observed
// between two states of a histogram: 0 if there were none. Inside a bucket it assumes that they are
// evenly spread. What is above all bounds counts as the last bound.
func quantile(now, then service.Histogram, part float64) float64 {
	risen := func(i int) float64 {
		if i < 0 {
			return 0
		}
		if now.Count < then.Count || i >= len(then.Counts) {
			return float64(now.Counts[i])
		}
		return float64(since(now.Counts[i], then.Counts[i]))
	}
	rank := part * float64(since(now.Count, then.Count))
	if rank == 0 {
		return 0
	}
	for i, bound := range now.Bounds {
		below, upTo := risen(i-1), risen(i)
		if upTo < rank {
			continue
		}
		low := time.Duration(0)
		if i > 0 {
			low = now.Bounds[i-1]
		}
		return rounded((low.Seconds() + (bound-low).Seconds()*(rank-below)/(upTo-below)) * 1e3)
	}
	return now.Bounds[len(now.Bounds)-1].Seconds() * 1e3
}

// rounded keeps three decimals, so that a sample is short.
func rounded(x float64) float64 { return math.Round(x*1e3) / 1e3 }

func nowOf(state State) Now {
	n := Now{Host: state.Host, Version: state.Version, Ready: state.NotReady == nil, Warnings: warningsOf(state),
		Inside: state.Inside, Connections: state.Connections, SlowConsumers: state.SlowConsumers,
		Instances: []protocol.InstanceStats{}, Refusals: []Refusal{}}
	f := state.Figures
	if f == nil {
		return n
	}
	n.Server, n.Sessions, n.Gateways, n.Position, n.Format = f.Server, f.Sessions, f.Gateways, f.Position, f.Format
	n.Waiting, n.Unannounced, n.JournalBytes = f.Waiting, f.Unannounced, f.JournalBytes
	n.SnapshotPosition, n.SnapshotBytes = f.Snapshot, f.SnapshotBytes
	if !f.SnapshotAt.IsZero() {
		n.SnapshotAge = rounded(state.At.Sub(f.SnapshotAt).Seconds())
	}
	n.AppendP99 = quantile(f.Append, service.Histogram{}, 0.99)
	if f.Vitals != nil {
		n.DiskFree, n.DiskSize = f.Vitals.FreeBytes, f.Vitals.DiskBytes
	}
	n.Instances = append(n.Instances, f.InstanceList...)
	slices.SortFunc(n.Instances, func(a, b protocol.InstanceStats) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), cmp.Compare(a.SilentMs, b.SilentMs))
	})
	for name, count := range totalsOf(f).errors {
		n.Refusals = append(n.Refusals, Refusal{name, count})
	}
	slices.SortFunc(n.Refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Error, b.Error))
	})
	return n
}

// fullDisk is the part of the disk that is free when a warning is due.
const fullDisk = 0.1

// warningsOf says what is wrong, the worst first.
func warningsOf(state State) []Warning {
	list := []Warning{}
	warn := func(severe bool, format string, args ...any) {
		list = append(list, Warning{severe, fmt.Sprintf(format, args...)})
	}
	if state.NotReady != nil {
		warn(true, "This instance is not ready: %v.", state.NotReady)
	}
	f := state.Figures
	if f != nil && f.Mismatches > 0 {
		warn(true, "The state differed from another instance's %d times. That is a defect: see presencectl verify.", f.Mismatches)
	}
	if state.Beside != "" && state.NotReady == nil {
		warn(false, "It is ready, but %s.", state.Beside)
	}
	if f != nil && f.Vitals != nil && f.Vitals.DiskBytes > 0 && float64(f.Vitals.FreeBytes) < fullDisk*float64(f.Vitals.DiskBytes) {
		warn(false, "The disk of the data directory is nearly full: %.0f %% are free.", 100*float64(f.Vitals.FreeBytes)/float64(f.Vitals.DiskBytes))
	}
	if f != nil && f.InAmnesty {
		warn(false, "An amnesty is under way: nobody is declared OFFLINE for the moment, because the service was away.")
	}
	return list
}
