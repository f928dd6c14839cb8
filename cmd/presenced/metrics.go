package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"

	"github.com/VictoriaMetrics/metrics"
)

// metric is a figure for Prometheus. Its name gets the prefix "presence_".
type metric struct {
	name, kind, help string
	samples          func(snapshot) samples
}

// snapshot is everything that the figures come from.
type snapshot struct {
	service.Figures
	server *broker.Figures // of the server inside; nil: there is none
	ready  bool
	now    time.Time
}

// samples are values by their labels, as they stand between the braces.
type samples []sample

type sample struct {
	labels    string
	value     float64
	histogram service.Histogram // instead of the value, if the metric is one
}

const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// metricsTable has every figure of presenced. Figures of the state are the same on each
// instance: take their maximum, not their sum.
var metricsTable = []metric{
	{"ready", gauge, "1 while the instance should get requests, see /readyz",
		func(s snapshot) samples { return one(truth(s.ready)) }},
	{"requests_total", counter, "requests answered, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return float64(e.Requests) })},
	{"request_duration_seconds", histogram, "time from the arrival of requests to their answers, by endpoint", requestDurations},
	{"request_errors_total", counter, "requests answered with an error, by endpoint and error", requestErrors},
	{"requests_dropped_total", counter, "requests dropped because of a forbidden reply subject, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return float64(e.Dropped) })},
	{"requests_unanswered_total", counter, "requests refused because their sender sent far too many, without an answer, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return float64(e.Unanswered) })},
	{"waiting", gauge, "callers whose change is not applied yet",
		func(s snapshot) samples { return one(s.Waiting) }},

	{"users", gauge, "users by their public status", func(s snapshot) samples {
		return samples{{labels: `status="online"`, value: float64(s.Users.Online)}, {labels: `status="offline"`, value: float64(s.Users.Offline)},
			{labels: `status="unlogined"`, value: float64(s.Users.Unlogined)}}
	}},
	{"sessions", gauge, "live sessions of users shown online",
		func(s snapshot) samples { return one(s.Sessions) }},
	{"leases", gauge, "leases of sessions, lost ones included, and of gateways",
		func(s snapshot) samples { return one(s.Leases) }},
	{"gateways", gauge, "gateways that are open",
		func(s snapshot) samples { return one(s.Gateways) }},
	{"amnesty", gauge, "1 while no session is lost because the service was away",
		func(s snapshot) samples { return one(truth(s.InAmnesty)) }},
	{"instances", gauge, "instances that appended to the journal within the last minute",
		func(s snapshot) samples { return one(s.Instances) }},

	{"journal_format", gauge, "format of journal and snapshots in use; a version that does not know it cannot start",
		func(s snapshot) samples { return one(s.Format) }},

	{"remembered", gauge, "what is kept in memory, by what it is; none of it grows but with what exists", remembered},

	{"journal_position", gauge, "position of the last journal entry applied",
		func(s snapshot) samples { return one(s.Position) }},
	{"journal_applied_total", counter, "journal entries applied",
		func(s snapshot) samples { return one(s.Applied) }},
	{"journal_lag_seconds", gauge, "time since the state was known to be as of the journal's end; below 3 unless cut off",
		func(s snapshot) samples { return one(s.Lag.Seconds()) }},
	{"journal_append_duration_seconds", histogram, "time from publishing a journal entry to its acknowledgement",
		func(s snapshot) samples { return samples{{histogram: s.Append}} }},
	{"journal_apply_duration_seconds", histogram, "time to apply a journal entry",
		func(s snapshot) samples { return samples{{histogram: s.Apply}} }},
	{"journal_bytes", gauge, "size of the journal as it is stored, as of some seconds ago",
		func(s snapshot) samples { return one(s.JournalBytes) }},
	{"snapshots_bytes", gauge, "size of all snapshots, as of some seconds ago",
		func(s snapshot) samples { return one(s.SnapshotsBytes) }},
	{"snapshot_position", gauge, "journal position of the last snapshot",
		func(s snapshot) samples { return one(s.Snapshot) }},
	{"snapshot_bytes", gauge, "size of the last snapshot",
		func(s snapshot) samples { return one(s.SnapshotBytes) }},
	{"snapshot_age_seconds", gauge, "age of the last snapshot; absent while there is none", snapshotAge},

	{"detection_duration_seconds", histogram, "time until the loss of a session or a gateway is announced, by how it was detected; see docs/operations.md", detections},
	{"events_total", counter, "events published",
		func(s snapshot) samples { return one(s.Events) }},
	{"events_owed", gauge, "changes of this instance that it has yet to announce for certain; 5 s of them are normal",
		func(s snapshot) samples { return one(s.Unannounced) }},
	{"digest_mismatches_total", counter, "digests of other instances that differed from this one's; anything but 0 is a defect",
		func(s snapshot) samples { return one(s.Mismatches) }},

	{"server_connections", gauge, "open connections of clients to the NATS server inside, presenced's own included",
		ofServer(func(f *broker.Figures) float64 { return float64(f.Connections) })},
	{"server_slow_consumers_total", counter, "connections that the NATS server inside closed because they did not read fast enough",
		ofServer(func(f *broker.Figures) float64 { return float64(f.SlowConsumers) })},
	{"disk_free_bytes", gauge, "free bytes of the disk that has the data directory, as of some seconds ago; absent where that is not known",
		ofDisk(func(v *protocol.ServerVitals) uint64 { return v.FreeBytes })},
	{"disk_size_bytes", gauge, "size of that disk",
		ofDisk(func(v *protocol.ServerVitals) uint64 { return v.DiskBytes })},
}

// writeMetrics writes all figures in Prometheus' text format. While no service runs s is
// nil: then there are only the figures of the process, and that it is not ready. server has the
// figures of the server inside; nil: there is none.
func writeMetrics(w io.Writer, host string, s *service.Service, server *broker.Figures, ready bool, now time.Time) {
	x := snapshot{server: server, ready: ready, now: now}
	table := metricsTable[:1]
	if s != nil {
		x.Figures, table = s.Figures(), metricsTable
	}
	for _, m := range table {
		list := m.samples(x)
		if len(list) == 0 {
			continue
		}
		name := "presence_" + m.name
		writeHead(w, name, m.kind, m.help)
		for _, s := range list {
			if m.kind == histogram {
				writeHistogram(w, name, s.labels, s.histogram)
			} else {
				metrics.WriteGaugeFloat64(w, series(name, s.labels), s.value)
			}
		}
	}
	writeHead(w, "presence_info", gauge, "the version that runs, the name of this instance, and that of the NATS server that requests come from")
	fmt.Fprintf(w, "presence_info{version=%s,host=%s,server=%s} 1\n", label(versionText()), label(host), label(x.Server))
	writeProcess(w)
}

func writeHead(w io.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// series names one of a metric by its labels, which may be none.
func series(name, labels string) string {
	if labels == "" {
		return name
	}
	return name + "{" + labels + "}"
}

// writeHistogram writes a classic histogram: the library's own ones have other buckets.
func writeHistogram(w io.Writer, name, labels string, h service.Histogram) {
	bucket := func(bound string, count uint64) {
		fmt.Fprintf(w, "%s %d\n", series(name+"_bucket", strings.TrimPrefix(labels+`,le="`+bound+`"`, ",")), count)
	}
	for i, bound := range h.Bounds {
		bucket(strconv.FormatFloat(bound.Seconds(), 'g', -1, 64), h.Counts[i])
	}
	bucket("+Inf", h.Count)
	metrics.WriteGaugeFloat64(w, series(name+"_sum", labels), h.Sum.Seconds())
	fmt.Fprintf(w, "%s %d\n", series(name+"_count", labels), h.Count)
}

// label writes a label's value as Prometheus reads it.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

func one[T int | uint64 | float64](value T) samples { return samples{{value: float64(value)}} }

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func perEndpoint(value func(service.EndpointFigures) float64) func(snapshot) samples {
	return func(s snapshot) (list samples) {
		for _, e := range s.Endpoints {
			list = append(list, sample{labels: "endpoint=" + strconv.Quote(e.Name), value: value(e)})
		}
		return list
	}
}

func requestDurations(s snapshot) (list samples) {
	for _, e := range s.Endpoints {
		list = append(list, sample{labels: "endpoint=" + strconv.Quote(e.Name), histogram: e.Latency})
	}
	return list
}

func detections(s snapshot) (list samples) {
	for _, cause := range slices.Sorted(maps.Keys(s.Detection)) {
		list = append(list, sample{labels: "cause=" + strconv.Quote(cause), histogram: s.Detection[cause]})
	}
	return list
}

// ofServer has no samples where no server is inside.
func ofServer(value func(*broker.Figures) float64) func(snapshot) samples {
	return func(s snapshot) samples {
		if s.server == nil {
			return nil
		}
		return one(value(s.server))
	}
}

func ofDisk(value func(*protocol.ServerVitals) uint64) func(snapshot) samples {
	return func(s snapshot) samples {
		if s.Vitals == nil || s.Vitals.DiskBytes == 0 {
			return nil
		}
		return one(value(s.Vitals))
	}
}

// alerted are the errors that alert rules look at. They are shown before they occur: Prometheus sees
// no increase in a counter that begins with 1.
var alerted = []*protocol.Error{protocol.ErrInternal, protocol.ErrOverloaded, protocol.ErrUnavailable, protocol.ErrOutcomeUnknown}

func requestErrors(s snapshot) (list samples) {
	for _, e := range s.Endpoints {
		for _, a := range alerted {
			if e.Errors[a.Name] == 0 {
				e.Errors[a.Name] = 0
			}
		}
		for _, name := range slices.Sorted(maps.Keys(e.Errors)) {
			list = append(list, sample{labels: "endpoint=" + strconv.Quote(e.Name) + ",error=" + strconv.Quote(name), value: float64(e.Errors[name])})
		}
	}
	return list
}

func remembered(s snapshot) (list samples) {
	for _, what := range slices.Sorted(maps.Keys(s.Remembered)) {
		list = append(list, sample{labels: "what=" + strconv.Quote(what), value: float64(s.Remembered[what])})
	}
	return list
}

func snapshotAge(s snapshot) samples {
	if s.SnapshotAt.IsZero() {
		return nil
	}
	return one(s.now.Sub(s.SnapshotAt).Seconds())
}
