package state

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// TestScenarios replays the files in testdata/scenarios, which document the rules: each
// block is what happens, and below the line what the users' watchers are told
// and what the callers are answered. Rewrite them with -rewrite and read the
// difference.
//
//	entry [instance=I] [seq=N] [epoch=E] [generation=N] [max-format=N] [after=D]
//	      [lease=±D] [store-by=±D] [announced-through=N]
//	LOGIN LINES …           one command a line, see parseCommand
//
//	wait 6s                 the service runs on: an entry every second
//	idle 1h                 so does an idle service: an entry every 30 s
//	gap 10s                 nothing is appended for that long, then one entry
//	get USER…               what everybody sees
//	own USER                what the owner sees, and what is set
//	sessions USER           what the owner sees of the sessions
//	counts                  users by what everybody sees, live sessions by platform
//	skip                    the next position is passed over
//	instances               how many announcements of each instance are pending
//	format                  the format in force, and what could be
//
// Times are those of the journal; revisions are shown as position.index.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		m := newMachine(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return m.run(t, d)
		})
	})
}

// machine drives one State like a service would.
type machine struct {
	s         *State
	now       int64
	sequence  map[string]uint64
	cursor    map[string]Cursor
	maxFormat uint8 // what the instances understand
	out       strings.Builder
}

const testStart = 1_700_000_000_000

func newMachine(t testing.TB) *machine {
	m := &machine{s: New(), now: testStart, sequence: map[string]uint64{}, cursor: map[string]Cursor{}, maxFormat: 1}
	m.apply(t, &entry.Entry{Header: m.header("A")})
	return m
}

func (m *machine) header(instance string) entry.Header {
	m.sequence[instance]++
	epoch := m.s.Epoch()
	if epoch == "" {
		epoch = "E1"
	}
	return entry.Header{Epoch: epoch, Generation: m.s.Generation(), Instance: instance, Sequence: m.sequence[instance], LeaseClock: m.s.LeaseClock(), MaxFormat: m.maxFormat}
}

// apply applies an entry and prints results and events.
func (m *machine) apply(t testing.TB, e *entry.Entry) Outcome {
	t.Helper()
	out, err := m.s.Apply(e, m.s.Position()+1, m.now, true)
	if err != nil {
		t.Fatal(err)
	}
	if out.Fenced {
		fmt.Fprintf(&m.out, "%s counts as empty\n", m.time())
	}
	for i, r := range out.Results {
		c := &e.Commands[i]
		switch {
		case r.Err != nil:
			fmt.Fprintf(&m.out, "%s refused %s: %v\n", m.time(), c.User+c.Gateway, r.Err)
		case c.Kind == entry.Apply:
			fmt.Fprintf(&m.out, "%s applied %d at %s", m.time(), r.Gateway.Applied, showRevision(r.Gateway.Revision))
			for _, f := range r.Gateway.Failures {
				fmt.Fprintf(&m.out, ", not %d (%s): %s", f.Index, f.UserID, f.Name)
			}
			m.out.WriteByte('\n')
		case c.Kind == entry.Open:
			fmt.Fprintf(&m.out, "%s opened %s, last request %d%s\n", m.time(), c.Gateway, r.Seq, showWindow(r.Window))
		case len(r.Ended) > 0:
			fmt.Fprintf(&m.out, "%s ended %s: %v\n", m.time(), c.User, r.Ended)
		case r.Final:
			fmt.Fprintf(&m.out, "%s ended %s: %s, for good\n", m.time(), c.User, c.Session)
		case len(r.Replaced) > 0:
			fmt.Fprintf(&m.out, "%s replaced %s: %v\n", m.time(), c.User, r.Replaced)
		}
	}
	id := e.Header.Instance
	m.cursor[id], _ = m.s.Pending(id, m.cursor[id], 1<<20, m.announced)
	return out
}

