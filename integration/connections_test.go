package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// What a session is worth that names a connection, where the broker has no such
// connection, or does not say.

// shortGrace makes a closed connection count soon.
func shortGrace(c *service.Config) { c.Grace = time.Second }

// sessionOf returns the only session of a user, as the owner sees it.
func sessionOf(t *testing.T, nc *nats.Conn, userID string) protocol.Session {
	t.Helper()
	own := wire.Must[protocol.OwnStatusReply](t, nc, wire.To(protocol.OpStatus, userID), `{}`)
	if len(own.Sessions) != 1 {
		t.Fatalf("%s has the sessions %+v, want one", userID, own.Sessions)
	}
	return own.Sessions[0]
}

// TestG05_LoginOnAConnectionNobodyKnows: a login may name a connection that closed so
// long ago that the service has forgotten it, or one that never was. It is answered at
// once, live and bound. Then the named server is asked, and the session ends as if the
// connection had closed now. Who names one that is open stays, of whatever account it is.
func TestG05_LoginOnAConnectionNobodyKnows(t *testing.T) {
	t.Parallel()
	server := servicetest.StartNATS(t)
	closed := server.Connect(t)
	longAgo := wire.BoundTo(closed)
	closed.Close()
	server.StartInstance(t, shortGrace) // it heard of no end of a connection
	watcher, open := server.Connect(t), server.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	elsewhere, err := nats.Connect(server.URLAs(servicetest.BothUser))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(elsewhere.Close)

	never := func(i int) *protocol.Connection {
		return &protocol.Connection{ServerID: longAgo.ServerID, ClientID: uint64(1_000_000 + i)}
	}
	named := map[string]*protocol.Connection{"closed": longAgo, "open": wire.BoundTo(open), "elsewhere": wire.BoundTo(elsewhere)}
	for i := range 30 { // so many that the server is asked for a list
		named[fmt.Sprint("never", i)] = never(i)
	}
	at := map[string]time.Time{}
	for user, c := range named {
		at[user] = time.Now()
		wire.Login(t, watcher, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: c})
	}
	gateway := func(process string, c *protocol.Connection) string {
		wire.Must[protocol.LeaseReply](t, watcher, "presence.v1.gateway."+process+".open", protocol.OpenRequest{Process: process, TTLSeconds: 3600, Connection: c})
		wire.Must[protocol.ApplyReply](t, watcher, "presence.v1.gateway."+process+".apply", fmt.Sprintf(
			`{"process":%q,"seq":1,"ops":[{"op":"login","userID":"of-%s","sessionID":"s"}]}`, process, process))
		return "of-" + process
	}
	user := gateway("gone", never(30))
	at[user], named[user] = time.Now(), never(30)
	user = gateway("there", wire.BoundTo(open))
	named[user] = wire.BoundTo(open)

	for user, c := range named {
		if c != named["open"] && user != "of-there" && user != "elsewhere" {
			checkLost(t, events.Await(t, wire.Soon, user, protocol.Offline), at[user], time.Second/2, 3*time.Second)
		}
	}
	waitForJournal(t, watcher, time.Now().Add(2*time.Second))
	for _, user := range []string{"open", "elsewhere", "of-there"} {
		if list := events.Events(t, user); len(list) != 1 {
			t.Errorf("%s, whose connection is open: there was announced %+v", user, list[1:])
		}
	}
}

// TestG05_AnotherAccountsConnection: at a start and after an outage bound connections
// are compared with the broker's. A client of another account, which uses the service
// by an import, has one too.
func TestG05_AnotherAccountsConnection(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t, servicetest.WithService(shortGrace))
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	elsewhere, err := nats.Connect(kit.URLAs(servicetest.BothUser))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(elsewhere.Close)
	gone := kit.Connect(t)
	wire.Login(t, watcher, "elsewhere", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: wire.BoundTo(elsewhere)})
	wire.Login(t, watcher, "gone", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: wire.BoundTo(gone)})
	kit.Instances[0].Stop(t)
	gone.Close()
	kit.AddInstance(t)
	events.Await(t, wire.Soon, "gone", protocol.Offline) // so the comparison is done
	waitForJournal(t, watcher, time.Now().Add(2*time.Second))
	if list := events.Events(t, "elsewhere"); len(list) != 1 {
		t.Errorf("there was announced %+v", list[1:])
	}
}

