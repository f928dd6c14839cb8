package integration

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// TestG01_AcknowledgedSurvivesKill kills the daemon twice under many callers.
// Afterwards each user has the text that was acknowledged last, or the one
// that was being set.
func TestG01_AcknowledgedSurvivesKill(t *testing.T) {
	t.Parallel()
	for _, sync := range []string{"always", "interval"} {
		t.Run(sync, func(t *testing.T) {
			d := servicetest.StartDaemon(t, "--sync", sync)
			users := wire.Names("u", 16)
			for round := range 2 {
				acknowledged, attempted := killUnderLoad(t, d, users, round)
				d.Restart(t)
				for _, s := range wire.Fresh(t, d.Connect(t), users...) {
					if s.CustomStatus != acknowledged[s.UserID] && s.CustomStatus != attempted[s.UserID] {
						t.Errorf("%s: got %q, want %q, or %q, which was not acknowledged",
							s.UserID, s.CustomStatus, acknowledged[s.UserID], attempted[s.UserID])
					}
					if s.StatusType != protocol.Online {
						t.Errorf("%s, whose login was acknowledged: got %v", s.UserID, s.StatusType)
					}
				}
			}
		})
	}
}

// killUnderLoad has each user set one text after another, and kills the daemon
// when 500 were acknowledged.
func killUnderLoad(t *testing.T, d *servicetest.Daemon, users []string, round int) (acknowledged, attempted map[string]string) {
	t.Helper()
	var (
		mu      sync.Mutex // guards the maps
		n       atomic.Int64
		enough  = make(chan struct{})
		callers sync.WaitGroup
	)
	acknowledged, attempted = map[string]string{}, map[string]string{}
	conns := map[string]*nats.Conn{}
	for _, id := range users {
		// A request fails with the connection and is never sent again.
		conns[id] = d.Connect(t, nats.NoReconnect())
		wire.Login(t, conns[id], id, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
		acknowledged[id] = wire.SetText(t, conns[id], id, fmt.Sprintf("%s in round %d", id, round)).Status.CustomStatus
	}
	for id, nc := range conns {
		callers.Go(func() {
			for i := 0; ; i++ {
				text := fmt.Sprintf("%s in round %d: %d", id, round, i)
				mu.Lock()
				attempted[id] = text
				mu.Unlock()
				if _, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, id), protocol.SetRequest{CustomStatus: &text}); err != nil {
					return // the daemon is dead
				}
				mu.Lock()
				acknowledged[id] = text
				mu.Unlock()
				if n.Add(1) == 500 {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(wire.Soon):
		t.Errorf("not even 500 sets were acknowledged within %v", wire.Soon)
	}
	d.Kill(t)
	callers.Wait()
	return acknowledged, attempted
}

// TestG02_ReadYourWrites: whoever was told that a change is made, and whoever
// is told by him, sees it.
func TestG02_ReadYourWrites(t *testing.T) {
	checkReadYourWrites(t, servicetest.Start(t))
}

func checkReadYourWrites(t *testing.T, kit *servicetest.Kit) {
	t.Helper()
	var callers errgroup.Group
	for _, id := range wire.Names("u", 4) {
		writer, reader := kit.Connect(t), kit.Connect(t)
		callers.Go(func() error {
			for i := range 50 {
				text := fmt.Sprint("text ", i)
				done, err := wire.Ask[protocol.ChangeReply](writer, wire.To(protocol.OpSet, id), protocol.SetRequest{CustomStatus: &text})
				if err != nil {
					return err
				}
				for _, get := range []protocol.GetRequest{{Fresh: true}, {MinRevision: done.Revision, Epoch: done.Epoch}} {
					get.UserIDList = []string{id}
					reply, err := wire.Ask[protocol.GetReply](reader, wire.Subjects.Get(), get)
					if err != nil {
						return fmt.Errorf("%+v: %w", get, err)
					}
					if !reflect.DeepEqual(reply.SuccessUserList, []protocol.Status{done.Status}) || reply.Revision < done.Revision || reply.Epoch != done.Epoch {
						return fmt.Errorf("%+v: got %+v, want %+v", get, reply, done)
					}
				}
			}
			return nil
		})
	}
	if err := callers.Wait(); err != nil {
		t.Error(err)
	}
}

// TestG02_MinRevisionIsNeverFallenShortOf: what an instance has not reached
// within 2 s it refuses; a minRevision of another epoch means nothing.
func TestG02_MinRevisionIsNeverFallenShortOf(t *testing.T) {
	t.Parallel()
	nc := servicetest.Start(t).Connect(t)
	done := wire.SetText(t, nc, "alice", "hello")
	get := protocol.GetRequest{UserIDList: []string{"alice"}, MinRevision: done.Revision + 1<<40, Epoch: done.Epoch}
	wire.Refused(t, nc, wire.Subjects.Get(), get, protocol.ErrUnavailable)
	for _, epoch := range []string{"", "another"} {
		get.Epoch = epoch
		wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), get)
	}
}

// TestG03_RevisionsRise has several callers change the same users. The replies
// name every change that was made; the events, each once, must be some of them
// with the same content, and name the change before; what a reader gets never
// goes back.
func TestG03_RevisionsRise(t *testing.T) {
	checkRevisionsRise(t, servicetest.Start(t), false)
}

// checkRevisionsRise has the reader ask for at least what it knows, where
// several instances may answer: one of them may be a moment behind the other.
func checkRevisionsRise(t *testing.T, kit *servicetest.Kit, several bool) {
	t.Helper()
	users := wire.Names("u", 3)
	events := wire.Record(t, kit.Connect(t), wire.Subjects.AnyEvent())

	var (
		mu      sync.Mutex
		history = map[string]map[uint64]protocol.Status{} // by user and revision
		group   errgroup.Group
	)
	learn := func(s protocol.Status) error {
		mu.Lock()
		defer mu.Unlock()
		if history[s.UserID] == nil {
			history[s.UserID] = map[uint64]protocol.Status{}
		}
		if known, ok := history[s.UserID][s.Revision]; ok && !reflect.DeepEqual(known, s) {
			return fmt.Errorf("two statuses of one revision: %+v and %+v", known, s)
		}
		history[s.UserID][s.Revision] = s
		return nil
	}
	for caller := range 4 {
		nc := kit.Connect(t)
		group.Go(func() error {
			for i := range 60 {
				for _, id := range users {
					session := fmt.Sprint("session-", caller)
					op, body := protocol.OpSet, fmt.Sprintf(`{"customStatus":"%d of %d"}`, i, caller)
					switch i % 4 {
					case 1:
						op, body = protocol.OpLogin, fmt.Sprintf(`{"sessionID":%q}`, session)
					case 3:
						op, body = protocol.OpLogout, fmt.Sprintf(`{"sessionID":%q}`, session)
					}
					reply, err := wire.Ask[protocol.ChangeReply](nc, wire.To(op, id), body) // a LoginReply has the same fields
					if err != nil {
						return fmt.Errorf("%s: %w", wire.To(op, id), err)
					}
					if reply.Status.Revision > reply.Revision {
						return fmt.Errorf("the status of a reply is younger than the reply: %+v", reply)
					}
					if err := learn(reply.Status); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	stop := make(chan struct{})
	reader, readers := kit.Connect(t), errgroup.Group{}
	readers.Go(func() error {
		last := protocol.GetReply{SuccessUserList: make([]protocol.Status, len(users))}
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			get := protocol.GetRequest{UserIDList: users}
			if several {
				get.MinRevision, get.Epoch = last.Revision, last.Epoch
			}
			reply, err := wire.Ask[protocol.GetReply](reader, wire.Subjects.Get(), get)
			if err != nil {
				return err
			}
			if reply.Revision < last.Revision {
				return fmt.Errorf("get went back from revision %d to %d", last.Revision, reply.Revision)
			}
			for i, s := range reply.SuccessUserList {
				if s.Revision < last.SuccessUserList[i].Revision {
					return fmt.Errorf("get went back from %+v to %+v", last.SuccessUserList[i], s)
				}
			}
			last = reply
		}
	})
	err := group.Wait()
	close(stop)
	if err := errors.Join(err, readers.Wait()); err != nil {
		t.Fatal(err)
	}

	for _, s := range wire.Fresh(t, reader, users...) {
		if err := learn(s); err != nil {
			t.Error(err)
		}
		revisions := slices.Sorted(maps.Keys(history[s.UserID]))
		if revisions[len(revisions)-1] != s.Revision {
			t.Errorf("%s: the last revision is %d, but a reply had %d", s.UserID, s.Revision, revisions[len(revisions)-1])
		}
		servicetest.Eventually(t, wire.Soon, "the last event of "+s.UserID, func() bool {
			return slices.ContainsFunc(events.Events(t, s.UserID), func(e wire.Arrived) bool { return e.Revision == s.Revision })
		})
		for _, e := range events.Events(t, s.UserID) {
			at, ok := slices.BinarySearch(revisions, e.Revision)
			if !ok {
				t.Errorf("an event of a change that no reply told of: %+v", e.Event)
				continue
			}
			if known := history[s.UserID][e.Revision]; !reflect.DeepEqual(e.Status, known) {
				t.Errorf("event: got %+v, but a reply had %+v", e.Status, known)
			}
			before := uint64(0)
			if at > 0 {
				before = revisions[at-1]
			}
			if e.PreviousRevision != before {
				t.Errorf("previousRevision of %d: got %d, want %d", e.Revision, e.PreviousRevision, before)
			}
		}
	}
}

// TestG05_KilledClient: sessions are lost a grace period after their
// connection, however it ended, and not before.
func TestG05_KilledClient(t *testing.T) {
	t.Parallel()
	const grace = 2 * time.Second
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = grace }))
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	since := map[string]time.Time{}
	for name, kill := range map[string]func(net.Conn, *nats.Conn){
		"reset":  func(c net.Conn, _ *nats.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() },
		"closed": func(c net.Conn, _ *nats.Conn) { c.Close() },
		"polite": func(_ net.Conn, nc *nats.Conn) { nc.Close() },
	} {
		var raw tcpDialer
		nc := kit.Connect(t, nats.NoReconnect(), nats.SetCustomDialer(&raw))
		wire.Login(t, nc, name, protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(nc)})
		wire.SetText(t, nc, name, "gone with the session")
		since[name] = time.Now()
		kill(raw.conn, nc)
		// Renewals by another connection do not help.
		wire.Must[protocol.ChangeReply](t, watcher, wire.To(protocol.OpRenew, name), `{"sessionID":"s"}`)
	}
	for name, killed := range since {
		checkLost(t, events.Await(t, wire.Soon, name, protocol.Offline), killed, grace, grace+time.Second)
		wire.Refused(t, watcher, wire.To(protocol.OpRenew, name), `{"sessionID":"s"}`, protocol.ErrSessionNotFound)
	}
}

// TestG05_SilentClient: a session that nothing is heard of is lost after its
// TTL, whether its connection is up or unknown. A late renewal revives it.
func TestG05_SilentClient(t *testing.T) {
	t.Parallel()
	const ttl = 5 * time.Second
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
	began := time.Now()
	wire.Login(t, nc, "bound", protocol.LoginRequest{SessionID: "s", TTLSeconds: 5, Connection: wire.BoundTo(nc)})
	wire.Login(t, nc, "unbound", protocol.LoginRequest{SessionID: "s", TTLSeconds: 5})
	for _, id := range []string{"bound", "unbound"} {
		checkLost(t, events.Await(t, 5*ttl, id, protocol.Offline), began, ttl, ttl+2*time.Second)
		revived := wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpRenew, id), `{"sessionID":"s"}`)
		if revived.Status.StatusType != protocol.Online {
			t.Errorf("%s renewed late: got %+v", id, revived.Status)
		}
	}
}

