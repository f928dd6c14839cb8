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

// waitFor bounds every wait of Conformance. It is longer than an amnesty (PROTOCOL 8, G6).
const waitFor = 90 * time.Second

// Target is a presence service that Conformance runs against. Nobody else may use it. Its
// prefix is protocol.DefaultPrefix, and its configuration the default with the
// friend-notification switch on.
type Target struct {
	// Connect returns a client's connection, which is closed with the test.
	Connect func(testing.TB) *nats.Conn
	// Pass lets time pass.
	Pass func(time.Duration)
}

// Conformance tests that a service does what a client relies on: the replies, errors and
// events of the contract, request by request. Both the fake and the real service pass it.
func Conformance(t *testing.T, s Target) {
	for _, part := range []struct {
		name string
		test func(*probe)
	}{
		{"sessions", testSessions}, {"devices", testDevices}, {"ends", testEnds}, {"texts", testTexts},
		{"availability", testAvailability}, {"expiry", testExpiry}, {"invisible", testInvisible},
		{"queries", testQueries}, {"contacts", testContacts}, {"gateways", testGateways}, {"window", testWindow}, {"kicked", testKicked}, {"handover", testHandover},
		{"operators", testOperators}, {"refused", testRefused}, {"lost", testLost}, {"traces", testTraces},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(newProbe(t, s, part.name)) })
	}
}

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
	p.change(protocol.OpLogin, loginReq{SessionID: "s4", Device: "phone"}) // replaces s2
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
	p.change(protocol.OpLogin, loginReq{SessionID: "s5"})
	p.heard("", "sessions s3, s4, s5")
	for session, want := range map[string]bool{"s5": true, "unknown": false} {
		for range 2 {
			reply := must[protocol.ChangeReply](p, p.about(protocol.OpLogout), logoutReq{SessionID: session, Final: true})
			if reply.Final != want {
				p.Errorf("a final logout of %s: final %t, want %t", session, reply.Final, want)
			}
		}
	}
	p.heard("", "sessions s3, s4", "s5 logout")
	p.refused(protocol.OpLogin, loginReq{SessionID: "s5"}, protocol.ErrSessionReplaced)
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
	for { // skip the events of the changes above; some changes may share one
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
		{protocol.OpLogin, loginReq{SessionID: "s1", GraceSeconds: 301}, protocol.ErrInvalidRequest},
		{protocol.OpLogin, loginReq{Platform: "Web"}, protocol.ErrInvalidRequest},
		{protocol.OpRenew, renewReq{}, protocol.ErrInvalidRequest},
		{protocol.OpRenew, renewReq{SessionID: "unknown"}, protocol.ErrSessionNotFound},
		{protocol.OpLogout, logoutReq{}, protocol.ErrInvalidRequest},
		{protocol.OpLogout, logoutReq{SessionID: "s1", All: true}, protocol.ErrInvalidRequest},
		{protocol.OpLogout, logoutReq{Final: true}, protocol.ErrInvalidRequest},
		{protocol.OpLogout, logoutReq{Final: true, All: true}, protocol.ErrInvalidRequest},
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
