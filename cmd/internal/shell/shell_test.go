package shell

import (
	"os/exec"
	"testing"
)

// TestWord: a shell reads every text as it was.
func TestWord(t *testing.T) {
	for _, s := range []string{"", "alice", "/a b/c", "it's", `"$(exit 3)"`, "`exit 3`", `\n`, "*", "~", "a\nb", "-x", "王"} {
		out, err := exec.Command("sh", "-c", "printf %s "+Word(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("Word(%q): sh reads %q, %v", s, out, err)
		}
	}
	if got := Word("bin/presencectl"); got != "bin/presencectl" {
		t.Errorf("Word of what needs no quotes: got %q", got)
	}
}