// TestG05_FrozenClient: a connection that is open and dead is closed by the
// broker's pings; then it is as if it had been closed.
func TestG05_FrozenClient(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t,
		servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }),
		servicetest.WithBroker(func(c *broker.Config) { c.PingInterval, c.PingMax = time.Second, 2 }))
	p := servicetest.StartProxy(t, kit.URL())
	through, err := nats.Connect(p.URL(), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.Close)
	events := wire.Record(t, kit.Connect(t), wire.Subjects.AnyEvent())
	wire.Login(t, through, "alice", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: wire.BoundTo(through)})
	p.Freeze()
	defer p.Thaw()
	events.Await(t, wire.Soon, "alice", protocol.Offline)
}

// checkLost holds the event of a lost user against the time that it may take.
// The upper bound is held loosely: the machine may be busy.
func checkLost(t *testing.T, e wire.Arrived, since time.Time, atLeast, atMost time.Duration) {
	t.Helper()
	took := e.At.Sub(since)
	t.Logf("%s was OFFLINE after %v", e.UserID, took)
	if took < atLeast || took > 3*atMost {
		t.Errorf("%s: OFFLINE after %v, want between %v and %v", e.UserID, took, atLeast, atMost)
	}
	if e.Cause != protocol.CauseLost || e.CustomStatus != "" || e.LastSeenAt == 0 {
		t.Errorf("the event: got %+v", e.Event)
	}
}

