package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// figure returns the value of a series on a page of figures.
func figure(t *testing.T, page, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("/metrics lacks %s", series)
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestMetrics_Detection: how long a loss took to be announced is counted under how it was noticed,
// and includes the grace or the TTL.
func TestMetrics_Detection(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--http", "127.0.0.1:0")
	nc, gone := d.Connect(t), d.Connect(t)
	clientID, err := gone.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	connection, err := json.Marshal(protocol.Connection{ServerID: gone.ConnectedServerId(), ClientID: clientID})
	if err != nil {
		t.Fatal(err)
	}
	login(t, nc, "closed", fmt.Sprintf(`{"graceSeconds":1,"connection":%s}`, connection))
	login(t, nc, "missing", fmt.Sprintf(`{"graceSeconds":1,"connection":{"serverID":%q,"clientID":4711}}`, gone.ConnectedServerId()))
	login(t, nc, "silent", `{"ttlSeconds":5}`)
	open, _ := subjects.Gateway("gw", "open")
	request(t, nc, open, `{"process":"one","ttlSeconds":5}`)
	gone.Close()

	url := monitorOf(t, d)
	for cause, least := range map[string]float64{"closed": 1, "comparison": 1, "silent": 5, "gateway": 5} {
		var page string
		labels := `{cause="` + cause + `"}`
		servicetest.Eventually(t, waitFor, "the loss to be counted as "+cause, func() bool {
			_, page = fetch(t, url+"/metrics")
			return figure(t, page, "presence_detection_duration_seconds_count"+labels) == 1
		})
		if took := figure(t, page, "presence_detection_duration_seconds_sum"+labels); took < least {
			t.Errorf("%s: the loss took %v s, want at least %v s", cause, took, least)
		}
	}
}

// TestMetrics_Histograms: what the histograms have is what happened: each request is in one bucket,
// and each entry was appended and applied.
func TestMetrics_Histograms(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--http", "127.0.0.1:0", "--name", `one "two" \three`)
	nc := d.Connect(t)
	for range 7 {
		login(t, nc, "alice", `{"sessionID":"s"}`)
	}
	_, page := fetch(t, monitorOf(t, d)+"/metrics")
	const name = "presence_request_duration_seconds"
	if n := figure(t, page, name+`_bucket{endpoint="login",le="+Inf"}`); n != 7 {
		t.Errorf("%v logins are in the buckets, want 7", n)
	}
	if n := figure(t, page, name+`_count{endpoint="login"}`); n != figure(t, page, `presence_requests_total{endpoint="login"}`) {
		t.Errorf("%v logins are in the histogram, and others in the counter", n)
	}
	if first, all := figure(t, page, name+`_bucket{endpoint="login",le="0.0001"}`), figure(t, page, name+`_bucket{endpoint="login",le="30"}`); all < first || all != 7 {
		t.Errorf("of the logins %v took at most 100 µs, and %v at most 30 s, want 7 of those", first, all)
	}
	for _, what := range []string{"append", "apply"} {
		if n := figure(t, page, "presence_journal_"+what+"_duration_seconds_count"); n < 7 {
			t.Errorf("%s: %v entries were measured, want 7 or more", what, n)
		}
	}
	if n := figure(t, page, "presence_server_connections"); n < 5 {
		t.Errorf("the server inside has %v connections, want the test's and presenced's four", n)
	}
	if free, size := figure(t, page, "presence_disk_free_bytes"), figure(t, page, "presence_disk_size_bytes"); free <= 0 || free > size {
		t.Errorf("%v of %v bytes of the disk are free", free, size)
	}
	servicetest.Eventually(t, waitFor, "the journal's size", func() bool {
		_, page = fetch(t, monitorOf(t, d)+"/metrics")
		return figure(t, page, "presence_journal_bytes") > 0
	})
	if want := `host="one \"two\" \\three",server="presence"} 1` + "\n"; !strings.Contains(page, want) {
		t.Errorf("presence_info lacks %q", want)
	}
	began := time.Unix(int64(figure(t, page, "process_start_time_seconds")), 0)
	if age := time.Since(began); age < 0 || age > time.Hour {
		t.Errorf("the process is %v old", age)
	}
}
