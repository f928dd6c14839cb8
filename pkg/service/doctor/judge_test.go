package doctor

// White-box: faults such as a full disk or a clock that is wrong are made here by what an
// instance says. Those that can be made for real are in doctor_test.go.

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
)

// healthy is what is found where nothing is wrong.
func healthy() *served {
	s := &served{prefix: "presence.v1"}
	for _, host := range []string{"a", "b"} {
		writer := protocol.InstanceID{Host: host, Version: "1.4.0", Start: "0123456789abcdef"}.String()
		s.instances = append(s.instances, &instance{
			InstanceReply: protocol.InstanceReply{Writer: writer, Version: "1.4.0", Digest: "0a", Revision: 7, Epoch: "e", Vitals: &protocol.Vitals{
				Clock: 1, UptimeSeconds: 3600, Position: 1000, LagSeconds: 0.5, Format: 5, MaxFormat: 5, SystemAccount: true,
				Refusals: map[string]uint64{"invalid_request": 9}, Rules: map[string]string{"grace": "5s"},
				Snapshot: &protocol.SnapshotVitals{Position: 900, Bytes: 10, AgeSeconds: 3600},
				Journal:  &protocol.JournalVitals{First: 1, Last: 1000, Bytes: 5000, Replicas: 1},
				Server:   &protocol.ServerVitals{SyncAlways: true, PingIntervalSeconds: 5, PingMax: 2, FreeBytes: 50 << 30, DiskBytes: 100 << 30},
			}},
			took: []time.Duration{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond}, bound: time.Millisecond / 2,
		})
		s.stats.Instances = append(s.stats.Instances, protocol.InstanceStats{Writer: writer, SilentMs: 500})
	}
	return s
}

func judged(s *served) []Check {
	var f, journal findings
	s.judge(&f, &journal)
	return append(f.list, journal.list...)
}

