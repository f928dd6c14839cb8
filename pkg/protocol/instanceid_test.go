package protocol_test

import (
	"strings"
	"testing"

	"presence/pkg/protocol"

	"pgregory.net/rapid"
)

func TestWriter(t *testing.T) {
	for _, c := range []struct {
		w        protocol.InstanceID
		id, name string
	}{
		{protocol.InstanceID{Host: "presence-1", Version: "1.4.0", Start: "5f3a9c0e1b2d4f67"}, "presence-1:1=2E4=2E0:5f3a9c0e1b2d4f67", "presence-1/5f3a9c0e"},
		{protocol.InstanceID{Host: "node1.example.com", Version: "0.0.0+d5ac433", Start: "s"}, "node1=2Eexample=2Ecom:0=2E0=2E0=2Bd5ac433:s", "node1.example.com/s"},
		{protocol.InstanceID{Host: "alone", Start: "5f3a9c0e1b2d4f67"}, "alone::5f3a9c0e1b2d4f67", "alone/5f3a9c0e"},
		{protocol.InstanceID{Start: "9d1f8af5-caa4-490e-8dc7-acb42280658f"}, "9d1f8af5-caa4-490e-8dc7-acb42280658f", "9d1f8af5-caa4-490e-8dc7-acb42280658f"},
	} {
		if got := c.w.String(); got != c.id {
			t.Errorf("ID of %+v: got %q, want %q", c.w, got, c.id)
		}
		if got := protocol.ParseInstanceID(c.id); got != c.w {
			t.Errorf("ParseInstanceID(%q): got %+v, want %+v", c.id, got, c.w)
		}
		if got := c.w.Name(); got != c.name {
			t.Errorf("Name of %+v: got %q, want %q", c.w, got, c.name)
		}
	}
	for _, id := range []string{"", ":", "::", "a:b", "a:b:", "a:b:c:d", "a.b:1:s", "=zz:1:s", "a=2:1:s"} {
		if got, want := protocol.ParseInstanceID(id), (protocol.InstanceID{Start: id}); got != want {
			t.Errorf("ParseInstanceID(%q): got %+v, want %+v", id, got, want)
		}
	}
}

// TestWriter_Tokens: whatever host and version are, the ID is one subject token of a
// bounded length, and tells what of them is valid.
func TestWriter_Tokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := protocol.InstanceID{Host: rapid.String().Draw(t, "host"), Version: rapid.String().Draw(t, "version"), Start: "5f3a9c0e1b2d4f67"}
		id := w.String()
		if strings.ContainsAny(id, ".*> \t\r\n\x00") || id == "" || len(id) > 3*(protocol.MaxHostBytes+protocol.MaxVersionBytes)+2+len(w.Start) {
			t.Fatalf("the ID of %+v is %q", w, id)
		}
		got := protocol.ParseInstanceID(id)
		if got.Start != w.Start || protocol.CheckHost(w.Host) == nil && got.Host != w.Host {
			t.Fatalf("ParseInstanceID(%q): got %+v, want %+v", id, got, w)
		}
	})
}
