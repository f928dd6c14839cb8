package monitoring

import (
	"bytes"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// TestLint: the page is what "promtool check metrics" accepts without complaint. This is its code.
func TestLint(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader(page)).Lint()
	if err != nil {
		t.Fatalf("the page of figures cannot be parsed: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
