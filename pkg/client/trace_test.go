package client_test

import (
	"testing"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
)

// TestWithTraceParent: the requests of a context with a trace name it, and no others do.
func TestWithTraceParent(t *testing.T) {
	t.Parallel()
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s := clienttest.New(t, clienttest.Options{})
	c, err := client.New(s.Connect(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for text, traced := range map[string]string{"none": "", "good": trace, "bad": ""} {
		ctx := t.Context()
		if text != "none" {
			ctx = client.WithTraceParent(ctx, map[string]string{"good": trace, "bad": trace + "\r\nx: y"}[text])
		}
		if _, err := c.SetSelfStatus(ctx, "alice", text); err != nil {
			t.Fatal(err)
		}
		sets := s.Requests("set")
		if got := sets[len(sets)-1].TraceParent; got != traced {
			t.Errorf("%s: the request names the trace %q, want %q", text, got, traced)
		}
	}
}
