package integration

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// How people and processes die, and that nobody else does: each test measures
// from the last sign of life to the event at a watcher and holds it to G5, or
// sees that there is no event at all.

// loginProcess runs "presencectl login" until it says that the user is logged in.
func loginProcess(t *testing.T, url, userID string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(servicetest.Build(t), "presencectl"), append([]string{"-s", url, "login", userID}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, or is stopped
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if strings.Contains(lines.Text(), "logged in") {
			return cmd
		}
	}
	t.Fatal("presencectl login ended before it was logged in")
	return nil
}

// TestG05_ProcessKilled: kill -9 of a client's process, known within the grace
// without any heartbeat: its TTL is two minutes.
func TestG05_ProcessKilled(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--grace", "2s")
	events := wire.Record(t, d.Connect(t), wire.Subjects.AnyEvent())
	cmd := loginProcess(t, d.URL, "alice")
	killed := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	checkLost(t, events.Await(t, wire.Soon, "alice", protocol.Offline), killed, 2*time.Second, 3*time.Second)
}

// TestG05_ChosenGrace: the grace that a session chose counts, not that of the service; and nobody
// gets a longer one than the operator allows.
func TestG05_ChosenGrace(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--grace", "1s", "--max-grace", "4s")
	events := wire.Record(t, d.Connect(t), wire.Subjects.AnyEvent())
	alice, bob := loginProcess(t, d.URL, "alice"), loginProcess(t, d.URL, "bob", "--grace", "4s")
	killed := time.Now()
	for _, cmd := range []*exec.Cmd{alice, bob} {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	checkLost(t, events.Await(t, wire.Soon, "alice", protocol.Offline), killed, time.Second, 2*time.Second)
	checkLost(t, events.Await(t, wire.Soon, "bob", protocol.Offline), killed, 4*time.Second, 5*time.Second)
	carol, err := wire.Ask[protocol.LoginReply](d.Connect(t), wire.To(protocol.OpLogin, "carol"), protocol.LoginRequest{GraceSeconds: 5})
	if err != nil || carol.GraceSeconds != 4 {
		t.Errorf("a grace of 5 s: got %v s, %v, want 4 s, as long as the operator allows", carol.GraceSeconds, err)
	}
}

// TestG05_ProcessStopped: SIGSTOP leaves the connection open and nothing comes:
// the TTL decides. When it goes on it is online again, by itself.
func TestG05_ProcessStopped(t *testing.T) {
	t.Parallel()
	const ttl = 5 * time.Second
	d := servicetest.StartDaemon(t)
	events := wire.Record(t, d.Connect(t), wire.Subjects.AnyEvent())
	cmd := loginProcess(t, d.URL, "alice", "--ttl", ttl.String())
	stopped := time.Now()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Its last renewal may have been a third of the TTL earlier.
	checkLost(t, events.Await(t, wire.Soon, "alice", protocol.Offline), stopped, ttl*2/3-time.Second, ttl+2*time.Second)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, wire.Soon, "alice to be online again", func() bool {
		list := events.Events(t, "alice")
		return list[len(list)-1].StatusType == protocol.Online
	})
}

// TestG05_TwoDevices: one of two devices dies and nobody hears of it; with the
// other the user goes.
func TestG05_TwoDevices(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = grace }))
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	phone, laptop := kit.Connect(t), kit.Connect(t)
	wire.Login(t, phone, "alice", protocol.LoginRequest{SessionID: "phone", Connection: wire.BoundTo(phone)})
	wire.Login(t, laptop, "alice", protocol.LoginRequest{SessionID: "laptop", Connection: wire.BoundTo(laptop)})
	phone.Close()
	servicetest.Eventually(t, wire.Soon, "the phone's session to be lost", func() bool {
		own := wire.Must[protocol.OwnStatusReply](t, watcher, wire.To(protocol.OpStatus, "alice"), `{}`)
		return !own.Sessions[0].Live
	})
	if list := events.Events(t, "alice"); len(list) != 1 {
		t.Errorf("the other device lives, but there was announced %+v", list[1:])
	}
	killed := time.Now()
	laptop.Close()
	checkLost(t, events.Await(t, wire.Soon, "alice", protocol.Offline), killed, grace, grace+time.Second)
}

