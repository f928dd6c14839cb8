package api_test

import (
	"testing"
	"time"

	"presence/pkg/internal/api"
	"presence/pkg/protocol"
)

// TestDefaultTTL: a TTL that is left out is long enough for the grace that is chosen. After the
// close of its connection a lease that is renewed every third of its TTL has two thirds left.
func TestDefaultTTL(t *testing.T) {
	on := &protocol.Connection{ServerID: "N1", ClientID: 7}
	for _, c := range []struct {
		ttl, grace           int64
		bound, unbound, open time.Duration
	}{
		{0, 0, 120 * time.Second, 30 * time.Second, 30 * time.Second},
		{0, 1, 120 * time.Second, 61 * time.Second, 61 * time.Second},
		{0, 60, 120 * time.Second, 120 * time.Second, 120 * time.Second},
		{0, 100, 160 * time.Second, 160 * time.Second, 160 * time.Second},
		{0, 300, 450 * time.Second, 450 * time.Second, 450 * time.Second},
		{5, 300, 5 * time.Second, 5 * time.Second, 5 * time.Second},
		{3600, 0, time.Hour, time.Hour, time.Hour},
	} {
		login := &protocol.LoginRequest{TTLSeconds: c.ttl, GraceSeconds: c.grace, Connection: on}
		open := &protocol.OpenRequest{Process: "p", TTLSeconds: c.ttl, GraceSeconds: c.grace, Connection: on}
		for _, x := range []struct {
			what       string
			ttl, grace uint32
			want       time.Duration
		}{
			{"bound", api.Login("u", login, true).TTL, api.Login("u", login, true).Grace, c.bound},
			{"not known to report", api.Login("u", login, false).TTL, api.Login("u", login, false).Grace, c.unbound},
			{"gateway", api.Open("g", open).TTL, api.Open("g", open).Grace, c.open},
		} {
			if int64(x.ttl) != x.want.Milliseconds() || int64(x.grace) != c.grace*1000 {
				t.Errorf("TTL %d, grace %d, %s: got %d ms, %d ms, want %v", c.ttl, c.grace, x.what, x.ttl, x.grace, x.want)
			}
		}
	}
}

// TestDefaultTTL_Unbound: without a connection there is no grace to outlast. So the default is not
// longer, and a silent client is OFFLINE as soon as without the choice.
func TestDefaultTTL_Unbound(t *testing.T) {
	login := api.Login("u", &protocol.LoginRequest{GraceSeconds: 60}, false)
	open := api.Open("g", &protocol.OpenRequest{Process: "p", GraceSeconds: 60})
	for what, ttl := range map[string]uint32{"login": login.TTL, "open": open.TTL} {
		if int64(ttl) != protocol.DefaultTTL.Milliseconds() {
			t.Errorf("%s: got %d ms, want %v", what, ttl, protocol.DefaultTTL)
		}
	}
}
