package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

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
	ready bool
	now   time.Time
}

// samples are values by their labels, as they stand between the braces.
type samples []sample

type sample struct {
	labels string
	value  float64
}

const (
	gauge   = "gauge"
	counter = "counter"
)

// metricsTable has every figure of presenced. Figures of the state are the same on each
// instance: take their maximum, not their sum.
var metricsTable = []metric{
	{"ready", gauge, "1 while the instance should get requests, see /readyz",
		func(s snapshot) samples { return one(truth(s.ready)) }},
	{"requests_total", counter, "requests answered, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return float64(e.Requests) })},
	{"request_seconds_total", counter, "time from the arrival of requests to their answers, summed, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return e.Busy.Seconds() })},
	{"request_errors_total", counter, "requests answered with an error, by endpoint and error", requestErrors},
	{"requests_dropped_total", counter, "requests dropped because of a forbidden reply subject, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return float64(e.Dropped) })},
	{"requests_unanswered_total", counter, "requests refused because their sender sent far too many, without an answer, by endpoint",
		perEndpoint(func(e service.EndpointFigures) float64 { return float64(e.Unanswered) })},
	{"waiting", gauge, "callers whose change is not applied yet",
		func(s snapshot) samples { return one(s.Waiting) }},

	{"users", gauge, "users by their public status", func(s snapshot) samples {
		return samples{{`status="online"`, float64(s.Users.Online)}, {`status="offline"`, float64(s.Users.Offline)}, {`status="unlogined"`, float64(s.Users.Unlogined)}}
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
	{"journal_lag_seconds", gauge, "time since the last journal entry was applied; there is one a second at least",
		func(s snapshot) samples { return one(s.Lag.Seconds()) }},
	{"snapshot_position", gauge, "journal position of the last snapshot",
		func(s snapshot) samples { return one(s.Snapshot) }},
	{"snapshot_bytes", gauge, "size of the last snapshot",
		func(s snapshot) samples { return one(s.SnapshotBytes) }},
	{"snapshot_age_seconds", gauge, "age of the last snapshot; absent while there is none", snapshotAge},

	{"events_total", counter, "events published",
		func(s snapshot) samples { return one(s.Events) }},
	{"events_owed", gauge, "changes of this instance that it has yet to announce for certain; 5 s of them are normal",
		func(s snapshot) samples { return one(s.Unannounced) }},
	{"digest_mismatches_total", counter, "digests of other instances that differed from this one's; anything but 0 is a defect",
		func(s snapshot) samples { return one(s.Mismatches) }},
}

// writeMetrics writes all figures in Prometheus' text format. While no service runs s is
// nil: then there are only the figures of the process, and that it is not ready.
func writeMetrics(w io.Writer, host string, s *service.Service, ready bool, now time.Time) {
	x := snapshot{ready: ready, now: now}
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
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, m.help, name, m.kind)
		for _, s := range list {
			if s.labels == "" {
				metrics.WriteGaugeFloat64(w, name, s.value)
			} else {
				metrics.WriteGaugeFloat64(w, name+"{"+s.labels+"}", s.value)
			}
		}
	}
	fmt.Fprintf(w, "# HELP presence_info the version that runs, and the name of this instance\n# TYPE presence_info gauge\npresence_info{version=%s,host=%s} 1\n", label(versionText()), label(host))
	metrics.WriteProcessMetrics(w)
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
			list = append(list, sample{"endpoint=" + strconv.Quote(e.Name), value(e)})
		}
		return list
	}
}

func requestErrors(s snapshot) (list samples) {
	for _, e := range s.Endpoints {
		for _, name := range slices.Sorted(maps.Keys(e.Errors)) {
			list = append(list, sample{"endpoint=" + strconv.Quote(e.Name) + ",error=" + strconv.Quote(name), float64(e.Errors[name])})
		}
	}
	return list
}

func remembered(s snapshot) (list samples) {
	for _, what := range slices.Sorted(maps.Keys(s.Remembered)) {
		list = append(list, sample{"what=" + strconv.Quote(what), float64(s.Remembered[what])})
	}
	return list
}

func snapshotAge(s snapshot) samples {
	if s.SnapshotAt.IsZero() {
		return nil
	}
	return one(s.now.Sub(s.SnapshotAt).Seconds())
}
