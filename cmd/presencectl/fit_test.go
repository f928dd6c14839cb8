package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"presence/cmd/internal/layout"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
	"presence/pkg/service/verify"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"
)

// wantFit fails where a line is wider than a terminal, unless it is one word that was
// not broken.
func wantFit(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); layout.Width(line) > layout.Columns && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("%s: a line of %d cells: %s", what, layout.Width(line), line)
		}
	}
}

// TestFits_Help: every help fits, and no line is what is left of another: a description
// is written in lines that fit, and none is broken again.
func TestFits_Help(t *testing.T) {
	const indent = 3 // of a description in the help
	for _, c := range append(allCommands((&app{}).root().Commands), (&app{}).root()) {
		for line := range strings.Lines(c.Description) {
			if width := layout.Width(strings.TrimRight(line, "\n")); width > layout.Columns-indent && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("%s --help: a line of the description is %d cells too wide, so that its end would be a line of its own: %s", c.Name, width-layout.Columns+indent, line)
			}
		}
	}
	for _, name := range everyCommand("", (&app{}).root().Commands) {
		wantFit(t, name+" --help", ctl(t, strings.Fields(name+" --help")...).want(t, exitDone, "").stdout.String())
	}
}

func allCommands(list []*cli.Command) []*cli.Command {
	for _, c := range list {
		list = append(list, allCommands(c.Commands)...)
	}
	return list
}

// TestFits_Pages: so do the pages that operators read, with the longest that is usual.
func TestFits_Pages(t *testing.T) {
	const id, server = "2f1b6c1e-7a0f-4b53-9d39-0c7f0a6b1f11", "NBYDLKIDDFIC5PPELUPJHPKNQSF7OBGQEVWHSIDC3B4NLTRLJKSWHIQK"
	user := "王小明" + strings.Repeat("x", 50) + "@example.com"
	s := protocol.Status{UserID: user, StatusType: protocol.Online, Availability: protocol.Busy, CustomStatus: strings.Repeat("in a meeting 会議 ", 20),
		CustomStatusExpiresAt: at(time.Hour), Revision: 339521537, UpdatedAt: at(-2 * time.Minute)}
	other := s
	other.CustomStatus = ""
	explain := protocol.ExplainReply{
		Public: other, Owner: s, Why: []string{strings.Repeat("because of session "+id+" ", 5)},
		Availability: protocol.AvailabilitySettings{Lasting: protocol.Available, Override: protocol.Busy, OverrideExpiresAt: at(time.Hour)},
		Sessions: []protocol.SessionDetail{{Session: protocol.Session{SessionID: id, Platform: "android", Device: strings.Repeat("a very long device ", 5), Live: true, TTLSeconds: 3600,
			Gateway: "gateway-of-the-web-frontend", LoginAt: at(-time.Hour)}, Process: id, EndsInSeconds: 12.5, Connection: &protocol.Connection{ServerID: server, ClientID: 1 << 40}, ClosedSeconds: 3}},
		Ended:  []protocol.EndedSession{{SessionID: id, Reason: protocol.EndReplaced, RememberedForSeconds: 3600}},
		OwedBy: "host-of-a-long-name.example.com/" + id,
	}
	stats := protocol.StatsReply{Instances: []protocol.InstanceStats{{Writer: protocol.InstanceID{Host: "presence-of-a-region-1", Version: "0.0.0+d5ac433-dirty", Start: id[:8]}.String(), Version: "0.0.0+d5ac433-dirty", SilentMs: 100, Answering: true, Format: 3}}, Sessions: map[string]int{}, Epoch: id, Revision: 1 << 50, AsOf: at(0)}
	for _, p := range strings.Fields("android ios iphone ipad web linux windows mac watch television car") {
		stats.Sessions[p] = 1_000_000
	}
	for _, page := range []struct {
		name string
		page [][][]string
	}{{"explain", explainPage(explain, now)}, {"stats", statsPage(stats)}} {
		var b strings.Builder
		if err := writePage(&b, page.page...); err != nil {
			t.Fatal(err)
		}
		wantFit(t, page.name, b.String())
	}
	var b bytes.Buffer
	if err := writeReport(&b, &verify.Report{Epoch: id, To: 1 << 50, Digests: 100, Notes: []string{strings.Repeat("a note ", 30)},
		Instances: []verify.Instance{{Writer: id, Version: "1.2.3", Position: 1 << 50, Same: true}}}); err != nil {
		t.Fatal(err)
	}
	wantFit(t, "verify", b.String())
}

// TestClock_OfTheService: how long ago something was, and when it will be, goes by the
// answer's time and not by this machine's.
func TestClock_OfTheService(t *testing.T) {
	s := servicetest.Start(t)
	nc := s.Connect(t)
	for _, off := range []time.Duration{0, time.Hour, -time.Hour} {
		at := func(d time.Duration) protocol.Time { return protocol.TimeOf(time.Now().Add(off + d)) }
		status := func() protocol.Status {
			return protocol.Status{UserID: "bob", StatusType: protocol.Online, CustomStatus: "text", CustomStatusExpiresAt: at(10 * time.Minute), UpdatedAt: at(-30 * time.Second), Revision: 4097}
		}
		const prefix = "other.v1"
		subjects, ends := protocol.NewSubjects(prefix), []func() error(nil)
		answers := map[string]func() any{
			subjects.Get(): func() any {
				return protocol.GetReply{SuccessUserList: []protocol.Status{status()}, FailureUserList: []protocol.UserFailure{}, Revision: 4097, Epoch: "e", AsOf: at(0)}
			},
			subjects.List(): func() any {
				return protocol.ListReply{Users: []protocol.Status{status()}, Revision: 4097, Epoch: "e", AsOf: at(0)}
			},
			subjects.Explain(): func() any {
				return protocol.ExplainReply{Public: status(), Owner: status(), Why: []string{}, Revision: 4097, Epoch: "e", AsOf: at(0)}
			},
		}
		for subject, answer := range answers {
			sub, err := nc.Subscribe(subject, func(m *nats.Msg) {
				if body, err := protocol.Marshal(answer()); err != nil || m.Respond(body) != nil {
					t.Errorf("answering %s: %v", m.Subject, err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, sub.Unsubscribe)
		}
		if err := nc.Flush(); err != nil { // or a request goes to the subscription of the last turn
			t.Fatal(err)
		}
		for _, args := range []string{"get bob", "list", "explain bob", "await bob"} {
			out := ctl(t, append(strings.Fields(args), "-s", s.URL(), "--prefix", prefix)...).want(t, exitDone, "").stdout.String()
			if !strings.Contains(out, "in 10m") || !strings.Contains(out, "30s ago") && !strings.Contains(out, "31s ago") {
				t.Errorf("%s, with the service's clock %v beside ours: got\n%s", args, off, out)
			}
		}
		for _, end := range ends {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	}
}