// tcpDialer keeps the connection that it made.
type tcpDialer struct{ conn net.Conn }

func (d *tcpDialer) Dial(network, address string) (c net.Conn, err error) {
	d.conn, err = net.Dial(network, address)
	return d.conn, err
}

// TestG08_FencedLate: whatever a replaced session sends late changes nothing,
// the end of its connection included.
func TestG08_FencedLate(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }))
	older, newer := kit.Connect(t), kit.Connect(t)

	wire.Login(t, older, "alice", protocol.LoginRequest{SessionID: "s1", Device: "pixel", Connection: wire.BoundTo(older)})
	second := wire.Login(t, newer, "alice", protocol.LoginRequest{SessionID: "s2", Device: "pixel", Connection: wire.BoundTo(newer)})
	if !slices.Equal(second.Replaced, []string{"s1"}) {
		t.Errorf("replaced: got %q, want s1", second.Replaced)
	}
	// A session that moved to another connection is in the same place.
	wire.Login(t, older, "moved", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(older)})
	wire.Login(t, newer, "moved", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(newer)})
	// And one that is not bound any more.
	wire.Login(t, older, "unbound", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(older)})
	wire.Login(t, newer, "unbound", protocol.LoginRequest{SessionID: "s"})
	// Somebody whom the end of the connection does concern.
	wire.Login(t, older, "witness", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(older)})
	for _, id := range []string{"alice", "moved", "unbound"} {
		wire.SetText(t, newer, id, "still here")
	}

	state := func() []any {
		var list []any
		for _, id := range []string{"alice", "moved", "unbound"} {
			own := wire.Must[protocol.OwnStatusReply](t, newer, wire.To(protocol.OpStatus, id), "{}")
			list = append(list, wire.Fresh(t, newer, id)[0], own.Status, own.Sessions)
		}
		return list
	}
	before := state()
	events := wire.Record(t, newer, wire.Subjects.AnyEvent(), wire.Subjects.AnySelf())

	wire.Refused(t, older, wire.To(protocol.OpRenew, "alice"), `{"sessionID":"s1"}`, protocol.ErrSessionReplaced)
	wire.Refused(t, older, wire.To(protocol.OpRenew, "alice"), `{"sessionID":"s1","idle":true}`, protocol.ErrSessionReplaced)
	wire.Refused(t, older, wire.To(protocol.OpSet, "alice"), `{"sessionID":"s1","customStatus":"late"}`, protocol.ErrSessionReplaced)
	wire.Refused(t, older, wire.To(protocol.OpLogin, "alice"), protocol.LoginRequest{SessionID: "s1", Device: "pixel", Connection: wire.BoundTo(older)}, protocol.ErrSessionReplaced)
	wire.Refused(t, older, wire.To(protocol.OpLogin, "alice"), `{"sessionID":"s1"}`, protocol.ErrSessionReplaced)
	wire.Refused(t, older, wire.To(protocol.OpLogin, "alice"), `{"sessionID":"s1","device":"another"}`, protocol.ErrSessionReplaced)
	// "Logging out what is not there is not an error."
	wire.Must[protocol.ChangeReply](t, older, wire.To(protocol.OpLogout, "alice"), `{"sessionID":"s1"}`)
	wire.Refused(t, older, wire.To(protocol.OpLogin, "alice"), `{"sessionID":"s1"}`, protocol.ErrSessionReplaced)

	older.Close()
	events.Await(t, wire.Soon, "witness", protocol.Offline) // the end of the connection has had its effect
	if after := state(); !reflect.DeepEqual(after, before) {
		t.Errorf("something changed:\nbefore %+v\nafter  %+v", before, after)
	}
	for _, m := range events.All() {
		if !strings.HasSuffix(m.Subject, ".witness") {
			t.Errorf("something was announced on %s: %s", m.Subject, m.Data)
		}
	}
}

