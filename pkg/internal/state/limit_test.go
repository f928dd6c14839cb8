package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// TestProperty_SessionsPerUser: whatever the limit was and is, to change it ends no
// session, a login that is accepted leaves no more than it allows where it opens
// one, and ends no live one but that of its device; one that is refused ends none.
func TestProperty_SessionsPerUser(t *testing.T) {
	sessions := func(s *State, user string) map[string]protocol.Session {
		m := map[string]protocol.Session{}
		_, _, list := s.OwnStatus(user)
		for _, x := range list {
			m[x.SessionID] = x
		}
		return m
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		for _, mo := range genHistory(rt) {
			m.pass(t, mo.quiet)
			m.now += mo.after
			m.apply(t, &entry.Entry{Header: m.header("A")}) // what falls due
			for _, c := range mo.commands {
				before := map[string]map[string]protocol.Session{}
				for _, u := range []string{"u1", "u2", "u3"} {
					before[u] = sessions(m.s, u)
				}
				out, err := m.s.Apply(&entry.Entry{Header: m.header("A"), Commands: []entry.Command{c}}, m.s.Position()+1, m.now, true)
				if err != nil {
					rt.Fatal(err)
				}
				was, is := before[c.User], sessions(m.s, c.User)
				switch {
				case c.Kind == entry.Configure:
					for _, u := range []string{"u1", "u2", "u3"} {
						if got, want := len(sessions(m.s, u)), len(before[u]); got != want {
							rt.Fatalf("%+v left %s with %d sessions of %d", *c.Params, u, got, want)
						}
					}
					m.apply(t, &entry.Entry{Header: m.header("A")}) // what falls due by these rules
				case c.Kind != entry.Login:
				case out.Results[0].Err != nil:
					if len(is) != len(was) {
						rt.Fatalf("a login refused with %v left %d sessions of %d", out.Results[0].Err, len(is), len(was))
					}
				default:
					if _, resumed := was[c.Session]; !resumed && len(is) > m.s.Params().Sessions {
						rt.Fatalf("%d sessions after a login, at most %d are allowed", len(is), m.s.Params().Sessions)
					}
					for id, x := range was {
						if _, ok := is[id]; !ok && x.Live && (c.Device == "" || x.Device != c.Device) {
							rt.Fatalf("a login of %s ended %s", c.Session, id)
						}
					}
				}
			}
		}
	})
}

// TestSessionsPerUser_Fit: what is said of one user fits a reply and an event, with
// as many sessions as can be allowed, and all of them as long as they can be.
func TestSessionsPerUser_Fit(t *testing.T) {
	m := newMachine(t)
	long := func(n, i int) string { return strings.Repeat(`x`, n-3) + fmt.Sprintf("%03d", i) }
	user, server := strings.Repeat(`"`, protocol.MaxUserIDBytes), strings.Repeat("N", protocol.MaxServerIDBytes)
	text := strings.Repeat(`"`, 4096) // what a custom status may be configured to at most
	e := &entry.Entry{Header: m.header("A"), Commands: []entry.Command{
		{Kind: entry.Configure, Params: &entry.Params{Grace: 3_600_000, Retention: 1 << 40, Sessions: protocol.MostSessionsPerUser}},
		{Kind: entry.Open, Gateway: long(protocol.MaxSessionIDBytes, 0), Process: long(protocol.MaxSessionIDBytes, 1), TTL: 3_600_000, Server: server, Client: 1 << 63},
	}}
	login := func(i int) entry.Command {
		return entry.Command{Kind: entry.Login, User: user, Session: long(protocol.MaxSessionIDBytes, i),
			Device: strings.Repeat(`"`, protocol.MaxDeviceBytes-3) + fmt.Sprintf("%03d", i), Platform: long(protocol.MaxPlatformBytes, i), Idle: true}
	}
	apply := func(seq uint64, from int, to int) entry.Command {
		c := entry.Command{Kind: entry.Apply, Gateway: e.Commands[1].Gateway, Process: e.Commands[1].Process, Seq: seq}
		for i := from; i < to; i++ {
			c.Ops = append(c.Ops, login(i))
		}
		return c
	}
	n := protocol.MostSessionsPerUser
	e.Commands = append(e.Commands, apply(1, 0, n), entry.Command{Kind: entry.Kick, User: user, All: true}, apply(2, n, 2*n),
		entry.Command{Kind: entry.Closed, Server: server, Client: 1 << 63},
		entry.Command{Kind: entry.Set, User: user, Text: text, Expires: 1 << 40, Availability: entry.Busy, Override: 1 << 40})
	var of Announcement
	if _, err := m.s.Apply(e, m.s.Position()+1, m.now, true); err != nil {
		t.Fatal(err)
	}
	m.s.Pending("A", Cursor{}, 10, func(a Announcement) { of = a })
	explained := m.s.Explain(user)
	if len(explained.Sessions) != n || len(explained.Ended) != n {
		t.Fatalf("%d sessions, and %d ended, want %d", len(explained.Sessions), len(explained.Ended), n)
	}
	status, settings, sessions := m.s.OwnStatus(user)
	told := map[string]any{
		"explain":         explained,
		"the own status":  protocol.OwnStatusReply{Status: status, Availability: settings, Sessions: sessions, Epoch: explained.Epoch, AsOf: explained.AsOf},
		"a kick's answer": protocol.KickReply{Ended: slices.Repeat([]string{long(protocol.MaxSessionIDBytes, 0)}, n)},
	}
	for i, event := range of.Self {
		told[fmt.Sprint("event ", i, " ", event.Type)] = event
	}
	for what, body := range told {
		data, err := protocol.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > protocol.MaxBodyBytes*9/10 {
			t.Errorf("%s has %d bytes, too near the limit of %d", what, len(data), protocol.MaxBodyBytes)
		}
	}
}

// TestSessionsPerUser_EndedTogether: all sessions that an operator ends are
// remembered as ended, however few there may be by then; later ones take the place
// of the oldest.
func TestSessionsPerUser_EndedTogether(t *testing.T) {
	m := newMachine(t)
	m.do(t, "configure grace=5s retention=1h sessions=100")
	for i := range 100 {
		m.do(t, fmt.Sprintf("login alice s%d", i))
	}
	m.do(t, "configure grace=5s retention=1h sessions=2", "kick alice all")
	if r := m.s.Explain("alice"); len(r.Ended) != 100 {
		t.Errorf("%d of 100 kicked sessions are remembered", len(r.Ended))
	}
	m.do(t, "login alice phone1 device=phone", "login alice phone2 device=phone")
	if r := m.s.Explain("alice"); len(r.Ended) != 100 || r.Ended[0].SessionID != "s1" || r.Ended[99].SessionID != "phone1" {
		t.Errorf("after one more: %d from %+v on", len(r.Ended), r.Ended[0])
	}
}
