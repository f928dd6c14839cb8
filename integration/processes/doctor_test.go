package processes

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"presence/pkg/service/servicetest"
)

// TestDoctor_Cluster: a cluster of three where all is well, and one that has lost a member. The
// doctor sees that from the instances, the streams and the NATS servers.
func TestDoctor_Cluster(t *testing.T) {
	c := servicetest.StartDaemonCluster(t, exampleConfig)
	first, ready := c.Daemons[0], time.Now()
	at := func(user string) string { return strings.Replace(first.URL, "nats://", "nats://"+user+":"+user+"@", 1) }
	examine := func() (string, error) {
		cmd := exec.Command(filepath.Join(servicetest.Build(t), "presencectl"), "-s", at("operator"), "--inbox-prefix", "_INBOX.operator.operator",
			"doctor", "--data", first.DataDir, "--system-url", at("sys"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	has := func(out string, texts ...string) bool {
		out = strings.Join(strings.Fields(out), " ") // lines are wrapped
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return false
			}
		}
		return true
	}
	last := ""
	defer func() {
		if t.Failed() {
			t.Logf("the doctor said:\n%s", last)
		}
	}()
	servicetest.Eventually(t, time.Minute, "all to be well", func() bool {
		out, err := examine()
		last = out
		return err == nil && has(out, "hold the same: 3", "3 replicas", "3 NATS servers", "Nothing is wrong.") &&
			time.Since(ready) > 5*time.Second // who starts right before another of its host ends may be its successor
	})
	c.Daemons[2].Kill(t)
	servicetest.Eventually(t, time.Minute, "the loss to be told", func() bool {
		out, _ := examine() // whether it is well enough for the exit code depends on who leads
		last = out
		return has(out, "is gone", "2 NATS servers", "behind, last heard of")
	})
}