// TestJudge: what is found leads to one check that is not ok, and that one says what and what to do.
func TestJudge(t *testing.T) {
	for _, c := range judged(healthy()) {
		if c.Result != OK || c.Found == "" || c.Means != "" || c.Do != "" {
			t.Errorf("healthy: got %+v", c)
		}
	}
	vitals := func(s *served) *protocol.Vitals { return s.instances[1].Vitals }
	for _, c := range []struct {
		name  string // of the check
		spoil func(*served)
		want  Result
		says  string
	}{
		{"service.answers", func(s *served) { s.err, s.instancesErr, s.instances = errNobody, errNobody, nil }, Fail, "presenced does not run"},
		{"service.answers", func(s *served) {
			s.err, s.instancesErr, s.instances, s.elsewhere = errNobody, errNobody, nil, []string{"other.v1"}
		}, Fail, "--prefix other.v1"},
		{"service.answers", func(s *served) { s.err, s.instancesErr, s.instances = errSilent, errSilent, nil }, Fail, "every instance hangs"},
		{"service.answers", func(s *served) { s.err, s.instancesErr, s.instances = errDeaf, errDeaf, nil }, NotChecked, "permissions.answers"},
		{"service.answers", func(s *served) { s.err, s.instancesErr, s.instances = errRefused, errRefused, nil }, NotChecked, "permission to ask for stats"},
		{"service.answers", func(s *served) { s.instancesErr, s.instances = errSilent, nil }, Fail, "no instance answers"},
		{"service.answers", func(s *served) { s.err = errors.New("overloaded") }, Fail, "stats is refused: overloaded"},
		{"instances", func(s *served) { s.err, s.instancesErr, s.instances = errRefused, errRefused, nil }, NotChecked, "admin.instances"},
		{"instance.answers", func(s *served) { s.missing = []missing{{InstanceStats: s.stats.Instances[0], appends: true}} }, Fail, "appends to the journal and does not answer"},
		{"instance.answers", func(s *served) { s.missing = []missing{{InstanceStats: s.stats.Instances[0], hangs: true}} }, Fail, "a/01234567 hangs"},
		{"instance.answers", func(s *served) { s.missing = []missing{{InstanceStats: s.stats.Instances[0]}} }, Warn, "a/01234567 is gone"},
		{"service.versions", func(s *served) { s.instances[1].Version = "1.3.0" }, Warn, "1.3.0 (b/01234567), 1.4.0 (a/01234567)"},
		{"service.rules", func(s *served) { vitals(s).Rules["grace"] = "9s" }, Warn, "--grace is 5s (a/01234567), 9s (b/01234567)"},
		{"service.states", func(s *served) { s.instances[1].Digest = "0b" }, Fail, "do not hold the same at revision 7"},
		{"service.states", func(s *served) { s.instances[1].Revision++ }, NotChecked, "the same revision"},
		{"service.positions", func(s *served) { vitals(s).Position += farBehind + 1 }, Warn, "a/01234567 is 100,001 journal entries behind"},
		{"service.format", func(s *served) { vitals(s).MaxFormat = 4 }, Warn, "4 (b/01234567), 5 (a/01234567)"},
		{"service.owed", func(s *served) { s.stats.Instances[0].Owes, s.stats.Instances[0].SilentMs = 3, 150_000 }, Warn, "is gone owes announcements"},
		{"service.owed", func(s *served) { s.stats.Instances[0].Owes = manyOwed + 1 }, Warn, "100,001 changes"},
		{"instance.ready", func(s *served) { s.instances[1].NotReady = "restoring: 45 %" }, Fail, "not ready: restoring: 45 %"},
		{"instance.ready", func(s *served) { vitals(s).Impaired = "the NATS server refuses it" }, Warn, "ready, but the NATS server refuses it"},
		{"instance.latency", func(s *served) { s.instances[1].took = nil; vitals(s).Clock = 0 }, Fail, "not when it was asked by its name"},
		{"instance.latency", func(s *served) { s.instances[1].took[1] = time.Second }, Warn, "too much to do"},
		{"instance.lag", func(s *served) { vitals(s).LagSeconds = 3.5 }, Fail, "3.5s ago"},
		{"instance.lag", func(s *served) { s.instances[1].Stale = true }, Fail, "it is stale"},
		{"instance.clock", func(s *served) { s.instances[1].ahead = 2 * time.Second }, Warn, "2s ahead of this machine's"},
		{"instance.clock", func(s *served) { s.instances[1].ahead = -90 * time.Second }, Warn, "1m30s behind this machine's"},
		{"instance.disk", func(s *served) { vitals(s).Server.FreeBytes = 900 << 20 }, Warn, "900 MiB of 100 GiB"},
		{"instance.disk", func(s *served) { vitals(s).Server.FreeBytes = 63 << 20 }, Fail, "changes are refused"},
		{"instance.defects", func(s *served) { vitals(s).Mismatches = 2 }, Fail, "2 times"},
		{"instance.defects", func(s *served) { vitals(s).Refusals["internal"] = 1 }, Fail, "the cause is in its log"},
		{"instance.noticing", func(s *served) { vitals(s).SystemAccount = false }, Warn, "--system-creds"},
		{"instance.noticing", func(s *served) { vitals(s).Server.PingIntervalSeconds = 120 }, Warn, "closed after 6m0s to 8m0s"},
		{"journal.snapshot", func(s *served) {
			for _, i := range s.instances {
				i.Vitals.Snapshot.AgeSeconds = 21 * 3600
			}
		}, Warn, "21h0m old, of position 900"},
		{"journal.snapshot", func(s *served) {
			for _, i := range s.instances {
				i.Vitals.Snapshot, i.Vitals.Journal.Last = nil, longJournal+1
			}
		}, Warn, "no snapshot yet; the journal has 262,145 entries"},
		{"journal.sync", func(s *served) { vitals(s).Server.SyncAlways = false }, Warn, "--sync always"},
	} {
		s := healthy()
		c.spoil(s)
		found := 0
		for _, got := range judged(s) {
			switch {
			case got.Result == OK:
			case got.Name == c.name && got.Result == c.want && strings.Contains(got.Found+" "+got.Means+" "+got.Do, c.says):
				found++
				if got.Result != NotChecked && (got.Means == "" || got.Do == "") {
					t.Errorf("%s, %s: got %+v, want what it means and what to do", c.name, c.says, got)
				}
			case got.Result == NotChecked:
			default:
				t.Errorf("%s, %s: got %+v as well", c.name, c.says, got)
			}
		}
		if found != 1 {
			t.Errorf("%s, %q: found %d times in %+v", c.name, c.says, found, judged(s))
		}
	}
}

// TestJudge_Earlier: an instance that tells no vitals is no problem. What it would tell is named as
// not checked.
func TestJudge_Earlier(t *testing.T) {
	s := healthy()
	for _, i := range s.instances {
		i.Vitals = nil
	}
	skipped := map[string]bool{}
	for _, c := range judged(s) {
		switch c.Result {
		case NotChecked:
			skipped[c.Name] = true
		case OK:
		default:
			t.Errorf("got %+v", c)
		}
	}
	for _, name := range []string{"service.rules", "service.positions", "service.format", "journal.snapshot", "journal.sync", "instance.vitals"} {
		if !skipped[name] {
			t.Errorf("%s is not named as not checked", name)
		}
	}
	s = healthy()
	s.instances[1].Vitals = nil // a rolling upgrade
	for _, c := range judged(s) {
		if c.Result != OK && (c.Name != "instance.vitals" || c.Instance != s.instances[1].Writer) {
			t.Errorf("one of an earlier version: got %+v", c)
		}
	}
}