// announced prints what is published. What the owner is told is shown where it is
// not what everybody is.
func (m *machine) announced(a Announcement) {
	p := a.Public
	if a.Announce {
		fmt.Fprintf(&m.out, "%s event %s %s cause=%s revision=%s previous=%s\n", m.time(), p.UserID, showStatus(p.Status),
			p.Cause, showRevision(p.Revision), showRevision(p.PreviousRevision))
	}
	if own := a.Status.Status; a.Tell && (!a.Announce || !reflect.DeepEqual(*own, p.Status) || a.Status.Cause != p.Cause) {
		fmt.Fprintf(&m.out, "%s   self %s %s cause=%s revision=%s\n", m.time(), a.UserID, showStatus(*own), a.Status.Cause, showRevision(own.Revision))
	}
	for _, e := range a.Self {
		fmt.Fprintf(&m.out, "%s   self %s %s", m.time(), a.UserID, e.Type)
		switch e.Type {
		case protocol.SelfSessions:
			for _, x := range e.Sessions {
				fmt.Fprintf(&m.out, " %s live=%t idle=%t", x.SessionID, x.Live, x.Idle)
			}
		case protocol.SelfAvailability:
			fmt.Fprintf(&m.out, " %s", showSettings(*e.Availability))
		case protocol.SelfKicked:
			fmt.Fprintf(&m.out, " %s reason=%s", e.SessionID, e.Reason)
		}
		m.out.WriteByte('\n')
	}
}

func showStatus(st protocol.Status) string {
	s := fmt.Sprintf("%s %q", st.StatusType, st.CustomStatus)
	if st.Availability != "" {
		s += " " + string(st.Availability)
	}
	return s
}

func showConnection(c *protocol.Connection) string {
	if c == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s/%d", c.ServerID, c.ClientID)
}

// showWindow shows how many requests may be under way, where it is more than one.
func showWindow(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprint(", window ", n)
}

// showTTL shows the TTL of a session that a gateway holds.
func showTTL(x protocol.Session) string {
	if x.Gateway == "" {
		return ""
	}
	return fmt.Sprint(" ttl=", time.Duration(x.TTLSeconds)*time.Second)
}

// showGrace shows the grace of a session that has another one than by default.
func showGrace(x protocol.Session) string {
	grace := time.Duration(x.GraceSeconds * float64(time.Second))
	if grace == protocol.DefaultGrace {
		return ""
	}
	return fmt.Sprint(" grace=", grace)
}

func showSettings(s protocol.AvailabilitySettings) string {
	if s.Override == "" {
		return string(s.Lasting)
	}
	return fmt.Sprintf("%s, %s until %s", s.Lasting, s.Override, time.Duration(int64(s.OverrideExpiresAt)-testStart)*time.Millisecond)
}

func (m *machine) time() string {
	return fmt.Sprintf("%9s", time.Duration(m.now-testStart)*time.Millisecond)
}

func showRevision(r uint64) string {
	if r == 0 {
		return "0"
	}
	return fmt.Sprintf("%d.%d", r/entry.IndexSpan, r%entry.IndexSpan)
}