// TestG06_Flapping: a device that loses its connection a hundred times and is
// back within the grace each time is online all the time.
func TestG06_Flapping(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	nc := kit.Connect(t)
	wire.Login(t, nc, "alice", protocol.LoginRequest{SessionID: "phone", Connection: wire.BoundTo(nc)})
	for i := range 100 {
		nc.Close()
		nc = kit.Connect(t)
		if i%2 == 0 { // a renewal that overtakes the report of the end
			wire.Must[protocol.ChangeReply](t, watcher, wire.To(protocol.OpRenew, "alice"), `{"sessionID":"phone"}`)
		}
		wire.Login(t, nc, "alice", protocol.LoginRequest{SessionID: "phone", Connection: wire.BoundTo(nc)})
	}
	waitForJournal(t, watcher, time.Now().Add(protocol.DefaultGrace+time.Second))
	if list := events.Events(t, "alice"); len(list) != 1 {
		t.Errorf("there was announced %+v", list[1:])
	}
}

// TestG05_WebSocket: a connection over WebSocket ends like any other.
func TestG05_WebSocket(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	kit := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.Grace = grace }))
	events := wire.Record(t, kit.Connect(t), wire.Subjects.AnyEvent())
	ws, err := nats.Connect(kit.WebSocketURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ws.Close)
	wire.Login(t, ws, "alice", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(ws)})
	killed := time.Now()
	ws.Close()
	checkLost(t, events.Await(t, wire.Soon, "alice", protocol.Offline), killed, grace, grace+time.Second)
}

// TestG05_ClosedWhileNobodyListened: connections that close while the service
// is down are found when it is back, long before their TTL.
func TestG05_ClosedWhileNobodyListened(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }))
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	gone, stays := kit.Connect(t), kit.Connect(t)
	wire.Login(t, gone, "gone", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: wire.BoundTo(gone)})
	wire.Login(t, stays, "stays", protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: wire.BoundTo(stays)})
	kit.Instances[0].Stop(t)
	gone.Close()
	kit.AddInstance(t)
	events.Await(t, wire.Soon, "gone", protocol.Offline)
	waitForJournal(t, watcher, time.Now().Add(3*time.Second))
	if list := events.Events(t, "stays"); len(list) != 1 {
		t.Errorf("somebody whose connection is up: there was announced %+v", list[1:])
	}
}

// TestG05_ManyConnections: with more connections than one page of the broker's
// list holds, those that closed are found, and no other is taken for closed.
func TestG05_ManyConnections(t *testing.T) {
	t.Parallel()
	const connections, closed = 300, 30
	kit := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }))
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	var conns []*nats.Conn
	for i := range connections {
		nc := kit.Connect(t)
		wire.Login(t, nc, fmt.Sprint("u", i), protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: wire.BoundTo(nc)})
		conns = append(conns, nc)
	}
	kit.Instances[0].Stop(t)
	for i := range closed {
		conns[i*connections/closed].Close()
	}
	kit.AddInstance(t)
	for i := range closed {
		events.Await(t, wire.Soon, fmt.Sprint("u", i*connections/closed), protocol.Offline)
	}
	waitForJournal(t, watcher, time.Now().Add(3*time.Second))
	for i := range connections {
		if i%(connections/closed) != 0 && len(events.Events(t, fmt.Sprint("u", i))) != 1 {
			t.Errorf("u%d, whose connection is up, was announced again", i)
		}
	}
}

// TestG06_BrokerDown: the broker is down for longer than a TTL and everybody's
// connection with it. Whoever comes back was never gone.
func TestG06_BrokerDown(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }))
	nc := kit.Connect(t)
	events := wire.Record(t, nc, wire.Subjects.AnyEvent())
	c := wire.NewClient(t, kit.Connect(t), client.Options{Timeout: 2 * time.Second})
	users := wire.Names("keeper", 8)
	for i, id := range users {
		wire.LoginClient(t, c, id, client.LoginOptions{TTL: protocol.MinTTL, Unbound: i%2 == 0})
	}
	before := wire.Fresh(t, nc, users...)
	kit.Server.Stop(t)
	time.Sleep(protocol.MinTTL + 2*time.Second) // the outage itself, not a guess
	kit.Server.Restart(t)
	waitForJournal(t, nc, time.Now().Add(protocol.MinTTL+3*time.Second))
	wire.CheckUndisturbed(t, nc, events, before)
}

// TestG05_DefaultPings documents what a half-open client costs by default: the
// broker closes it after 15 to 20 s, and the grace follows.
func TestG05_DefaultPings(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	kit := servicetest.Start(t)
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
	frozen := time.Now()
	checkLost(t, events.Await(t, 2*time.Minute, "alice", protocol.Offline), frozen, 15*time.Second, 26*time.Second)
}
