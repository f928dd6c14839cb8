package main

import (
	"encoding/json"
	"strings"
	"testing"

	"presence/cmd/internal/semver"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestName: the name of an instance is in its figures, its log, and what any instance
// says of it.
func TestName(t *testing.T) {
	t.Parallel()
	const name = `node1.example.com "a"`
	d := servicetest.StartDaemon(t, "--name", name, "--http", "127.0.0.1:0")
	_, figures := fetch(t, monitorOf(t, d)+"/metrics")
	if want := `,host="node1.example.com \"a\"",server="presence"} 1`; !strings.Contains(figures, "presence_info{version=\"") || !strings.Contains(figures, want) {
		t.Errorf("got the figures\n%swant presence_info with %s", figures, want)
	}
	if want := `msg=ready instance="node1.example.com \"a\"/`; !strings.Contains(d.Stderr(), want) {
		t.Errorf("got the log\n%swant it to say %s", d.Stderr(), want)
	}
	var stats protocol.StatsReply
	if err := json.Unmarshal(request(t, d.Connect(t), subjects.Stats(), "{}"), &stats); err != nil {
		t.Fatal(err)
	}
	if len(stats.Instances) != 1 || stats.Instances[0].Host != name || stats.Instances[0].Version != semver.Of(versionText()) {
		t.Errorf("stats: got %+v, want the name and the version", stats.Instances)
	}
}
