package protocol

import "testing"

func TestTraceParent(t *testing.T) {
	t.Parallel()
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for text, want := range map[string]bool{
		good: true,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00": true,
		"00-00000000000000000000000000000001-1000000000000000-00": true,
		"": false, good[1:]: false, good + "-": false, good + "-00": false,
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":  false,
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":  false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":  false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":  false,
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":  false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\r-01": false,
		"00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01":  false,
	} {
		if got := IsTraceParent(text); got != want {
			t.Errorf("IsTraceParent(%q): got %v, want %v", text, got, want)
		}
	}
	for name, c := range map[string]struct {
		headers map[string][]string
		want    string
	}{
		"none":        {nil, ""},
		"one":         {map[string][]string{"traceparent": {good}}, good},
		"two":         {map[string][]string{"traceparent": {good, good}}, ""},
		"capitals":    {map[string][]string{"Traceparent": {good}}, ""},
		"no trace":    {map[string][]string{"traceparent": {"x"}}, ""},
		"a list of 0": {map[string][]string{"traceparent": {}}, ""},
	} {
		if got := TraceParent(c.headers); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
