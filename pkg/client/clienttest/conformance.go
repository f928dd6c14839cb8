package clienttest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// waitFor bounds every wait of Conformance.
const waitFor = 30 * time.Second

// Target is a presence service that Conformance runs against. Nobody else uses it,
// its prefix is protocol.DefaultPrefix and its configuration the default, but for
// the friend-notification switch, which is on.
type Target struct {
	// Connect returns a connection of a client's, which is closed with the test.
	Connect func(testing.TB) *nats.Conn
	// Pass lets time pass.
	Pass func(time.Duration)
}

// Conformance tests that a service does what a client relies on: the replies,
// errors and events of the contract, request by request. The fake and the real
// service pass it alike.
func Conformance(t *testing.T, s Target) {
	for _, part := range []struct {
		name string
		test func(*probe)
	}{
		{"sessions", testSessions}, {"devices", testDevices}, {"ends", testEnds}, {"texts", testTexts},
		{"availability", testAvailability}, {"expiry", testExpiry}, {"invisible", testInvisible},
		{"queries", testQueries}, {"contacts", testContacts}, {"gateways", testGateways}, {"kicked", testKicked}, {"handover", testHandover},
		{"operators", testOperators}, {"refused", testRefused},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(newProbe(t, s, part.name)) })
	}
}

// probe makes the requests of one user and hears the user's events.
type probe struct {
	*testing.T
	target       Target
	nc           *nats.Conn
	subjects     protocol.Subjects
	user         string
	public, self chan *nats.Msg
	revision     uint64          // of the last public event
	ended        map[string]bool // own events that were heard
	own          protocol.Status
}