// TestJudge_Restarted: an instance that was started anew is not missed, and one that has another
// instance on its host since long is.
func TestJudge_Restarted(t *testing.T) {
	for _, c := range []struct {
		host   string
		uptime float64
		other  float64 // how long the other instance has run
		hangs  bool
		want   Result
	}{
		{"a", 3, 3600, false, OK}, {"a", 3600, 3600, false, Warn}, {"c", 3, 3600, false, Warn}, {"a", 3, 3600, true, Fail},
		{"a", 5, 3600, false, OK}, {"a", 8, 1, false, OK}, {"a", 10, 1, false, Warn},
		{"a", 8, 8, false, Warn}, // the three of a host had been started just before
	} {
		s := healthy()
		s.instances[0].Host, s.instances[0].Vitals.UptimeSeconds = "a", c.uptime
		s.instances[1].Host, s.instances[1].Vitals.UptimeSeconds = "b", c.other
		gone := protocol.InstanceID{Host: c.host, Version: "1.4.0", Start: "fedcba9876543210"}.String()
		s.missing = []missing{{InstanceStats: protocol.InstanceStats{Writer: gone, SilentMs: 4000}, hangs: c.hangs}}
		for _, got := range judged(s) {
			if want := map[bool]Result{true: c.want, false: OK}[got.Instance == gone]; got.Result != want {
				t.Errorf("%+v: got %+v, want %s", c, got, want)
			}
		}
	}
}

func TestJudge_Connection(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	certificate := func(left time.Duration) *tls.ConnectionState {
		return &tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{{NotAfter: now.Add(left)}}}
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		got  Check
		want Result
		says string
	}{
		{judgeRoundTrip("nats://x:4222", "2.15.2", 2*time.Millisecond), OK, "NATS server 2.15.2, 2.0 ms"},
		{judgeRoundTrip("nats://x:4222", "2.15.2", time.Second), Warn, "1s there and back"},
		{judgePlain("nats://127.0.0.1:4222"), OK, "on this machine"},
		{judgePlain("nats://[::1]:4222"), OK, "on this machine"},
		{judgePlain("nats://10.0.0.5:4222"), Warn, "not encrypted"},
		{judgeTLS(certificate(90*day), now), OK, "TLS 1.3, the server's certificate is valid until 2027-02-28 (90 days)"},
		{judgeTLS(certificate(13*day), now), Warn, "2026-12-13 (13 days)"},
		{judgeTLS(certificate(-time.Hour), now), Fail, "expired on 2026-11-30"},
	} {
		if c.got.Result != c.want || !strings.Contains(c.got.Found, c.says) || (c.want == OK) != (c.got.Do == "") {
			t.Errorf("got %+v, want %s with %q", c.got, c.want, c.says)
		}
	}
}

func TestJudge_Stream(t *testing.T) {
	want := journal.Requirements("J", 1)
	info := func() *jetstream.StreamInfo {
		return &jetstream.StreamInfo{
			Config:  jetstream.StreamConfig{Name: "J", Subjects: want.Subjects, Discard: jetstream.DiscardNew, DenyDelete: true, Replicas: 3},
			Cluster: &jetstream.ClusterInfo{Name: "c", Leader: "n1", Replicas: []*jetstream.PeerInfo{{Name: "n2", Current: true}, {Name: "n3", Current: true}}},
		}
	}
	for _, c := range []struct {
		spoil func(*jetstream.StreamInfo)
		want  Result
		says  string
	}{
		{func(*jetstream.StreamInfo) {}, OK, "3 replicas"},
		{func(i *jetstream.StreamInfo) { i.Cluster = nil }, OK, "settings are right"},
		{func(i *jetstream.StreamInfo) { i.Config.MaxAge = time.Hour }, Fail, "nats stream edit J --max-age=0s"},
		{func(i *jetstream.StreamInfo) { i.Cluster.Leader = "" }, Fail, "no leader"},
		{func(i *jetstream.StreamInfo) { i.Cluster.Replicas[1].Offline = true }, Warn, "n3 is offline"},
		{func(i *jetstream.StreamInfo) {
			*i.Cluster.Replicas[0] = jetstream.PeerInfo{Name: "n2", Lag: 7, Active: 9 * time.Second}
		}, Warn, "n2 is 7 behind, last heard of 9 s ago"},
		{func(i *jetstream.StreamInfo) { i.Config.Replicas = 1 }, Warn, "--replicas=3"},
	} {
		have := info()
		c.spoil(have)
		got := judgeStream("journal.stream", have, want)
		if got.Result != c.want || !strings.Contains(got.Found+got.Do, c.says) {
			t.Errorf("got %+v, want %s with %q", got, c.want, c.says)
		}
	}
}