// TestG08_OneSessionPerDevice: of many logins of one device at the same time
// one remains, and all others are told that they were replaced.
func TestG08_OneSessionPerDevice(t *testing.T) {
	kit := servicetest.Start(t)
	var callers errgroup.Group
	sessions := wire.Names("s", 16)
	for _, id := range sessions {
		nc := kit.Connect(t)
		callers.Go(func() error {
			_, err := wire.Ask[protocol.LoginReply](nc, wire.To(protocol.OpLogin, "alice"), protocol.LoginRequest{SessionID: id, Device: "pixel"})
			return err
		})
	}
	if err := callers.Wait(); err != nil {
		t.Fatal(err)
	}
	nc := kit.Connect(t)
	own := wire.Must[protocol.OwnStatusReply](t, nc, wire.To(protocol.OpStatus, "alice"), "{}")
	if len(own.Sessions) != 1 {
		t.Fatalf("sessions: got %+v, want one", own.Sessions)
	}
	for _, id := range sessions {
		if id != own.Sessions[0].SessionID {
			wire.Refused(t, nc, wire.To(protocol.OpRenew, "alice"), protocol.RenewRequest{SessionID: id}, protocol.ErrSessionReplaced)
		}
	}
}

// TestG08_BoundToAClosedConnection: a login that arrives after the end of the
// connection that it names is no way to stay ONLINE.
func TestG08_BoundToAClosedConnection(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }))
	nc, closed := kit.Connect(t), kit.Connect(t)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
	connection := wire.BoundTo(closed)
	wire.Login(t, closed, "witness", protocol.LoginRequest{SessionID: "s", Connection: connection})
	closed.Close()
	events.Await(t, wire.Soon, "witness", protocol.Offline) // so the grace is over
	late := wire.Login(t, nc, "late", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: connection})
	if late.Status.StatusType == protocol.Online {
		events.Await(t, wire.Soon, "late", protocol.Offline)
	}
	if got := wire.Fresh(t, nc, "late")[0]; got.StatusType != protocol.Offline {
		t.Errorf("bound to a closed connection: got %v, want OFFLINE", got.StatusType)
	}
}
