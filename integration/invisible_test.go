package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestG09_InvisibleLooksLost: in one world alice goes invisible and then does all
// that a user can do; in another she loses her sessions at that moment and does
// nothing. What others are told and can ask is the same in both, over the expiry
// of her text and a restart of the service, until she is seen again. (State
// machine: TestProperty_G09.)
func TestG09_InvisibleLooksLost(t *testing.T) {
	t.Parallel()
	var worlds [2]*world
	t.Run("worlds", func(t *testing.T) {
		for i, invisible := range []bool{true, false} {
			t.Run(fmt.Sprintf("invisible=%t", invisible), func(t *testing.T) {
				t.Parallel()
				worlds[i] = playWorld(t, invisible)
			})
		}
	})
	if worlds[0] == nil || worlds[1] == nil {
		return // it has said why
	}
	for what, lost := range worlds[1].seen {
		invisible := worlds[0].seen[what]
		if !slices.Equal(invisible, lost) {
			t.Errorf("%s: of the invisible\n%s\nof the lost\n%s", what, strings.Join(invisible, "\n"), strings.Join(lost, "\n"))
		}
	}
	if told := worlds[1].seen["told"]; len(told) != 5 { // login, set, lost, expired, login
		t.Errorf("of the lost only this was told:\n%s", strings.Join(told, "\n"))
	}
}

// world is a service with alice, and what everybody else sees of her.
type world struct {
	t         *testing.T
	kit       *servicetest.Kit
	client    *nats.Conn // alice's and her gateway's
	others    *nats.Conn
	events    *wire.Recorder
	invisible bool
	round     int    // of act
	seq       uint64 // of the gateway's last request
	revision  uint64 // of the last reply to alice: what others ask is not older

	// moment is when she went: times are compared with it.
	from, to protocol.Time
	// seen is what others saw: what was answered to each question, as often as it
	// changed, and what was told.
	seen    map[string][]string
	ordinal map[uint64]int // of revisions, by first appearance
}

func playWorld(t *testing.T, invisible bool) *world {
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) {
		c.Grace, c.CustomStatusPolicy = 500*time.Millisecond, service.PolicyPersistent
	}))
	w := &world{t: t, kit: kit, client: kit.Connect(t), others: kit.Connect(t), invisible: invisible, seen: map[string][]string{}, ordinal: map[uint64]int{}}
	w.events = wire.Record(t, w.others, wire.Subjects.AnyEvent())
	for _, id := range []string{"aaron", "bob"} {
		wire.Login(t, w.others, id, protocol.LoginRequest{SessionID: "s", Platform: "linux", TTLSeconds: 3600})
	}
	wire.Must[protocol.ContactsReply](t, w.others, wire.To(protocol.OpContacts, "bob"), protocol.ContactsRequest{Add: []string{"alice"}})
	wire.Must[protocol.LeaseReply](t, w.client, w.gateway(protocol.OpOpen), protocol.OpenRequest{Process: "p1", TTLSeconds: 3600})
	w.look()
	w.apply(protocol.Op{Op: protocol.OpKindLogin, UserID: "alice", SessionID: "s1", Platform: "web"})
	w.look()
	w.apply(protocol.Op{Op: protocol.OpKindSet, UserID: "alice", CustomStatus: protocol.Ptr("in a meeting"), ExpiresInSeconds: protocol.Ptr[int64](6)})
	w.look()

	servicetest.Eventually(t, wire.Soon, "a millisecond to pass", func() bool {
		w.from = protocol.TimeOf(time.Now())
		return w.from > w.public().UpdatedAt
	})
	if invisible {
		w.apply(protocol.Op{Op: protocol.OpKindSet, UserID: "alice", Availability: protocol.Ptr(protocol.Invisible)})
	} else {
		w.apply(protocol.Op{Op: protocol.OpKindLost, UserID: "alice", SessionID: "s1"})
	}
	w.to = protocol.TimeOf(time.Now())
	w.look()

	w.act()
	servicetest.Eventually(t, wire.Soon, "the text to expire", func() bool { return w.public().CustomStatus == "" })
	w.look()
	w.kit.Restart(t)
	servicetest.Eventually(t, wire.Soon, "the clients to reconnect", func() bool { return w.client.IsConnected() && w.others.IsConnected() })
	w.look()
	w.act()
	w.showUp()
	w.look()
	servicetest.Eventually(t, wire.Soon, "alice to be seen", func() bool {
		list := w.events.Events(t, "alice")
		return len(list) > 0 && list[len(list)-1].Cause == protocol.CauseLogin && list[len(list)-1].Revision == w.public().Revision
	})
	w.hear()
	return w
}