// TestG05_NobodyAnswersForAConnection: a server that does not answer, of another
// cluster say, reports nothing either. Who names it is told the TTL of an unbound
// session, and is unbound.
func TestG05_NobodyAnswersForAConnection(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	elsewhere := &protocol.Connection{ServerID: "NOWHERE", ClientID: 7}
	for _, c := range []struct {
		user string
		on   *protocol.Connection
		ttl  int64
		want time.Duration
	}{
		{"default", elsewhere, 0, protocol.DefaultTTL},
		{"chosen", elsewhere, 300, 300 * time.Second},
		{"here", wire.BoundTo(nc), 0, protocol.DefaultBoundTTL},
	} {
		r := wire.Login(t, nc, c.user, protocol.LoginRequest{SessionID: "s", TTLSeconds: c.ttl, Connection: c.on})
		if got := time.Duration(r.TTLSeconds) * time.Second; got != c.want || r.Status.StatusType != protocol.Online {
			t.Errorf("%s: got the TTL %v and %v, want %v and ONLINE", c.user, got, r.Status.StatusType, c.want)
		}
	}
	for _, user := range []string{"default", "chosen"} {
		servicetest.Eventually(t, wire.Soon, user+" to be unbound", func() bool { return !sessionOf(t, nc, user).Bound })
		if s := sessionOf(t, nc, user); !s.Live {
			t.Errorf("%s: got %+v, want it live", user, s)
		}
	}
	if s := sessionOf(t, nc, "here"); !s.Bound || !s.Live {
		t.Errorf("who names a server that answers: got %+v, want it bound", s)
	}
}

// TestG05_NoSystemAccount: nobody tells the service of connections, so nothing is
// bound to one, and the default TTL is that of unbound sessions.
func TestG05_NoSystemAccount(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.System = nil }))
	nc := kit.Connect(t)
	r := wire.Login(t, nc, "alice", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(nc)})
	if got := time.Duration(r.TTLSeconds) * time.Second; got != protocol.DefaultTTL {
		t.Errorf("got the TTL %v, want %v", got, protocol.DefaultTTL)
	}
	if s := sessionOf(t, nc, "alice"); s.Bound || !s.Live {
		t.Errorf("got %+v, want it live and not bound", s)
	}
}

// TestG05_LameDuck: a NATS server in lame duck mode reports closed connections no
// more. A client that is killed there is OFFLINE after half its TTL. Who renews every
// third of it is ONLINE all the time.
func TestG05_LameDuck(t *testing.T) {
	t.Parallel()
	const ttl = 12 * time.Second
	stays, duck := natsPair(t, `lame_duck_grace_period: "90s", lame_duck_duration: "100s"`)
	journal := servicetest.StartNATS(t) // JetStream ends with lame duck mode
	for range 2 {
		stays.StartInstance(t, func(c *service.Config) { c.Journal = journal.ConnectAs(t, broker.Journal) })
	}
	watcher := stays.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	renews, killed := duck.Connect(t), duck.Connect(t, nats.NoReconnect())
	at := time.Now()
	for user, nc := range map[string]*nats.Conn{"renews": renews, "killed": killed} {
		wire.Login(t, nc, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: int64(ttl.Seconds()), Connection: wire.BoundTo(nc)})
	}
	duck.LameDuck()
	servicetest.Eventually(t, wire.Soon, "the lease to be shorter", func() bool {
		r := wire.Must[protocol.ExplainReply](t, watcher, wire.Subjects.Explain(), `{"userID":"killed"}`)
		return strings.Contains(strings.Join(r.Why, "\n"), "shuts down")
	})
	before := time.Now()
	killed.Close()
	renewed, offline := at, wire.Arrived{}
	servicetest.Eventually(t, wire.Soon, "killed to be OFFLINE", func() bool {
		if time.Since(renewed) >= ttl/3 {
			renewed = time.Now()
			wire.Must[protocol.ChangeReply](t, renews, wire.To(protocol.OpRenew, "renews"), `{"sessionID":"s"}`)
		}
		list := events.Events(t, "killed")
		if len(list) == 0 { // the login's is on its way yet
			return false
		}
		offline = list[len(list)-1]
		return offline.StatusType == protocol.Offline
	})
	if took := offline.At.Sub(before); took > ttl-time.Second {
		t.Errorf("OFFLINE after %v, want half the TTL of %v and 2 s", took, ttl)
	} else {
		t.Logf("OFFLINE after %v", took)
	}
	if list := events.Events(t, "renews"); len(list) != 1 {
		t.Errorf("who renews: there was announced %+v", list[1:])
	}
	// Who logs in there now is told so short a TTL that half of it is no surprise.
	if r := wire.Login(t, renews, "late", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(renews)}); r.TTLSeconds != int64(protocol.DefaultTTL.Seconds()) {
		t.Errorf("a login there: got the TTL %d s, want %v", r.TTLSeconds, protocol.DefaultTTL)
	}
}

// natsPair starts two NATS servers that are a cluster, without JetStream. more is
// configuration.
func natsPair(t *testing.T, more string) (a, b *servicetest.Server) {
	t.Helper()
	listen := freePorts(t, 2)
	start := func(mine, other string) *servicetest.Server {
		return servicetest.StartNATS(t, fmt.Sprintf("server_name: %q\njetstream: disabled\n%s\ncluster { name: pair, listen: %q, routes: [ \"nats://%s\" ], no_advertise: true }",
			mine, more, mine, other))
	}
	return start(listen[0], listen[1]), start(listen[1], listen[0])
}

// freePorts returns n addresses on loopback that are free at the moment.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, so that all differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
