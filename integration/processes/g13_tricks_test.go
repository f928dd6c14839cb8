package processes

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"presence/cmd/presencectl/natsconfig"
	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"
)

// scene is a site with a victim, who is online with a text, and an attacker.
type scene struct {
	*site
	alice, mallory, operator *actor
	seen                     *wire.Recorder // all events, as the operator sees them
}

const alicesText = "here"

// everyTrick tries what the table of permissions does not show.
func everyTrick(t *testing.T, s *site) {
	sc := &scene{
		site:     s,
		alice:    s.connect(t, protocol.RoleUser, "alice"),
		mallory:  s.connect(t, protocol.RoleUser, "mallory"),
		operator: s.connect(t, protocol.RoleOperator, "operator"),
	}
	sc.seen = wire.Record(t, sc.operator.Conn, wire.Subjects.AnyEvent(), wire.Subjects.AnySelf())
	wire.Login(t, sc.alice.Conn, "alice", protocol.LoginRequest{SessionID: "phone", TTLSeconds: 3600})
	before := wire.SetText(t, sc.alice.Conn, "alice", alicesText)
	for _, trick := range []struct {
		name string
		play func(*testing.T, *scene)
	}{
		{"forge events and requests by reply subjects", forgeByReply},
		{"forge events and requests by replies to discovery", forgeByDiscovery},
		{"aim answers at another's inbox", aimAtInbox},
		{"aim answers at another application", aimElsewhere},
		{"reach the journal, the snapshots, the contacts", reachJournal},
		{"name another's session", nameAnothersSession},
		{"spell another's token otherwise", spellOtherwise},
		{"have a name that is an alias, in a JWT", nameInJWT},
		{"forge Nats-Request-Info", forgeRequestInfo},
		{"answer in the place of presenced", pretend},
		{"end the sessions of another gateway", poseAsGateway},
	} {
		t.Run(trick.name, func(t *testing.T) { trick.play(t, sc) })
	}
	if after := wire.Fresh(t, sc.operator.Conn, "alice")[0]; after.Revision != before.Revision || after.CustomStatus != alicesText {
		t.Errorf("alice after all attacks: got %+v, want her status of revision %d", after, before.Revision)
	}
	// What changes alice is last.
	for _, trick := range []struct {
		name string
		play func(*testing.T, *scene)
	}{
		{"hear more below status.>", hearMore},
		{"take others' events, as one of their queue group", joinQueueGroup},
		{"claim another's connection", claimConnection},
	} {
		t.Run(trick.name, func(t *testing.T) { trick.play(t, sc) })
	}
	for _, m := range sc.seen.All() {
		checkGenuine(t, m.Msg)
	}
}

// checkGenuine wants a message on an event subject to be an event about its user.
func checkGenuine(t *testing.T, m *nats.Msg) {
	t.Helper()
	if user, ok := wire.Subjects.ParseEvent(m.Subject); ok {
		var e protocol.Event
		if err := json.Unmarshal(m.Data, &e); err != nil || e.UserID != user || e.Cause == "" || e.Revision == 0 {
			t.Errorf("%s: got what is no event: %s", m.Subject, m.Data)
		}
		return
	}
	var e struct{ Type string }
	if _, ok := wire.Subjects.ParseSelf(m.Subject); !ok || json.Unmarshal(m.Data, &e) != nil || e.Type == "" {
		t.Errorf("%s: got what is no event: %s", m.Subject, m.Data)
	}
}