// act is what the invisible alice does, all of which nobody sees; the lost one
// does nothing.
func (w *world) act() {
	if !w.invisible {
		return
	}
	w.round++
	t := w.t
	step := func(subject string, request any) {
		t.Helper()
		w.revision = wire.Must[protocol.ChangeReply](t, w.client, subject, request).Revision
		w.look()
	}
	set, renew, logout := wire.To(protocol.OpSet, "alice"), wire.To(protocol.OpRenew, "alice"), wire.To(protocol.OpLogout, "alice")
	step(set, protocol.SetRequest{CustomStatus: protocol.Ptr("working in secret")})
	step(set, protocol.SetRequest{CustomStatus: protocol.Ptr("for a second"), ExpiresInSeconds: protocol.Ptr[int64](1)})
	step(set, protocol.SetRequest{CustomStatus: protocol.Ptr("")})
	step(set, protocol.SetRequest{Availability: protocol.Ptr(protocol.Invisible), AvailabilityExpiresInSeconds: protocol.Ptr[int64](1)})
	step(set, protocol.SetRequest{Availability: protocol.Ptr(protocol.Invisible)})

	// Sessions come, idle, are replaced, kicked and logged out.
	w.revision = wire.Login(t, w.client, "alice", protocol.LoginRequest{SessionID: w.id("s2"), Device: "phone", Platform: "ios", TTLSeconds: 3600}).Revision
	w.look()
	step(renew, protocol.RenewRequest{SessionID: w.id("s2"), Idle: protocol.Ptr(true)})
	step(renew, protocol.RenewRequest{SessionID: w.id("s2"), Idle: protocol.Ptr(false)})
	step(renew, protocol.RenewRequest{SessionID: w.id("s2")})
	w.revision = wire.Login(t, w.client, "alice", protocol.LoginRequest{SessionID: w.id("s3"), Device: "phone", Platform: "android", TTLSeconds: 3600}).Revision
	w.look()
	w.revision = wire.Must[protocol.KickReply](t, w.client, wire.Subjects.Kick(), protocol.KickRequest{UserID: "alice", SessionID: w.id("s3")}).Revision
	w.look()

	// One is lost with its connection.
	bound := w.kit.Connect(t)
	wire.Login(t, bound, "alice", protocol.LoginRequest{SessionID: w.id("s4"), Platform: "mac", Connection: wire.BoundTo(bound)})
	bound.Close()
	servicetest.Eventually(t, wire.Soon, "the session to be lost with its connection", func() bool {
		own := wire.Must[protocol.OwnStatusReply](t, w.client, wire.To(protocol.OpStatus, "alice"), "{}")
		w.revision = own.Revision
		return slices.ContainsFunc(own.Sessions, func(s protocol.Session) bool { return s.SessionID == w.id("s4") && !s.Live })
	})
	w.look()

	// Her gateway takes and gives up sessions.
	w.apply(protocol.Op{Op: protocol.OpKindLogin, UserID: "alice", SessionID: w.id("s5"), Platform: "web"})
	w.look()
	w.apply(protocol.Op{Op: protocol.OpKindIdle, UserID: "alice", SessionID: w.id("s5"), Idle: true})
	w.apply(protocol.Op{Op: protocol.OpKindLost, UserID: "alice", SessionID: w.id("s5")})
	w.look()
	if w.round == 1 {
		w.apply(protocol.Op{Op: protocol.OpKindLogout, UserID: "alice", SessionID: "s1"})
		w.look()
	}
	wire.Must[protocol.ContactsReply](t, w.client, wire.To(protocol.OpContacts, "alice"), protocol.ContactsRequest{Add: []string{w.id("bob")}})
	step(logout, protocol.LogoutRequest{All: true})
}

// id makes a name of its own for each round of act.
func (w *world) id(name string) string { return fmt.Sprint(name, "-", w.round) }

