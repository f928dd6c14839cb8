package main

import (
	"path/filepath"
	"strings"
	"testing"

	"presence/cmd/internal/semver"
	"presence/pkg/broker"
	"presence/pkg/service/servicetest"
	"presence/pkg/service/verify"

	"github.com/nats-io/nats.go/jetstream"
)

// With the NATS server inside presenced the key is in its data directory.
func TestVerify(t *testing.T) {
	dir := ""
	url := servicetest.Start(t, servicetest.WithBroker(func(c *broker.Config) { dir = c.DataDir })).URL()
	ctl(t, "set", "alice", "hello", "-s", url).want(t, exitDone, "")

	out := ctl(t, "verify", "--data", dir, "-s", url).want(t, exitDone, "").stdout.String()
	if !strings.Contains(out, ": the same\n") || !strings.HasSuffix(out, "\nEverything is as the journal says.\n") {
		t.Errorf("verify: got\n%s", out)
	}
	r := decode[verify.Report](t, ctl(t, "verify", "--journal-nkey", filepath.Join(dir, broker.ReaderKeyFile), "--json", "-s", url).want(t, exitDone, ""))
	if len(r.Instances) != 1 || !r.Instances[0].Same || r.Users != 1 || r.Answers != 1 || r.Epoch == "" {
		t.Errorf("verify --json: got %+v", r)
	}
	r = decode[verify.Report](t, ctl(t, "verify", "--data", dir, "--sample", "0", "--json", "-s", url).want(t, exitDone, ""))
	if r.Answers != 0 {
		t.Errorf("verify --sample 0: got %d answers", r.Answers)
	}

	ctl(t, "verify", "--data", t.TempDir(), "-s", url).want(t, exitFailed, "presencectl: there is no key to the journal at …")
	ctl(t, "verify", "alice", "-s", url).want(t, exitUsage, "presencectl: unexpected argument …")
	other := ""
	servicetest.StartBroker(t, servicetest.WithBroker(func(c *broker.Config) { other = c.DataDir }))
	ctl(t, "verify", "--data", other, "-s", url).want(t, exitFailed, "presencectl: the NATS server at …")
}

// On somebody else's server there are credentials for it. What is off is told,
// and is the exit code.
func TestVerify_Different(t *testing.T) {
	kit := servicetest.StartOverNATS(t)
	url, journal := kit.URL(), kit.URLAs(servicetest.JournalUser)
	ctl(t, "set", "alice", "hello", "-s", url).want(t, exitDone, "")
	ctl(t, "verify", "--journal-url", journal, "-s", url).want(t, exitDone, "")

	js, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	kit.Instances[0].Stop(t)
	if _, err := js.Publish(t.Context(), "PRESENCE_JOURNAL.entries", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	c := ctl(t, "verify", "--journal-url", journal, "-s", url).want(t, exitFailed, "")
	if out := c.stdout.String(); !strings.Contains(out, "\nNot as the journal says, 1:\n- position ") || !strings.Contains(out, "cannot be applied") {
		t.Errorf("verify: got\n%s", out)
	}
}

func TestPositions(t *testing.T) {
	for want, positions := range map[string][]uint64{none: nil, "of position 42": {42}, "of positions 42 97": {42, 97}} {
		if got := list(positions); got != want {
			t.Errorf("list(%v): got %q, want %q", positions, got, want)
		}
	}
}

// TestVerify_OtherVersion: an instance of another version that differs may be right, and
// verify says so; of one of the same version it does not.
func TestVerify_OtherVersion(t *testing.T) {
	own := semver.Of(versionText())
	for version, warned := range map[string]bool{own: false, "1.3.9": true} {
		r := &verify.Report{Instances: []verify.Instance{
			{Writer: "presence-1:1=2E3=2E9:5f3a9c0e1b2d4f67", Version: version},
			{Writer: "presence-2:1=2E3=2E8:0000000000000000", Version: "1.3.8", Same: true},
		}, Differences: []verify.Difference{{What: "it differs"}}}
		var b strings.Builder
		if err := writeReport(&b, r); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), "note: instance presence-1/5f3a9c0e has version 1.3.9"); got != warned || strings.Contains(b.String(), "note: instance presence-2") {
			t.Errorf("version %s: got\n%s", version, b.String())
		}
	}
}
