package processes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// served is what presenced answers about everybody but those whom the load changes, by question.
// Nothing in it depends on when it is asked.
func served(t *testing.T, nc *nats.Conn, url string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(presencectl(t, url, "--json", "list")) {
		user := decode[protocol.Status](t, line).UserID
		if strings.HasPrefix(user, "setter") || strings.HasPrefix(user, "soon") {
			continue
		}
		all["list "+user] = line
		explained := wire.Must[protocol.ExplainReply](t, nc, wire.Subjects.Explain(), protocol.UserRequest{UserID: user})
		all["explain "+user] = explainText(explained)
	}
	for _, user := range []string{"text", "away", "lost", "erased"} {
		all["contacts "+user] = presencectl(t, url, "contacts", "list", user)
	}
	got := decode[protocol.GetReply](t, presencectl(t, url, "--json", "get", "--detail", "--fresh",
		"text", "text-only", "away", "busy-for-an-hour", "invisible", "lost", "phone-and-laptop", "by-gateway1", "by-gateway3", "erased", "never-seen"))
	for _, s := range got.SuccessUserList {
		all["get "+s.UserID] = string(wire.Encode(s))
	}
	stats := wire.Must[protocol.StatsReply](t, nc, wire.Subjects.Stats(), "{}")
	all["stats"] = fmt.Sprint(stats.Users, stats.Sessions, stats.Leases, stats.Gateways)
	for user, session := range map[string]string{"replaced": "s1", "kicked": "s", "everywhere-out": "s"} {
		for _, op := range []string{protocol.OpLogin, protocol.OpRenew} {
			_, err := wire.Ask[map[string]any](nc, wire.To(op, user), fmt.Sprintf(`{"sessionID":%q}`, session))
			if err == nil {
				t.Errorf("%s of an ended session of %s was done", op, user)
			}
			all[op+" "+user] = outcome(err)
		}
	}
	return all
}

// explainText is what an explanation says, without what depends on the time of the question, and
// without what 9153e71 did not say: the TTL of a gateway's session, and any later field.
func explainText(r protocol.ExplainReply) string {
	lines := []string{fmt.Sprintf("public %s, owner %s, availability %s", wire.Encode(r.Public), wire.Encode(r.Owner), wire.Encode(r.Availability))}
	for _, s := range r.Sessions {
		of := fmt.Sprintf("for %d s, bound %v", s.TTLSeconds, s.Bound)
		if s.Gateway != "" {
			of = fmt.Sprintf("of %s, process %s", s.Gateway, s.Process)
		}
		lines = append(lines, fmt.Sprintf("session %s of device %q on %s, %s, live %v, idle %v, from %v to %v",
			s.SessionID, s.Device, s.Platform, of, s.Live, s.Idle, s.LoginAt, s.LostAt))
	}
	for _, e := range r.Ended {
		lines = append(lines, fmt.Sprintf("ended %s: %s", e.SessionID, e.Reason))
	}
	return strings.Join(lines, "\n")
}

func compareServed(t *testing.T, when string, got, want map[string]string) {
	t.Helper()
	both := maps.Clone(want)
	maps.Copy(both, got)
	wrong := slices.DeleteFunc(slices.Sorted(maps.Keys(both)), func(question string) bool { return got[question] == want[question] })
	for _, question := range wrong[:min(len(wrong), 10)] {
		t.Errorf("%s, %s:\ngot  %s\nwant %s", when, question, got[question], want[question])
	}
	if len(wrong) > 0 {
		t.Errorf("%s: %d of %d answers are others", when, len(wrong), len(want))
	}
}

// dataLoad sets texts until presenced ends, and after it remembers what was acknowledged.
type dataLoad struct {
	*background
	setters []*setter

	seen map[int]bool // positions of snapshots
}

func startDataLoad(t *testing.T, d *servicetest.Daemon) *dataLoad {
	t.Helper()
	l := &dataLoad{background: newBackground(t), seen: map[int]bool{}}
	nc := d.Connect(t, hasty()...)
	for _, user := range wire.Names("setter", 8) {
		s := &setter{user: user}
		l.setters = append(l.setters, s)
		l.every(20*time.Millisecond, func() error {
			_, _, wrong := s.set(nc) // it is refused when presenced has ended
			return wrong
		})
	}
	return l
}

// snapshots is how many different ones were seen.
func (l *dataLoad) snapshots(t *testing.T, d *servicetest.Daemon) int {
	if position := figure(t, d, "presence_snapshot_position"); position > 0 {
		l.seen[position] = true
	}
	return len(l.seen)
}

// check fails where a text is not what was acknowledged last.
func (l *dataLoad) check(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for _, s := range l.setters {
		if err := s.shows(wire.Fresh(t, nc, s.user)[0]); err != nil {
			t.Error(err)
		}
	}
}