// showUp has alice be seen again, with one session.
func (w *world) showUp() {
	wire.Login(w.t, w.client, "alice", protocol.LoginRequest{SessionID: "last", Platform: "web", TTLSeconds: 3600})
	if w.invisible {
		w.look()
		wire.Must[protocol.ChangeReply](w.t, w.client, wire.To(protocol.OpSet, "alice"), protocol.SetRequest{Availability: protocol.Ptr(protocol.Available)})
	}
}

func (w *world) gateway(op string) string {
	subject, err := wire.Subjects.Gateway("gw1", op)
	if err != nil {
		panic(err)
	}
	return subject
}

// apply does one op by alice's gateway.
func (w *world) apply(op protocol.Op) {
	w.t.Helper()
	w.seq++
	reply := wire.Must[protocol.ApplyReply](w.t, w.client, w.gateway(protocol.OpApply), protocol.ApplyRequest{Process: "p1", Seq: w.seq, Ops: []protocol.Op{op}})
	if reply.Applied != 1 {
		w.t.Fatalf("%+v: %+v", op, reply.Failures)
	}
	w.revision = reply.Revision
}

func (w *world) public() protocol.Status { return wire.Fresh(w.t, w.others, "alice")[0] }

// look asks everything that others can ask, and notes what is new.
func (w *world) look() {
	w.t.Helper()
	plain := w.public()
	var epoch string
	for _, request := range []protocol.GetRequest{{Fresh: true, Detail: true}, {Detail: true}, {}} {
		request.UserIDList, request.MinRevision, request.Epoch = []string{"alice"}, plain.Revision, epoch
		reply := wire.Must[protocol.GetReply](w.t, w.others, wire.Subjects.Get(), request)
		epoch = reply.Epoch
		w.ask(fmt.Sprintf("get detail=%t", request.Detail), reply.SuccessUserList)
	}
	for statusType := range protocol.Unlogined + 1 {
		var users []protocol.Status
		for request, begun := (protocol.ListRequest{StatusType: statusType, Limit: 2}), false; request.Cursor != "" || !begun; begun = true {
			reply := wire.Must[protocol.ListReply](w.t, w.others, wire.Subjects.List(), request)
			users, request.Cursor = append(users, reply.Users...), reply.Cursor
		}
		w.ask(fmt.Sprint("list ", statusType), users)
	}
	stats := wire.Must[protocol.StatsReply](w.t, w.others, wire.Subjects.Stats(), "{}")
	w.note("stats", fmt.Sprintf("%+v %v", stats.Users, stats.Sessions))
	w.note("bob's contacts", fmt.Sprint(wire.Must[protocol.ContactsReply](w.t, w.others, wire.To(protocol.OpContacts, "bob"), "{}").Contacts))
}

func (w *world) ask(what string, list []protocol.Status) {
	var shown []string
	for _, st := range list {
		shown = append(shown, w.show(st))
	}
	w.note(what, strings.Join(shown, ", "))
}

// note adds an answer unless it is the one before.
func (w *world) note(what, answer string) {
	if all := w.seen[what]; len(all) == 0 || all[len(all)-1] != answer {
		w.seen[what] = append(all, answer)
	}
}

// hear notes the events, each revision once.
func (w *world) hear() {
	known := uint64(0)
	for _, e := range w.events.Events(w.t, "alice") {
		w.seen["told"] = append(w.seen["told"], fmt.Sprintf("%s cause=%s previous known=%t", w.show(e.Status), e.Cause, e.PreviousRevision == known))
		known = e.Revision
	}
}

// show prints a status. Revisions are numbered as they appear, and times told as
// what they have to do with the moment when alice went.
func (w *world) show(st protocol.Status) string {
	if _, ok := w.ordinal[st.Revision]; !ok && st.UserID == "alice" {
		w.ordinal[st.Revision] = len(w.ordinal)
	}
	when := func(t protocol.Time) string {
		switch {
		case t == 0:
			return "none"
		case w.from == 0 || t < w.from:
			return "before"
		case w.to == 0 || t <= w.to:
			return "then"
		}
		return "after"
	}
	s := fmt.Sprintf("%s %v %q %q platforms=%v", st.UserID, st.StatusType, st.CustomStatus, st.Availability, st.Platforms)
	if st.UserID == "alice" {
		s += fmt.Sprintf(" revision=%d updated=%s seen=%s expires=%t", w.ordinal[st.Revision], when(st.UpdatedAt), when(st.LastSeenAt), st.CustomStatusExpiresAt != 0)
	}
	return s
}