func (m *machine) run(t *testing.T, d *datadriven.TestData) string {
	m.out.Reset()
	switch d.Cmd {
	case "entry":
		m.runEntry(t, d)
	case "wait":
		for left := parseDuration(t, d.CmdArgs[0].Key); left > 0; left -= min(left, 1000) {
			m.now += min(left, 1000)
			m.apply(t, &entry.Entry{Header: m.header("A")})
		}
	case "idle":
		for left := parseDuration(t, d.CmdArgs[0].Key); left > 0; left -= min(left, 30_000) {
			m.now += min(left, 30_000)
			m.apply(t, &entry.Entry{Header: m.header("A")})
		}
	case "gap":
		m.now += parseDuration(t, d.CmdArgs[0].Key)
		m.apply(t, &entry.Entry{Header: m.header("A")})
	case "restart":
		s, err := restore(blocksOf(t, m.s.BeginSnapshot(), nil))
		if err != nil {
			t.Fatal(err)
		}
		m.s, m.cursor = s, map[string]Cursor{}
	case "get":
		for _, a := range d.CmdArgs {
			st := m.s.Status(a.Key, true)
			fmt.Fprintf(&m.out, "%s %s platforms=%v revision=%s", st.UserID, showStatus(st), st.Platforms, showRevision(st.Revision))
			if st.LastSeenAt != 0 {
				fmt.Fprintf(&m.out, " lastSeen=%s", time.Duration(int64(st.LastSeenAt)-testStart)*time.Millisecond)
			}
			m.out.WriteByte('\n')
		}
	case "sessions":
		_, _, sessions := m.s.OwnStatus(d.CmdArgs[0].Key)
		for _, x := range sessions {
			fmt.Fprintf(&m.out, "%s device=%q platform=%s live=%t idle=%t bound=%t gateway=%q%s%s\n", x.SessionID, x.Device, x.Platform, x.Live, x.Idle, x.Bound, x.Gateway, showTTL(x), showGrace(x))
		}
	case "own":
		st, settings, _ := m.s.OwnStatus(d.CmdArgs[0].Key)
		fmt.Fprintf(&m.out, "%s %s set=%s revision=%s\n", st.UserID, showStatus(st), showSettings(settings), showRevision(st.Revision))
	case "explain":
		for _, a := range d.CmdArgs {
			r := m.s.Explain(a.Key)
			fmt.Fprintf(&m.out, "%s, others see %s\n", showStatus(r.Owner), showStatus(r.Public))
			for _, why := range r.Why {
				fmt.Fprintf(&m.out, "  %s\n", why)
			}
			for _, x := range r.Sessions {
				fmt.Fprintf(&m.out, "  session %s live=%t ends=%g closed=%g on=%v process=%q\n", x.SessionID, x.Live, x.EndsInSeconds, x.ClosedSeconds, showConnection(x.Connection), x.Process)
			}
			for _, e := range r.Ended {
				fmt.Fprintf(&m.out, "  ended %s reason=%s for=%g\n", e.SessionID, e.Reason, e.RememberedForSeconds)
			}
			fmt.Fprintf(&m.out, "  forgotten=%g pending=%q amnesty=%g\n", r.ForgottenInSeconds, r.OwedBy, r.AmnestySeconds)
		}
	case "counts":
		users, sessions := m.s.Counts()
		fmt.Fprintf(&m.out, "online %d offline %d unlogined %d, sessions %v\n", users.Online, users.Offline, users.Unlogined, sessions)
	case "skip":
		if err := m.s.Skip(m.s.Position()+1, m.now); err != nil {
			t.Fatal(err)
		}
	case "format":
		known, more := m.s.NextFormat()
		fmt.Fprintf(&m.out, "in force %d, understood by all %d, newer %t\n", m.s.Format(), known, more)
	case "instances":
		for _, w := range m.s.instances {
			fmt.Fprintf(&m.out, "%s pending %d\n", w.id, w.current)
		}
	default:
		d.Fatalf(t, "unknown directive %q", d.Cmd)
	}
	return m.out.String()
}

