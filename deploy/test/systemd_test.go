package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const unit = "../systemd/presenced.service"

var setting = regexp.MustCompile(`^[A-Z][A-Za-z]*=`)

// TestSystemd has systemd look at the unit, where there is one. It refuses what it does not know,
// and more exposure than the documents say.
func TestSystemd(t *testing.T) {
	text := read(t, unit)
	for i, line := range strings.Split(text, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "[") && !setting.MatchString(line) {
			t.Errorf("%s:%d: %q is no setting", unit, i+1, line)
		}
	}
	for _, want := range []string{"Type=notify", "StateDirectory=presenced", "NoNewPrivileges=yes", "TimeoutStopSec=45"} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s has no %s", unit, want)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("LEFT OUT: systemd's own look at the unit. There is no systemd-analyze")
	}
	// systemd wants the program to be there.
	copied := filepath.Join(t.TempDir(), filepath.Base(unit))
	if err := os.WriteFile(copied, []byte(strings.Replace(text, "/usr/local/bin/presenced", "/bin/true", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", copied).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The threshold is in tenths.
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=11", copied).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