func newProbe(t *testing.T, s Target, user string) *probe {
	t.Helper()
	p := &probe{T: t, target: s, nc: s.Connect(t), subjects: protocol.NewSubjects(""), user: user,
		public: make(chan *nats.Msg, 100), self: make(chan *nats.Msg, 100), ended: map[string]bool{}}
	event, _ := p.subjects.Event(user)
	self, _ := p.subjects.Self(user)
	for subject, ch := range map[string]chan *nats.Msg{event: p.public, self: p.self} {
		if _, err := p.nc.ChanSubscribe(subject, ch); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask makes a request and returns the reply, or its error.
func ask[T any](p *probe, subject string, body any) (T, error) {
	p.Helper()
	var reply T
	data, err := protocol.Marshal(body)
	if raw, ok := body.(string); ok {
		data, err = []byte(raw), nil
	}
	if err != nil {
		p.Fatal(err)
	}
	m, err := p.nc.Request(subject, data, waitFor)
	if err != nil {
		p.Fatalf("%s: %v", subject, err)
	}
	if m.Header.Get(protocol.ErrorCodeHeader) != "" {
		e := new(protocol.Error)
		if err := protocol.Unmarshal(m.Data, e); err != nil || fmt.Sprint(e.Code) != m.Header.Get(protocol.ErrorCodeHeader) {
			p.Fatalf("%s: the error %s, %v", subject, m.Data, err)
		}
		return reply, e
	}
	if err := protocol.Unmarshal(m.Data, &reply); err != nil {
		p.Fatalf("%s: %s: %v", subject, m.Data, err)
	}
	return reply, nil
}

// about is the subject of a request about the probe's user.
func (p *probe) about(op string) string {
	subject, err := p.subjects.User(p.user, op)
	if err != nil {
		p.Fatal(err)
	}
	return subject
}

// must makes a request that succeeds. What it answers of the owner's view is the
// probe's own.
func must[T any](p *probe, subject string, body any) T {
	p.Helper()
	reply, err := ask[T](p, subject, body)
	if err != nil {
		p.Fatalf("%s: %v", subject, err)
	}
	return reply
}

// change makes a request of the user's that succeeds.
func (p *probe) change(op string, body any) {
	p.Helper()
	p.own = must[protocol.ChangeReply](p, p.about(op), body).Status
}

// refused makes a request of the user's that fails.
func (p *probe) refused(op string, body any, want *protocol.Error) {
	p.Helper()
	if _, err := ask[protocol.ChangeReply](p, p.about(op), body); !errors.Is(err, want) {
		p.Errorf("%s %v: got %v, want %v", op, body, err, want.Name)
	}
}

// heard waits for events: of what everybody sees, unless public is empty, and of
// what the owner is told. Whatever else came before them is an error.
func (p *probe) heard(public string, self ...string) {
	p.Helper()
	if public != "" {
		var ev protocol.Event
		p.next(p.public, &ev)
		if ev.UserID != p.user || ev.Epoch == "" || ev.Revision <= p.revision || ev.PreviousRevision != p.revision || ev.UpdatedAt == 0 {
			p.Errorf("the event %+v came after revision %d", ev, p.revision)
		}
		p.revision = ev.Revision
		if got := show(ev.Status) + " " + string(ev.Cause); got != public {
			p.Errorf("event: got %q, want %q", got, public)
		}
	}
	var got []string
	for len(got) < len(self) {
		var ev protocol.SelfEvent
		p.next(p.self, &ev)
		if e := showSelf(&ev); ev.Type != protocol.SelfKicked || !p.ended[e] { // that may come twice
			p.ended[e] = true
			got = append(got, e)
		}
	}
	slices.Sort(got) // those of one change have no order among each other
	slices.Sort(self)
	if !slices.Equal(got, self) {
		p.Errorf("own events: got %q, want %q", got, self)
	}
}

func (p *probe) next(ch chan *nats.Msg, event any) {
	p.Helper()
	select {
	case m := <-ch:
		if err := protocol.Unmarshal(m.Data, event); err != nil {
			p.Fatalf("%s: %s: %v", m.Subject, m.Data, err)
		}
	case <-time.After(waitFor):
		p.Fatalf("no event within %v", waitFor)
	}
}

// shows asks for what everybody sees.
func (p *probe) shows(want string) {
	p.Helper()
	if got := show(p.get(p.user).SuccessUserList[0]); got != want {
		p.Errorf("everybody sees %q, want %q", got, want)
	}
}

func (p *probe) get(ids ...string) protocol.GetReply {
	p.Helper()
	return must[protocol.GetReply](p, p.subjects.Get(), protocol.GetRequest{UserIDList: ids, Fresh: true, Detail: true})
}

// sees compares the owner's view as it was answered last.
func (p *probe) sees(want string) {
	p.Helper()
	if got := show(p.own); got != want {
		p.Errorf("the owner sees %q, want %q", got, want)
	}
}

// show is a status as "ONLINE busy text".
func show(s protocol.Status) string {
	b := s.StatusType.String()
	for _, more := range []string{string(s.Availability), s.CustomStatus} {
		if more != "" {
			b += " " + more
		}
	}
	if (s.LastSeenAt != 0) == (s.StatusType == protocol.Online) && s.StatusType != protocol.Unlogined {
		b += " last seen " + s.LastSeenAt.String()
	}
	return b
}

func showSelf(ev *protocol.SelfEvent) string {
	switch ev.Type {
	case protocol.SelfStatus:
		return show(*ev.Status) + " " + string(ev.Cause)
	case protocol.SelfAvailability:
		return strings.TrimSpace(fmt.Sprint(ev.Availability.Lasting, " ", ev.Availability.Override))
	case protocol.SelfSessions:
		return "sessions " + showSessions(ev.Sessions)
	case protocol.SelfKicked:
		return fmt.Sprint(ev.SessionID, " ", ev.Reason)
	case protocol.SelfContacts:
		return fmt.Sprint("contacts +", ev.Added, " -", ev.Removed)
	}
	return ev.Type
}

func showSessions(list []protocol.Session) string {
	var all []string
	for _, x := range list {
		s := x.SessionID
		if x.Idle {
			s += " idle"
		}
		if !x.Live {
			s += " lost"
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func (p *probe) wantSessions(want string) {
	p.Helper()
	own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{})
	if got := showSessions(own.Sessions); got != want {
		p.Errorf("sessions: got %q, want %q", got, want)
	}
}

type (
	loginReq  = protocol.LoginRequest
	renewReq  = protocol.RenewRequest
	logoutReq = protocol.LogoutRequest
	setReq    = protocol.SetRequest
)

func text(s string) setReq                     { return setReq{CustomStatus: &s} }
func available(a protocol.Availability) setReq { return setReq{Availability: &a} }

func testSessions(p *probe) {
	p.shows("UNLOGINED")
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", Platform: "web"})
	p.sees("ONLINE")
	p.heard("ONLINE login", "ONLINE login")
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", Platform: "web"}) // a resume
	p.change(protocol.OpRenew, renewReq{SessionID: "s1"})
	p.change(protocol.OpLogin, loginReq{SessionID: "s2", Platform: "ios"})
	p.heard("", "sessions s1, s2")
	if got := p.get(p.user).SuccessUserList[0].Platforms; !slices.Equal(got, []string{"ios", "web"}) {
		p.Errorf("platforms %v", got)
	}
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.heard("", "sessions s2")
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"}) // what is not there
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionNotFound)
	p.wantSessions("s2")
	p.change(protocol.OpLogout, logoutReq{SessionID: "s2"})
	p.sees("UNLOGINED")
	p.heard("UNLOGINED logout", "UNLOGINED logout")
	reply := must[protocol.LoginReply](p, p.about(protocol.OpLogin), loginReq{})
	if protocol.CheckID(reply.SessionID, "") != nil || reply.TTLSeconds != 30 || reply.GraceSeconds != 5 || reply.Epoch == "" || reply.Status.Revision == 0 || reply.Revision < reply.Status.Revision {
		p.Errorf("login: %+v", reply)
	}
	p.heard("ONLINE login", "ONLINE login")
}

func testDevices(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", Device: "phone"})
	p.heard("ONLINE login", "ONLINE login")
	reply := must[protocol.LoginReply](p, p.about(protocol.OpLogin), loginReq{SessionID: "s2", Device: "phone"})
	if !slices.Equal(reply.Replaced, []string{"s1"}) {
		p.Errorf("replaced %v", reply.Replaced)
	}
	p.heard("", "sessions s2", "s1 replaced")
	p.refused(protocol.OpLogin, loginReq{SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.refused(protocol.OpSet, setReq{CustomStatus: protocol.Ptr("x"), SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.wantSessions("s2")
	for i := range protocol.MaxSessionsPerUser - 1 {
		p.change(protocol.OpLogin, loginReq{SessionID: fmt.Sprint("more", i)})
	}
	p.refused(protocol.OpLogin, loginReq{SessionID: "s3"}, protocol.ErrTooManySessions)
	p.change(protocol.OpLogin, loginReq{SessionID: "s4", Device: "phone"}) // in the place of s2
}

func testEnds(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	p.heard("ONLINE login", "ONLINE login")
	p.change(protocol.OpLogin, loginReq{SessionID: "s2"})
	p.heard("", "sessions s1, s2")
	p.change(protocol.OpLogout, logoutReq{All: true})
	p.heard("UNLOGINED logout", "UNLOGINED logout", "s1 logout", "s2 logout")
	p.refused(protocol.OpLogin, loginReq{SessionID: "s2"}, protocol.ErrSessionReplaced)
	p.change(protocol.OpLogin, loginReq{SessionID: "s3"})
	p.heard("ONLINE login", "ONLINE login")
	p.change(protocol.OpLogin, loginReq{SessionID: "s4"})
	p.heard("", "sessions s3, s4")
	kick := must[protocol.KickReply](p, p.subjects.Kick(), protocol.KickRequest{UserID: p.user, SessionID: "s3"})
	if !slices.Equal(kick.Ended, []string{"s3"}) || kick.Revision == 0 || kick.Epoch == "" {
		p.Errorf("kick: %+v", kick)
	}
	p.heard("", "sessions s4", "s3 kicked")
	must[protocol.KickReply](p, p.subjects.Kick(), protocol.KickRequest{UserID: p.user})
	p.heard("UNLOGINED kicked", "UNLOGINED kicked", "s4 kicked")
	if kick := must[protocol.KickReply](p, p.subjects.Kick(), protocol.KickRequest{UserID: p.user}); len(kick.Ended) != 0 {
		p.Errorf("kick of nobody: %+v", kick)
	}
}

func testTexts(p *probe) {
	p.change(protocol.OpSet, text("before"))
	p.sees("UNLOGINED before")
	p.heard("UNLOGINED before set", "UNLOGINED before set")
	p.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	p.heard("ONLINE before login", "ONLINE before login")
	p.change(protocol.OpSet, text("<b> & \"c\""))
	p.heard(`ONLINE <b> & "c" set`, `ONLINE <b> & "c" set`)
	revision := p.own.Revision
	p.change(protocol.OpSet, text("<b> & \"c\"")) // what holds already
	if p.own.Revision != revision {
		p.Errorf("a set that changes nothing went from revision %d to %d", revision, p.own.Revision)
	}
	p.refused(protocol.OpSet, setReq{CustomStatus: protocol.Ptr("x"), IfRevision: protocol.Ptr(revision - 1)}, protocol.ErrRevisionConflict)
	p.refused(protocol.OpSet, setReq{CustomStatus: protocol.Ptr("x"), SessionID: "other"}, protocol.ErrSessionNotFound)
	p.change(protocol.OpSet, setReq{CustomStatus: protocol.Ptr(""), IfRevision: &revision, SessionID: "s1"})
	p.heard("ONLINE set", "ONLINE set")
	p.change(protocol.OpSet, text("gone with the session"))
	p.heard("ONLINE gone with the session set", "ONLINE gone with the session set")
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.heard("UNLOGINED logout", "UNLOGINED logout")
	p.shows("UNLOGINED")
}

func testAvailability(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	p.heard("ONLINE login", "ONLINE login")
	p.change(protocol.OpRenew, renewReq{SessionID: "s1", Idle: protocol.Ptr(true)})
	p.heard("ONLINE away set", "ONLINE away set", "sessions s1 idle")
	p.change(protocol.OpSet, available(protocol.Busy))
	p.heard("ONLINE busy set", "ONLINE busy set", "busy")
	p.change(protocol.OpSet, setReq{CustomStatus: protocol.Ptr("lunch"), Availability: protocol.Ptr(protocol.DND), AvailabilityExpiresInSeconds: protocol.Ptr(int64(60))})
	p.heard("ONLINE dnd lunch set", "ONLINE dnd lunch set", "busy dnd")
	p.change(protocol.OpSet, text("")) // availability is left alone
	p.heard("ONLINE dnd set", "ONLINE dnd set")
	p.change(protocol.OpSet, available(protocol.Available))
	p.heard("ONLINE away set", "ONLINE away set", "available")
	p.change(protocol.OpRenew, renewReq{SessionID: "s1", Idle: protocol.Ptr(false)})
	p.heard("ONLINE set", "ONLINE set", "sessions s1")
	p.change(protocol.OpSet, available(protocol.Away))
	p.heard("ONLINE away set", "ONLINE away set", "away")
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.heard("UNLOGINED logout", "UNLOGINED logout")
	p.change(protocol.OpSet, available(protocol.Busy)) // it is set and not shown
	p.heard("", "busy")
	p.change(protocol.OpLogin, loginReq{SessionID: "s2"})
	p.heard("ONLINE busy login", "ONLINE busy login")
	own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{})
	if want := (protocol.AvailabilitySettings{Lasting: protocol.Busy}); own.Availability != want || show(own.Status) != "ONLINE busy" || own.Epoch == "" || own.AsOf == 0 {
		p.Errorf("status: %+v", own)
	}
}

func testExpiry(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	p.heard("ONLINE login", "ONLINE login")
	soon := protocol.Ptr(int64(1))
	p.change(protocol.OpSet, setReq{CustomStatus: protocol.Ptr("for a second"), ExpiresInSeconds: soon})
	if p.own.CustomStatusExpiresAt == 0 {
		p.Error("no expiry is shown")
	}
	p.heard("ONLINE for a second set", "ONLINE for a second set")
	p.target.Pass(time.Second)
	p.heard("ONLINE expired", "ONLINE expired")
	p.change(protocol.OpSet, setReq{Availability: protocol.Ptr(protocol.DND), AvailabilityExpiresInSeconds: soon})
	p.heard("ONLINE dnd set", "ONLINE dnd set", "available dnd")
	p.target.Pass(time.Second)
	p.heard("ONLINE expired", "ONLINE expired", "available")
}

func testInvisible(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", Platform: "web"})
	p.heard("ONLINE login", "ONLINE login")
	p.change(protocol.OpSet, text("seen"))
	p.heard("ONLINE seen set", "ONLINE seen set")
	p.change(protocol.OpSet, available(protocol.Invisible))
	p.sees("ONLINE invisible seen")
	p.heard("OFFLINE lost", "ONLINE invisible seen set", "invisible")
	// Nothing that the user does is seen.
	p.change(protocol.OpSet, text("hidden"))
	p.heard("", "ONLINE invisible hidden set")
	p.change(protocol.OpLogin, loginReq{SessionID: "s2"})
	p.heard("", "sessions s1, s2")
	p.change(protocol.OpLogout, logoutReq{SessionID: "s2"})
	p.heard("", "sessions s1")
	if s := p.get(p.user).SuccessUserList[0]; show(s) != "OFFLINE" || s.Revision != p.revision || s.Platforms != nil {
		p.Errorf("everybody sees %+v, want revision %d", s, p.revision)
	}
	// A change of availability alone, while not ONLINE, does not give the user away.
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.heard("", "UNLOGINED logout")
	p.change(protocol.OpSet, available(protocol.Available))
	p.heard("", "available")
	p.shows("OFFLINE")
	p.change(protocol.OpLogin, loginReq{SessionID: "s3"})
	p.heard("ONLINE login", "ONLINE login")
}

func testQueries(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	p.heard("ONLINE login", "ONLINE login")
	long := strings.Repeat("x", protocol.MaxUserIDBytes+1)
	r := p.get(p.user, "never seen", p.user, "", long)
	if len(r.SuccessUserList) != 2 || r.SuccessUserList[0].UserID != p.user || r.SuccessUserList[1].StatusType != protocol.Unlogined || r.SuccessUserList[1].Revision != 0 {
		p.Errorf("found %+v", r.SuccessUserList)
	}
	if len(r.FailureUserList) != 2 || r.FailureUserList[1].UserID != long || !errors.Is(r.FailureUserList[0].Err(), protocol.ErrInvalidUserID) {
		p.Errorf("failed %+v", r.FailureUserList)
	}
	if r.Stale || r.Epoch == "" || r.AsOf == 0 || r.Revision < p.own.Revision {
		p.Errorf("get: %+v", r)
	}
	for _, tt := range []struct {
		body any
		want *protocol.Error
	}{
		{protocol.GetRequest{UserIDList: []string{}}, protocol.ErrInvalidRequest},
		{protocol.GetRequest{UserIDList: make([]string, protocol.MaxUsersPerGet+1)}, protocol.ErrTooManyUsers},
		{"not JSON", protocol.ErrInvalidRequest},
		{strings.Repeat(" ", protocol.MaxBodyBytes+1), protocol.ErrRequestTooLarge},
	} {
		if _, err := ask[protocol.GetReply](p, p.subjects.Get(), tt.body); !errors.Is(err, tt.want) {
			p.Errorf("get of %.40v: got %v, want %v", tt.body, err, tt.want.Name)
		}
	}
}

func testContacts(p *probe) {
	ask := func(r protocol.ContactsRequest, version uint64, want ...string) uint64 {
		p.Helper()
		reply := must[protocol.ContactsReply](p, p.about(protocol.OpContacts), r)
		if !slices.Equal(reply.Contacts, want) || reply.Contacts == nil || !reply.FriendNotifications || reply.Version < version {
			p.Errorf("contacts %+v: %+v, want %v", r, reply, want)
		}
		return reply.Version
	}
	if v := ask(protocol.ContactsRequest{}, 0); v != 0 {
		p.Errorf("version %d of what was never changed", v)
	}
	v := ask(protocol.ContactsRequest{Add: []string{"carol", "bob@example.com", "carol"}}, 1, "bob@example.com", "carol")
	p.heard("", "contacts +[bob@example.com carol] -[]")
	if again := ask(protocol.ContactsRequest{Add: []string{"carol"}, Remove: []string{"nobody"}}, v, "bob@example.com", "carol"); again != v {
		p.Errorf("a change of nothing went from version %d to %d", v, again)
	}
	v = ask(protocol.ContactsRequest{Add: []string{"dave", "erin"}, Remove: []string{"carol", "erin"}}, v+1, "bob@example.com", "dave")
	p.heard("", "contacts +[dave] -[carol]")
	ask(protocol.ContactsRequest{Replace: &[]string{"frank"}}, v+1, "frank")
	p.heard("", "contacts +[frank] -[bob@example.com dave]")
	many := make([]string, protocol.MaxContacts)
	for i := range many {
		many[i] = fmt.Sprint("user", i)
	}
	p.refused(protocol.OpContacts, protocol.ContactsRequest{Add: many}, protocol.ErrRequestTooLarge)
	p.refused(protocol.OpContacts, protocol.ContactsRequest{Add: []string{""}}, protocol.ErrInvalidUserID)
	p.refused(protocol.OpContacts, protocol.ContactsRequest{Add: []string{"x"}, Replace: &[]string{}}, protocol.ErrInvalidRequest)
	ask(protocol.ContactsRequest{}, v, "frank")
	ask(protocol.ContactsRequest{Replace: &[]string{}}, v)
	p.heard("", "contacts +[] -[frank]")
}

// gateway is a gateway's lease.
type gateway struct {
	*probe
	id, process string
	seq         uint64
}

func (p *probe) open(id, process string) *gateway {
	p.Helper()
	g := &gateway{p, id, process, 0}
	if r := must[protocol.LeaseReply](p, g.subject(protocol.OpOpen), protocol.OpenRequest{Process: process}); r.TTLSeconds != 30 || r.Seq != 0 || r.Epoch == "" {
		p.Errorf("open: %+v", r)
	}
	return g
}

func (g *gateway) subject(op string) string {
	subject, err := g.subjects.Gateway(g.id, op)
	if err != nil {
		g.Fatal(err)
	}
	return subject
}

// apply does ops of the probe's user, and returns the errors of those that failed.
func (g *gateway) apply(ops ...protocol.Op) (failed []string) {
	g.Helper()
	for i := range ops {
		ops[i].UserID = g.user
	}
	g.seq++
	r := must[protocol.ApplyReply](g.probe, g.subject(protocol.OpApply), protocol.ApplyRequest{Process: g.process, Seq: g.seq, Ops: ops})
	if r.Applied+len(r.Failures) != len(ops) || r.Revision == 0 || r.Epoch == "" || r.Failures == nil {
		g.Errorf("apply of %d ops: %+v", len(ops), r)
	}
	for _, f := range r.Failures {
		failed = append(failed, fmt.Sprint(f.Index, " ", f.Name))
	}
	return failed
}

func op(kind, session string) protocol.Op { return protocol.Op{Op: kind, SessionID: session} }

func testGateways(p *probe) {
	g := p.open("gw1", "p1")
	failed := g.apply(op(protocol.OpKindLogin, "s1"), op(protocol.OpKindIdle, "s2"), op(protocol.OpKindLogin, ""),
		protocol.Op{Op: protocol.OpKindSet, CustomStatus: protocol.Ptr("hello"), Availability: protocol.Ptr(protocol.Busy)}, op("jump", "s1"))
	if !slices.Equal(failed, []string{"1 session_not_found", "2 invalid_request", "4 invalid_request"}) {
		p.Errorf("failures %q", failed)
	}
	var ev protocol.Event // as one change, whose cause is that of one of its ops
	p.next(p.public, &ev)
	if p.revision = ev.Revision; show(ev.Status) != "ONLINE busy hello" || ev.PreviousRevision != 0 {
		p.Errorf("event %+v", ev)
	}
	for range 2 {
		p.next(p.self, &protocol.SelfEvent{})
	}
	own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{})
	if own.Sessions[0].Gateway != "gw1" || own.Sessions[0].Platform != "unknown" || own.Status.Revision != ev.Revision {
		p.Errorf("status: %+v", own)
	}
	g.apply(op(protocol.OpKindLost, "s1"))
	p.heard("OFFLINE lost", "OFFLINE lost")
	// A lost session is held by nobody.
	failed = g.apply(op(protocol.OpKindLost, "s1"), op(protocol.OpKindIdle, "s1"), op(protocol.OpKindLogout, "s1"))
	if !slices.Equal(failed, []string{"0 session_not_found", "1 session_not_found", "2 session_not_found"}) {
		p.Errorf("ops on a lost session: %q", failed)
	}
	if own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{}); own.Sessions[0].Gateway != "" || own.Sessions[0].Live {
		p.Errorf("a lost session of a gateway: %+v", own.Sessions)
	}
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionNotFound)
	g.apply(op(protocol.OpKindLogin, "s1"))
	p.heard("ONLINE busy login", "ONLINE busy login")

	// The last request repeated does nothing; any other but the next is refused, another
	// one of its seq too.
	g.seq--
	g.apply(op(protocol.OpKindLogin, "s1"))
	for _, tt := range []struct {
		process string
		seq     uint64
		want    *protocol.Error
	}{{"p1", g.seq - 1, protocol.ErrOutOfOrder}, {"p1", g.seq + 2, protocol.ErrOutOfOrder}, {"p2", 1, protocol.ErrLeaseNotFound}, {"p1", 0, protocol.ErrOutOfOrder}, {"p1", g.seq, protocol.ErrOutOfOrder}} {
		if _, err := ask[protocol.ApplyReply](p, g.subject(protocol.OpApply), protocol.ApplyRequest{Process: tt.process, Seq: tt.seq, Ops: []protocol.Op{{Op: protocol.OpKindLogout, UserID: p.user, SessionID: "s1"}}}); !errors.Is(err, tt.want) {
			p.Errorf("apply of seq %d by %s after %d: got %v, want %v", tt.seq, tt.process, g.seq, err, tt.want.Name)
		}
	}
	if r := must[protocol.LeaseReply](p, g.subject(protocol.OpOpen), protocol.OpenRequest{Process: "p1"}); r.Seq != g.seq {
		p.Errorf("open: %+v, want seq %d", r, g.seq)
	}
	must[protocol.LeaseReply](p, g.subject(protocol.OpRenew), protocol.LeaseRequest{Process: "p1"})
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1"})
	p.heard("OFFLINE lost", "OFFLINE lost")
	if own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{}); own.Sessions[0].Gateway != "" || own.Sessions[0].Live {
		p.Errorf("a session whose gateway's lease has ended: %+v", own.Sessions)
	}
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionNotFound)
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1"})
	if _, err := ask[protocol.LeaseReply](p, g.subject(protocol.OpRenew), protocol.LeaseRequest{Process: "p1"}); !errors.Is(err, protocol.ErrLeaseNotFound) {
		p.Errorf("renew once closed: %v", err)
	}
}

// A gateway learns that its session was kicked when it next acts for it: it does not hold it any more.
// The user's own logout of a kicked session is no error (PROTOCOL 4.3).
func testKicked(p *probe) {
	g := p.open("gw3", "p1")
	g.apply(op(protocol.OpKindLogin, "s1"), op(protocol.OpKindLogin, "s2"))
	must[protocol.KickReply](p, p.subjects.Kick(), protocol.KickRequest{UserID: p.user})
	failed := g.apply(op(protocol.OpKindIdle, "s1"), op(protocol.OpKindLost, "s1"), op(protocol.OpKindLogout, "s1"), op(protocol.OpKindLogin, "s1"))
	if !slices.Equal(failed, []string{"0 session_not_found", "1 session_not_found", "2 session_not_found", "3 session_replaced"}) {
		p.Errorf("ops on a kicked session: %q", failed)
	}
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.refused(protocol.OpLogin, loginReq{SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.shows("UNLOGINED")
}

func testHandover(p *probe) {
	g, g2 := p.open("gw1", "p1"), p.open("gw2", "p2")
	g.apply(op(protocol.OpKindLogin, "s1"))
	p.heard("ONLINE login", "ONLINE login")
	g2.apply(op(protocol.OpKindLogin, "s1"))
	if failed := g.apply(op(protocol.OpKindLost, "s1"), op(protocol.OpKindLogout, "s1")); len(failed) != 2 {
		p.Errorf("ops on another's session: %q", failed)
	}
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1", Logout: true})
	p.shows("ONLINE")
	must[protocol.LeaseReply](p, g2.subject(protocol.OpClose), protocol.CloseRequest{Process: "p2", Logout: true})
	p.heard("UNLOGINED logout", "UNLOGINED logout")
}

func testOperators(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", Platform: "tv"})
	p.change(protocol.OpSet, text("here"))
	stats := must[protocol.StatsReply](p, p.subjects.Stats(), struct{}{})
	if stats.Sessions["tv"] != 1 || stats.Users.Online < 1 || stats.Leases < 1 || len(stats.Instances) != 1 || stats.Epoch == "" {
		p.Errorf("stats: %+v", stats)
	}
	var found, last string
	for cursor := ""; ; {
		r := must[protocol.ListReply](p, p.subjects.List(), protocol.ListRequest{StatusType: protocol.Online, Limit: 1, Cursor: cursor})
		for _, s := range r.Users {
			if token, _ := protocol.EncodeToken(s.UserID); token <= last || s.StatusType != protocol.Online {
				p.Errorf("list: %q came after %q", token, last)
			} else {
				last = token
			}
			if s.UserID == p.user {
				found = show(s)
			}
		}
		if cursor = r.Cursor; cursor == "" {
			break
		}
	}
	if found != "ONLINE here" {
		p.Errorf("list: found %q", found)
	}
	why := must[protocol.ExplainReply](p, p.subjects.Explain(), protocol.UserRequest{UserID: p.user})
	if show(why.Owner) != "ONLINE here" || show(why.Public) != "ONLINE here" || len(why.Why) == 0 || len(why.Sessions) != 1 || why.Ended == nil {
		p.Errorf("explain: %+v", why)
	}
	must[protocol.ContactsReply](p, p.about(protocol.OpContacts), protocol.ContactsRequest{Add: []string{"bob"}})
	erased := must[protocol.KickReply](p, p.subjects.Erase(), protocol.UserRequest{UserID: p.user})
	if !slices.Equal(erased.Ended, []string{"s1"}) {
		p.Errorf("erase: %+v", erased)
	}
	for { // those of the changes above, which may be fewer than they
		var ev protocol.Event
		p.next(p.public, &ev)
		if ev.Cause == protocol.CauseErased {
			if show(ev.Status) != "UNLOGINED" || ev.LastSeenAt != 0 {
				p.Errorf("erased: %+v", ev)
			}
			break
		}
	}
	if r := must[protocol.ContactsReply](p, p.about(protocol.OpContacts), protocol.ContactsRequest{}); len(r.Contacts) != 0 {
		p.Errorf("contacts of one who was erased: %+v", r)
	}
	for subject, body := range map[string]any{
		p.subjects.List(): protocol.ListRequest{Cursor: "=41"}, p.subjects.Kick(): protocol.KickRequest{UserID: p.user, SessionID: "a.b"},
	} {
		if _, err := ask[protocol.ListReply](p, subject, body); !errors.Is(err, protocol.ErrInvalidRequest) {
			p.Errorf("%s %+v: got %v", subject, body, err)
		}
	}
	for _, subject := range []string{p.subjects.Explain(), p.subjects.Erase(), p.subjects.Kick()} {
		if _, err := ask[protocol.KickReply](p, subject, protocol.UserRequest{}); !errors.Is(err, protocol.ErrInvalidUserID) {
			p.Errorf("%s of nobody: got %v", subject, err)
		}
	}
}

// What is refused changes nothing (PROTOCOL 8, G10).
func testRefused(p *probe) {
	p.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	p.heard("ONLINE login", "ONLINE login")
	for _, tt := range []struct {
		op   string
		body any
		want *protocol.Error
	}{
		{protocol.OpLogin, loginReq{SessionID: "a.b"}, protocol.ErrInvalidRequest},
		{protocol.OpLogin, loginReq{TTLSeconds: 4}, protocol.ErrInvalidRequest},
		{protocol.OpLogin, loginReq{Platform: "Web"}, protocol.ErrInvalidRequest},
		{protocol.OpRenew, renewReq{}, protocol.ErrInvalidRequest},
		{protocol.OpRenew, renewReq{SessionID: "unknown"}, protocol.ErrSessionNotFound},
		{protocol.OpLogout, logoutReq{}, protocol.ErrInvalidRequest},
		{protocol.OpLogout, logoutReq{SessionID: "s1", All: true}, protocol.ErrInvalidRequest},
		{protocol.OpSet, setReq{}, protocol.ErrInvalidRequest},
		{protocol.OpSet, text(strings.Repeat("x", protocol.MaxCustomStatusBytes+1)), protocol.ErrCustomStatusTooLong},
		{protocol.OpSet, text("\n"), protocol.ErrInvalidRequest},
		{protocol.OpSet, available("asleep"), protocol.ErrInvalidRequest},
		{protocol.OpSet, setReq{CustomStatus: protocol.Ptr("x"), ExpiresInSeconds: protocol.Ptr(int64(0))}, protocol.ErrInvalidRequest},
		{protocol.OpSet, setReq{CustomStatus: protocol.Ptr("x"), AvailabilityExpiresInSeconds: protocol.Ptr(int64(1))}, protocol.ErrInvalidRequest},
		{protocol.OpSet, "[]", protocol.ErrInvalidRequest},
		{protocol.OpStatus, "", protocol.ErrInvalidRequest},
	} {
		p.refused(tt.op, tt.body, tt.want)
	}
	if _, err := ask[protocol.ChangeReply](p, p.subjects.Prefix()+".user.=41."+protocol.OpSet, text("x")); !errors.Is(err, protocol.ErrInvalidUserID) {
		p.Errorf("a token that is not canonical: %v", err)
	}
	p.shows("ONLINE")
	p.wantSessions("s1")
	p.change(protocol.OpSet, text("after it all"))
	p.heard("ONLINE after it all set", "ONLINE after it all set")
}