// The broker does not check reply subjects: presenced must not answer on one that
// makes its answer an event or a request.
func forgeByReply(t *testing.T, sc *scene) {
	targets := []string{
		wire.Subjects.Prefix() + ".status.alice", wire.Subjects.Prefix() + ".self.alice", wire.Subjects.Prefix() + ".status.alice.deeper", wire.Subjects.Prefix(),
		wire.To(protocol.OpSet, "alice"), wire.To(protocol.OpLogout, "alice"), wire.Subjects.Get(), wire.Subjects.Kick(), wire.Subjects.Erase(), wire.Subjects.Prefix() + ".gateway.gw1.close",
		"$JS.API.STREAM.DELETE.PRESENCE_JOURNAL", "$KV.PRESENCE_CONTACTS.alice", "$O.PRESENCE_SNAPSHOTS.M.x", "$SYS.REQ.SERVER.PING", "$SRV.PING",
	}
	dropped := droppedRequests(t, sc.operator.Conn)
	for _, reply := range targets {
		for subject, body := range map[string]string{
			wire.Subjects.Get():                     `{"userIDList":["alice"]}`,
			wire.To(protocol.OpSet, "mallory"):      `{"customStatus":"forged"}`,
			wire.To(protocol.OpStatus, "mallory"):   `{}`,
			wire.To(protocol.OpLogin, "mallory"):    `{"sessionID":"forged"}`,
			wire.To(protocol.OpContacts, "mallory"): `{"add":["alice"]}`,
		} {
			if err := sc.mallory.PublishRequest(subject, reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if denied := sc.mallory.wasDenied(t); len(denied) > 0 {
		t.Errorf("the broker judges reply subjects after all: %q", denied)
	}
	// Contacts may not be served, so no more than the others are counted on.
	want := dropped + uint64(4*len(targets))
	servicetest.Eventually(t, wire.Soon, fmt.Sprint(want, " requests to be dropped"), func() bool { return droppedRequests(t, sc.operator.Conn) >= want })
	if s := wire.Fresh(t, sc.operator.Conn, "mallory")[0]; s.Revision != 0 {
		t.Errorf("a request with a forged reply subject was done: %+v", s)
	}

	// What the broker keeps for itself it refuses.
	for _, reply := range []string{"_R_.x.y", "_GR_.x.y." + wire.Subjects.Prefix() + ".status.alice"} {
		sc.mallory.PublishRequest(wire.Subjects.Get(), reply, []byte(`{"userIDList":["alice"]}`))
	}
	if denied := sc.mallory.wasDenied(t); len(denied) != 2 {
		t.Errorf("reserved reply subjects: refused were %q", denied)
	}
}

// droppedRequests asks presenced how many requests it has dropped.
func droppedRequests(t *testing.T, operator *nats.Conn) (n uint64) {
	t.Helper()
	for _, e := range wire.Must[micro.Stats](t, operator, "$SRV.STATS.presence", "").Endpoints {
		var data service.EndpointStats
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		n += data.Dropped
	}
	return n
}

// Answers to discovery heed reply subjects as those to other requests do: an operator,
// who alone may ask, gets nothing written where it may not write itself. That the
// request has been handled is seen by the answer to a later one.
func forgeByDiscovery(t *testing.T, sc *scene) {
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		for _, reply := range []string{wire.To(protocol.OpSet, "alice"), wire.Subjects.Prefix() + ".status.alice", wire.Subjects.Kick()} {
			if err := sc.operator.PublishRequest("$SRV."+verb, reply, nil); err != nil {
				t.Fatal(err)
			}
		}
		wire.Must[json.RawMessage](t, sc.operator.Conn, "$SRV."+verb, "")
	}
	if text := sc.daemon.Stderr(); strings.Contains(text, `Publish to \"`+wire.Subjects.Prefix()) {
		t.Errorf("presenced tried to answer below its prefix:\n%s", text)
	}
}

// awaitRefusal sends requests until presenced has logged that it may not answer on
// their reply subject. It logs no more than one such line a second.
func (sc *scene) awaitRefusal(t *testing.T, a *actor, subject, reply string) {
	t.Helper()
	servicetest.Eventually(t, wire.Soon, "presenced to be refused an answer on "+reply, func() bool {
		if err := a.PublishRequest(subject, reply, []byte(`{"userIDList":["alice"]}`)); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(sc.daemon.Stderr(), `Publish to \"`+reply)
	})
}

// An answer can be aimed at another's inbox: it is noise there. To be taken for the
// answer to somebody else's request it would have to name that one's subject, which
// has 22 random characters and cannot be read by others.
func aimAtInbox(t *testing.T, sc *scene) {
	noise := wire.Record(t, sc.alice.Conn, protocol.RoleUser.InboxPrefix("alice")+".guess.*")
	var g errgroup.Group
	for i := range 4 {
		g.Go(func() error {
			for range 25 {
				if err := sc.mallory.PublishRequest(wire.Subjects.Get(), fmt.Sprint(protocol.RoleUser.InboxPrefix("alice"), ".guess.", i), []byte(`{"userIDList":["mallory"]}`)); err != nil {
					return err
				}
				reply, err := wire.Ask[protocol.GetReply](sc.alice.Conn, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{"alice"}})
				if err != nil || len(reply.SuccessUserList) != 1 || reply.SuccessUserList[0].UserID != "alice" {
					return fmt.Errorf("alice asked for herself: got %+v, %w", reply, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	servicetest.Eventually(t, wire.Soon, "the noise", func() bool { return len(noise.All()) == 4*25 })
}

// The configuration's own user presenced may publish nothing but events and answers
// to inboxes.
func aimElsewhere(t *testing.T, sc *scene) {
	if !sc.outside && sc.auth != natsconfig.JWT {
		return // presenced answers by a user of its own, which is not restricted: docs/security.md
	}
	sc.awaitRefusal(t, sc.mallory, wire.Subjects.Get(), "another.application")
}

func reachJournal(t *testing.T, sc *scene) {
	for who, a := range map[string]*actor{"mallory": sc.mallory, "the operator": sc.operator} {
		js, err := jetstream.New(a.Conn)
		if err != nil {
			t.Fatal(err)
		}
		// A refused publish is a request without an answer.
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := js.Stream(ctx, "PRESENCE_JOURNAL"); err == nil {
			t.Errorf("%s found the journal", who)
		}
		if err := js.DeleteStream(ctx, "PRESENCE_JOURNAL"); err == nil {
			t.Errorf("%s deleted the journal", who)
		}
		if _, err := js.ObjectStore(ctx, "PRESENCE_SNAPSHOTS"); err == nil {
			t.Errorf("%s found the snapshots", who)
		}
		if _, err := js.KeyValue(ctx, "PRESENCE_CONTACTS"); err == nil {
			t.Errorf("%s found the contacts", who)
		}
		if denied := a.wasDenied(t); len(denied) < 1 {
			t.Errorf("%s was refused nothing: %q", who, denied)
		}
	}
}

// Session IDs are a user's own: the same one of another is another.
func nameAnothersSession(t *testing.T, sc *scene) {
	wire.Must[protocol.ChangeReply](t, sc.mallory.Conn, wire.To(protocol.OpLogout, "mallory"), `{"sessionID":"phone"}`)
	wire.Refused(t, sc.mallory.Conn, wire.To(protocol.OpRenew, "mallory"), `{"sessionID":"phone"}`, protocol.ErrSessionNotFound)
	wire.Refused(t, sc.mallory.Conn, wire.To(protocol.OpSet, "mallory"), `{"customStatus":"x","sessionID":"phone"}`, protocol.ErrSessionNotFound)
	wire.Login(t, sc.mallory.Conn, "mallory", protocol.LoginRequest{SessionID: "phone"})
	wire.Must[protocol.ChangeReply](t, sc.mallory.Conn, wire.To(protocol.OpLogout, "mallory"), `{"all":true}`)
}

// Who is allowed a token that is no token, by mistake, is nobody by it.
func spellOtherwise(t *testing.T, sc *scene) {
	for _, token := range []string{"=41", "=61lice", "alice=", "alice=4", "alice=4x", "al=69ce", "bob=40example=2ecom", "alice=3d"} {
		for _, op := range []string{protocol.OpSet, protocol.OpLogin, protocol.OpRenew, protocol.OpLogout, protocol.OpStatus} {
			wire.Refused(t, sc.operator.Conn, wire.Subjects.Prefix()+".user."+token+"."+op, `{"customStatus":"forged","sessionID":"s"}`, protocol.ErrInvalidUserID)
		}
	}
	if s := wire.Fresh(t, sc.operator.Conn, "A")[0]; s.Revision != 0 {
		t.Errorf("A, whom an alias named: got %+v", s)
	}
}

// A JWT's name is put into subjects as it is. Who signs one by hand with a name
// that is not a token makes a user who is nobody.
func nameInJWT(t *testing.T, sc *scene) {
	if sc.auth != natsconfig.JWT {
		return // there are none
	}
	for _, name := range []string{"=41", ">", "a b", ""} {
		creds := signByHand(t, sc.dir, name)
		nc, err := nats.Connect(sc.url, nats.UserCredentialBytes(creds))
		if err != nil {
			continue // so the broker thinks, too
		}
		defer nc.Close()
		a := &actor{Conn: nc}
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.denied = append(a.denied, err.Error())
		})
		for _, user := range []string{"A", "alice", "mallory"} {
			nc.Publish(wire.To(protocol.OpSet, user), []byte(`{"customStatus":"forged"}`))
		}
		nc.Publish(wire.Subjects.Prefix()+".user.=41.set", []byte(`{"customStatus":"forged"}`))
		if denied := a.wasDenied(t); len(denied) < 3 {
			t.Errorf("a JWT of the name %q was refused no more than %q", name, denied)
		}
	}
	for _, s := range wire.Fresh(t, sc.operator.Conn, "A", "alice", "mallory") {
		if s.CustomStatus == "forged" {
			t.Errorf("%s was changed: %+v", s.UserID, s)
		}
	}
}

// signByHand is what somebody with the role's key and a library can do.
func signByHand(t *testing.T, dir, name string) []byte {
	t.Helper()
	key, err := nkeys.ParseDecoratedNKey([]byte(readFile(t, filepath.Join(dir, "keys/role-user.nk"))))
	if err != nil {
		t.Fatal(err)
	}
	account, err := jwt.DecodeAccountClaims(strings.TrimSpace(readFile(t, filepath.Join(dir, "keys/account-APP.jwt"))))
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	token, err := jwt.IssueUserJWT(key, account.Subject, public, name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// Inside one account anybody can write this header: presenced does not read it.
func forgeRequestInfo(t *testing.T, sc *scene) {
	m := nats.NewMsg(wire.To(protocol.OpSet, "mallory"))
	m.Header.Set("Nats-Request-Info", `{"acc":"PRESENCE","svc":"presence","user":"alice","name_tag":"alice"}`)
	m.Data = []byte(`{"userID":"alice","customStatus":"mine"}`)
	reply, err := sc.mallory.RequestMsg(m, wire.Soon)
	if err != nil {
		t.Fatal(err)
	}
	var changed protocol.ChangeReply
	if err := json.Unmarshal(reply.Data, &changed); err != nil || changed.Status.UserID != "mallory" {
		t.Errorf("got %s, want mallory's own status", reply.Data)
	}
}

// Requests and discovery are answered by presenced alone, whatever others
// subscribe to.
func pretend(t *testing.T, sc *scene) {
	fake := func(m *nats.Msg) { m.Respond([]byte(`{"fake":true}`)) }
	attempts := []string{wire.To(protocol.OpStatus, "alice"), wire.Subjects.Get(), wire.Subjects.AnyUser(protocol.OpStatus), "$SRV.PING", "$SRV.PING.presence", ">"}
	for _, subject := range attempts {
		if _, err := sc.mallory.QueueSubscribe(subject, protocol.ServiceName, fake); err != nil {
			t.Fatal(err)
		}
	}
	if denied := sc.mallory.wasDenied(t); len(denied) != len(attempts) {
		t.Errorf("refused were %q, want all of %q", denied, attempts)
	}
	for range 20 {
		if own := wire.Must[protocol.OwnStatusReply](t, sc.alice.Conn, wire.To(protocol.OpStatus, "alice"), `{}`); own.Status.UserID != "alice" {
			t.Errorf("alice's own status: got %+v", own)
		}
		if ping := wire.Must[micro.Ping](t, sc.operator.Conn, "$SRV.PING.presence", ""); ping.Name != protocol.ServiceName {
			t.Errorf("discovery: got %+v", ping)
		}
	}
}

// A gateway's lease is its own, whoever knows the ID of its process.
func poseAsGateway(t *testing.T, sc *scene) {
	gw1, gw2 := sc.connect(t, protocol.RoleGateway, "gw1"), sc.connect(t, protocol.RoleGateway, "gw2")
	of := func(gw, op string) string {
		subject, err := wire.Subjects.Gateway(gw, op)
		if err != nil {
			t.Fatal(err)
		}
		return subject
	}
	wire.Must[json.RawMessage](t, gw1.Conn, of("gw1", protocol.OpOpen), `{"process":"p1","ttlSeconds":3600}`)
	if r := wire.Must[protocol.ApplyReply](t, gw1.Conn, of("gw1", protocol.OpApply), `{"process":"p1","seq":1,"ops":[{"op":"login","userID":"carol","sessionID":"s"}]}`); r.Applied != 1 {
		t.Fatalf("gw1 logs in carol: got %+v", r)
	}
	wire.Refused(t, gw2.Conn, of("gw2", protocol.OpRenew), `{"process":"p1"}`, protocol.ErrLeaseNotFound)
	wire.Refused(t, gw2.Conn, of("gw2", protocol.OpApply), `{"process":"p1","seq":2,"ops":[{"op":"logout","userID":"carol","sessionID":"s"}]}`, protocol.ErrLeaseNotFound)
	wire.Must[json.RawMessage](t, gw2.Conn, of("gw2", protocol.OpClose), `{"process":"p1","logout":true}`) // there is none: no error
	wire.Must[json.RawMessage](t, gw2.Conn, of("gw2", protocol.OpOpen), `{"process":"p1","ttlSeconds":3600}`)
	r := wire.Must[protocol.ApplyReply](t, gw2.Conn, of("gw2", protocol.OpApply), `{"process":"p1","seq":1,"ops":[
		{"op":"logout","userID":"carol","sessionID":"s"},{"op":"lost","userID":"carol","sessionID":"s"},{"op":"idle","userID":"carol","sessionID":"s","idle":true}]}`)
	if r.Applied != 0 || len(r.Failures) != 3 || r.Failures[0].Name != protocol.ErrSessionNotFound.Name {
		t.Errorf("gw2 acts on gw1's session: got %+v", r)
	}
	wire.Must[json.RawMessage](t, gw2.Conn, of("gw2", protocol.OpClose), `{"process":"p1","logout":true}`)
	if s := wire.Fresh(t, sc.operator.Conn, "carol")[0]; s.StatusType != protocol.Online {
		t.Errorf("carol, of gw1: got %+v", s)
	}
}

// status.* lets a user subscribe to status.>: all that is there is public.
func hearMore(t *testing.T, sc *scene) {
	all := wire.Record(t, sc.mallory.Conn, wire.Subjects.Prefix()+".status.>")
	own := sc.alice.Conn
	wire.Must[protocol.ChangeReply](t, own, wire.To(protocol.OpSet, "alice"), `{"availability":"invisible"}`)
	wire.SetText(t, own, "alice", "only for myself")
	wire.SetText(t, own, "alice", "")
	wire.Login(t, own, "alice", protocol.LoginRequest{SessionID: "tablet", Platform: "mac", TTLSeconds: 3600})
	wire.Must[protocol.ChangeReply](t, own, wire.To(protocol.OpSet, "alice"), `{"availability":"available"}`)
	wire.SetText(t, own, "alice", "for all")
	event, _ := wire.Subjects.Event("alice")
	servicetest.Eventually(t, wire.Soon, "the last event", func() bool { return all.Has(event, "for all") })
	for _, m := range all.All() {
		if user, ok := wire.Subjects.ParseEvent(m.Subject); !ok || user == "" {
			t.Errorf("mallory heard %s: %s", m.Subject, m.Data)
		}
		for _, secret := range []string{"only for myself", "invisible", "tablet", "mac"} {
			if strings.Contains(string(m.Data), secret) {
				t.Errorf("mallory heard of %q: %s", secret, m.Data)
			}
		}
	}
}

// Services that share the events of a queue group each get their share, and no
// user takes one.
func joinQueueGroup(t *testing.T, sc *scene) {
	const changes = 30
	got, stolen := make(chan *nats.Msg, 2*changes), make(chan *nats.Msg, 2*changes)
	reader := sc.connect(t, protocol.RoleReader, "reader")
	if _, err := reader.QueueSubscribe(wire.Subjects.AnyEvent(), "workers", func(m *nats.Msg) { got <- m }); err != nil {
		t.Fatal(err)
	}
	reader.Flush()
	event, _ := wire.Subjects.Event("alice")
	for _, subject := range []string{wire.Subjects.AnyEvent(), wire.Subjects.Prefix() + ".status.>", event} {
		if _, err := sc.mallory.QueueSubscribe(subject, "workers", func(m *nats.Msg) { stolen <- m }); err != nil {
			t.Fatal(err)
		}
	}
	sc.mallory.wasDenied(t)
	for i := range changes {
		wire.SetText(t, sc.alice.Conn, "alice", fmt.Sprint("change ", i))
	}
	last := fmt.Sprint("change ", changes-1)
	for seen := 0; ; seen++ {
		select {
		case m := <-got:
			if strings.Contains(string(m.Data), last) {
				if len(stolen) > 0 {
					t.Errorf("mallory took %d events", len(stolen))
				}
				return
			}
		case <-time.After(wire.Soon):
			t.Fatalf("the reader got %d events and not the last one; mallory took %d", seen, len(stolen))
		}
	}
}

// Who binds a session to a connection of somebody else hurts only himself: his
// session ends with that connection, and not with his own.
func claimConnection(t *testing.T, sc *scene) {
	victim := sc.connect(t, protocol.RoleUser, "alice", nats.NoReconnect())
	wire.Login(t, victim.Conn, "alice", protocol.LoginRequest{SessionID: "laptop", Connection: wire.BoundTo(victim.Conn), TTLSeconds: 3600})
	thief := sc.connect(t, protocol.RoleUser, "mallory", nats.NoReconnect())
	wire.Login(t, thief.Conn, "mallory", protocol.LoginRequest{SessionID: "own", Connection: wire.BoundTo(thief.Conn), TTLSeconds: 3600})
	wire.Login(t, thief.Conn, "mallory", protocol.LoginRequest{SessionID: "claimed", Connection: wire.BoundTo(victim.Conn), TTLSeconds: 3600})

	wire.Must[protocol.ChangeReply](t, sc.mallory.Conn, wire.To(protocol.OpLogout, "mallory"), `{"sessionID":"laptop"}`)
	thief.Close()
	sc.awaitLive(t, "mallory", "own", false)
	sc.awaitLive(t, "mallory", "claimed", true)
	sc.awaitLive(t, "alice", "laptop", true)

	victim.Close()
	sc.awaitLive(t, "alice", "laptop", false)
	sc.awaitLive(t, "mallory", "claimed", false)
}

// awaitLive waits until a session of a user is live, or is not any more.
func (sc *scene) awaitLive(t *testing.T, user, session string, live bool) {
	t.Helper()
	servicetest.Eventually(t, pastAmnesty, fmt.Sprintf("%s's session %s to be live: %v", user, session, live), func() bool {
		own := wire.Must[protocol.OwnStatusReply](t, sc.operator.Conn, wire.To(protocol.OpStatus, user), `{}`)
		for _, s := range own.Sessions {
			if s.SessionID == session {
				return s.Live == live
			}
		}
		return !live
	})
}
