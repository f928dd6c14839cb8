package monitoring

import (
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

// rules returns the alert rules. They are what "promtool check rules" accepts.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(root+"/deploy/prometheus/alerts.yml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() || len(groups.Groups) == 0 {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestAlerts: each rule asks for what presenced shows, is in no state of alarm while all is well, and
// says what to do; and each is in the table of docs/operations.md.
func TestAlerts(t *testing.T) {
	all := series(t)
	var load strings.Builder
	load.WriteString("load 15s\n")
	for line := range strings.Lines(string(page)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "presence_") && !strings.Contains(name, `version="`) {
			load.WriteString("  " + name + " " + value + "x80\n") // it stays so for 20 minutes
		}
	}
	healthy := promqltest.LoadedStorage(t, load.String())
	operations, err := os.ReadFile(root + "/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(Presence\\w+)` \\| ").FindAllStringSubmatch(string(operations), -1) {
		named = append(named, m[1])
	}
	var names []string
	for _, r := range rules(t) {
		names = append(names, r.Alert)
		if err := checkQuery(r.Expr, all); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" || r.Annotations["summary"] == "" {
			t.Errorf("%s has the labels %v and the annotations %v", r.Alert, r.Labels, r.Annotations)
		}
		file, anchor, _ := strings.Cut(r.Annotations["runbook"], "#")
		if file != "docs/operations.md" || !strings.Contains(string(operations), "\n### "+strings.ToUpper(anchor[:min(1, len(anchor))])+anchor[min(1, len(anchor)):]+"\n") {
			t.Errorf("%s: there is no %s", r.Alert, r.Annotations["runbook"])
		}
		if r.Alert == "PresenceDiskLow" || r.Alert == "PresenceDiskFull" {
			continue // this machine's disk may be full
		}
		if got := evaluate(t, healthy, r.Expr, 20*time.Minute); len(got) > 0 {
			t.Errorf("%s: %s holds while all is well: %v", r.Alert, r.Expr, got)
		}
	}
	slices.Sort(names)
	slices.Sort(named)
	if !slices.Equal(names, named) {
		t.Errorf("docs/operations.md has the alerts\n%q, there are\n%q", named, names)
	}
}

// alarms has for each rule series by which it must alarm after 20 minutes, one sample each 15 s.
var alarms = map[string]string{
	"PresenceAbsent":         `up 1x80`,
	"PresenceNotReady":       `presence_ready{instance="a"} 0x80`,
	"PresenceStale":          `presence_journal_lag_seconds{instance="a"} 0x70 0+15x10`,
	"PresenceStatesDiffer":   `presence_digest_mismatches_total{instance="a"} 0x70 1x10`,
	"PresenceInternalErrors": `presence_request_errors_total{instance="a",endpoint="set",error="internal"} 0x70 1x10`,
	"PresenceRefusing": `presence_request_errors_total{instance="a",endpoint="set",error="overloaded"} 0+1x80
		presence_request_errors_total{instance="b",endpoint="get",error="overloaded"} 0+1x80`,
	"PresenceSlowRequests": `presence_request_duration_seconds_bucket{endpoint="set",le="1"} 0+90x80
		presence_request_duration_seconds_bucket{endpoint="set",le="2.5"} 0+100x80
		presence_request_duration_seconds_bucket{endpoint="set",le="+Inf"} 0+100x80`,
	"PresenceSlowJournal": `presence_journal_append_duration_seconds_bucket{instance="a",le="0.5"} 0+90x80
		presence_journal_append_duration_seconds_bucket{instance="a",le="1"} 0+100x80
		presence_journal_append_duration_seconds_bucket{instance="a",le="+Inf"} 0+100x80`,
	"PresenceInstanceGone": `presence_instances{instance="a"} 3x40 2x40
		presence_instances{instance="b"} 3x40 2x40`,
	"PresenceRestarting": `presence_info{instance="a"} 1x80
		process_start_time_seconds{instance="a"} 100x10 200x20 300x20 400x30`,
	"PresenceAmnesty":       `presence_amnesty{instance="a"} 1x80`,
	"PresenceFlood":         `presence_requests_unanswered_total{instance="a",endpoint="set"} 0+10x80`,
	"PresenceSlowConsumers": `presence_server_slow_consumers_total{instance="a"} 0x70 1x10`,
	"PresenceNoSnapshots": `presence_journal_position{instance="a"} 75000+100x80
		presence_snapshot_position{instance="a"} 0x80`,
	"PresenceDiskLow":  `presence_disk_free_bytes{instance="a"} 900000000x80`,
	"PresenceDiskFull": `presence_disk_free_bytes{instance="a"} 100000000x80`,
}

// TestAlerts_Alarm: each rule holds when what it is for has happened, once, and not before.
func TestAlerts_Alarm(t *testing.T) {
	left := maps.Clone(alarms)
	for _, r := range rules(t) {
		load, ok := left[r.Alert]
		if !ok {
			t.Errorf("%s is not tested", r.Alert)
			continue
		}
		delete(left, r.Alert)
		storage := promqltest.LoadedStorage(t, "load 15s\n  "+load+"\n")
		if got := evaluate(t, storage, r.Expr, 20*time.Minute); len(got) != 1 {
			t.Errorf("%s: %s gives %v, want one alarm", r.Alert, r.Expr, got)
		}
	}
	for name := range left {
		t.Errorf("there is no rule %s", name)
	}
}

// evaluate returns what a query gives so long after the first sample.
func evaluate(t *testing.T, from storage.Queryable, query string, after time.Duration) promql.Vector {
	t.Helper()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	q, err := engine.NewInstantQuery(t.Context(), from, nil, query, time.Unix(0, 0).Add(after))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	result, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return result
}