func (m *machine) runEntry(t *testing.T, d *datadriven.TestData) {
	instance := "A"
	for _, a := range d.CmdArgs {
		if a.Key == "instance" {
			instance = a.Vals[0]
		}
	}
	e := &entry.Entry{Header: m.header(instance)}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "instance":
		case "epoch":
			e.Header.Epoch = a.Vals[0]
		case "generation":
			n, _ := strconv.ParseUint(a.Vals[0], 10, 32)
			e.Header.Generation = uint32(n)
		case "max-format":
			n, _ := strconv.ParseUint(a.Vals[0], 10, 8)
			e.Header.MaxFormat = uint8(n)
		case "seq":
			e.Header.Sequence, _ = strconv.ParseUint(a.Vals[0], 10, 64)
			m.sequence[instance] = max(m.sequence[instance]-1, e.Header.Sequence)
		case "lease":
			e.Header.LeaseClock += parseDuration(t, a.Vals[0])
		case "after":
			m.now += parseDuration(t, a.Vals[0])
		case "store-by":
			e.Header.StoreBy = m.now + parseDuration(t, a.Vals[0])
		case "announced-through":
			e.Header.AnnouncedThrough, _ = strconv.ParseUint(a.Vals[0], 10, 64)
		default:
			d.Fatalf(t, "unknown argument %q", a.Key)
		}
	}
	for line := range strings.Lines(d.Input) {
		c, renewed := parseCommand(t, m.s, strings.Fields(line))
		if renewed >= 0 {
			e.Renewed = append(e.Renewed, uint32(renewed))
			continue
		}
		e.Commands = append(e.Commands, c)
	}
	m.apply(t, e)
}

// parseCommand reads a line such as
//
//	login alice phone device=pixel platform=android ttl=30s grace=20s on=N1/7 idle
//	renew alice phone [idle|active]    renewed alice phone (by its number)
//	logout alice phone|all [final]
//	set alice text=hello expires=1h session=phone if=3.1 availability=busy for=1h   (no text=: kept)
//	kick alice phone|all      erase alice
//	closed N1/7             unbind N1/7         lameduck N1
//	requests-lost
//	newepoch [empty]
//	set-format 2
//	configure grace=5s retention=1h persistent sessions=2 max-grace=1m
//	open gw process ttl=30s grace=20s on=N1/7   renewgateway gw process   close gw process [logout]
//	apply gw process seq=1 [body=7] login:alice:s1 set:alice:text logout:alice:s1 lost:alice:s1 idle:alice:s1
func parseCommand(t testing.TB, s *State, f []string) (c entry.Command, renewed int64) {
	args := map[string]string{}
	var names []string
	for _, a := range f[1:] {
		k, v, ok := strings.Cut(a, "=")
		if !ok && (k == "idle" || k == "active" || k == "persistent") || ok {
			args[k] = v
			continue
		}
		names = append(names, a)
	}
	name := func(i int) string {
		if i < len(names) {
			return names[i]
		}
		return ""
	}
	_, idle := args["idle"]
	_, active := args["active"]
	switch f[0] {
	case "login":
		c = entry.Command{Kind: entry.Login, User: name(0), Session: name(1), Device: args["device"], Platform: "unknown", Idle: idle, TTL: 30_000}
		if p := args["platform"]; p != "" {
			c.Platform = p
		}
		if ttl := args["ttl"]; ttl != "" {
			c.TTL = uint32(parseDuration(t, ttl))
		}
		c.Grace = parseGrace(t, args["grace"])
		c.Server, c.Client = parseConnection(args["on"])
	case "renew":
		c = entry.Command{Kind: entry.Renew, User: name(0), Session: name(1), SetIdle: idle || active, Idle: idle}
	case "renewed":
		return c, int64(s.sessionNamed(s.users.get(name(0)), name(1)).number)
	case "logout":
		c = entry.Command{Kind: entry.Logout, User: name(0), Session: name(1), Final: name(2) == "final"}
		if name(1) == "all" {
			c.Session, c.All = "", true
		}
	case "set":
		text, said := args["text"]
		c = entry.Command{Kind: entry.Set, User: name(0), Text: text, Session: args["session"]}
		if a := args["availability"]; a != "" {
			c.Availability, c.KeepText = parseAvailability(t, a), !said
		}
		if d := args["for"]; d != "" {
			c.Override = parseDuration(t, d)
		}
		if e := args["expires"]; e != "" {
			c.Expires = parseDuration(t, e)
		}
		if r, ok := args["if"]; ok {
			position, index, _ := strings.Cut(r, ".")
			p, _ := strconv.ParseUint(position, 10, 64)
			i, _ := strconv.ParseUint(index, 10, 64)
			c.CheckRevision, c.IfRevision = true, p*entry.IndexSpan+i
		}
	case "kick":
		c = entry.Command{Kind: entry.Kick, User: name(0), Session: name(1)}
		if name(1) == "all" {
			c.Session, c.All = "", true
		}
	case "erase":
		c = entry.Command{Kind: entry.Erase, User: name(0)}
	case "closed":
		c = entry.Command{Kind: entry.Closed}
		c.Server, c.Client = parseConnection(name(0))
	case "unbind":
		c = entry.Command{Kind: entry.Unbind}
		c.Server, c.Client = parseConnection(name(0))
	case "lameduck":
		c = entry.Command{Kind: entry.LameDuck, Server: name(0)}
	case "open":
		c = entry.Command{Kind: entry.Open, Gateway: name(0), Process: name(1), TTL: uint32(parseDuration(t, args["ttl"])), Grace: parseGrace(t, args["grace"])}
		c.Server, c.Client = parseConnection(args["on"])
	case "renewgateway":
		c = entry.Command{Kind: entry.RenewGateway, Gateway: name(0), Process: name(1)}
	case "close":
		c = entry.Command{Kind: entry.Close, Gateway: name(0), Process: name(1), All: name(2) == "logout"}
	case "apply":
		seq, _ := strconv.ParseUint(args["seq"], 10, 64)
		body, _ := strconv.ParseUint(args["body"], 10, 64)
		c = entry.Command{Kind: entry.Apply, Gateway: name(0), Process: name(1), Seq: seq, Body: body}
		for _, op := range names[2:] {
			c.Ops = append(c.Ops, parseOp(t, op))
		}
	case "newepoch":
		c = entry.Command{Kind: entry.NewEpoch, All: name(0) == "empty"}
	case "set-format":
		c = entry.Command{Kind: entry.SetFormat}
		c.Seq, _ = strconv.ParseUint(name(0), 10, 8)
	case "requests-lost":
		c = entry.Command{Kind: entry.RequestsLost}
	case "configure":
		_, persistent := args["persistent"]
		sessions, _ := strconv.Atoi(args["sessions"])
		c = entry.Command{Kind: entry.Configure, Params: &entry.Params{
			Grace: parseDuration(t, args["grace"]), Retention: parseDuration(t, args["retention"]), Persistent: persistent, Sessions: sessions,
			MaxGrace: int64(parseGrace(t, args["max-grace"]))}}
	default:
		t.Fatalf("unknown command %q", f)
	}
	return c, -1
}

func parseGrace(t testing.TB, s string) uint32 {
	if s == "" {
		return 0
	}
	return uint32(parseDuration(t, s))
}

func parseOp(t testing.TB, s string) entry.Command {
	kinds := map[string]entry.Kind{"login": entry.Login, "logout": entry.Logout, "lost": entry.Lost, "idle": entry.Idle, "set": entry.Set}
	f := strings.Split(s, ":")
	if len(f) != 3 || kinds[f[0]] == 0 {
		t.Fatalf("not an op: %q", s)
	}
	op := entry.Command{Kind: kinds[f[0]], User: f[1], Session: f[2], Idle: f[0] == "idle"}
	switch op.Kind {
	case entry.Set:
		op.Session, op.Text = "", f[2]
	case entry.Login:
		op.Platform = "gw"
	}
	return op
}

func parseAvailability(t testing.TB, s string) entry.Availability {
	i := slices.Index(availabilities[:], protocol.Availability(s))
	if i <= 0 {
		t.Fatalf("not an availability: %q", s)
	}
	return entry.Availability(i)
}

func parseConnection(s string) (server string, client uint64) {
	server, number, _ := strings.Cut(s, "/")
	client, _ = strconv.ParseUint(number, 10, 64)
	return server, client
}

func parseDuration(t testing.TB, s string) int64 {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d.Milliseconds()
}
