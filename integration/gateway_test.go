package integration

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// gatewayEnv, with the URL of a server, makes this program a gateway with
// gatewayUsers users, so that one can be killed.
const (
	gatewayEnv   = "PRESENCE_TEST_GATEWAY"
	gatewayUsers = 10_000
)

func gatewayUser(i int) string { return fmt.Sprint("user", i) }

// runGateway is the gateway: it says when everybody is logged in and waits to
// be killed.
func runGateway(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	c, err := client.New(nc, client.Options{})
	if err != nil {
		return err
	}
	g, err := c.OpenGateway(context.Background(), "gw1", client.GatewayOptions{})
	if err != nil {
		return err
	}
	if err := loginAll(g); err != nil {
		return err
	}
	fmt.Println("everybody is logged in")
	<-g.Done()
	return g.Err()
}

// loginAll logs in everybody, from many goroutines as a gateway would.
func loginAll(g *client.Gateway) error {
	const callers = 100
	errs := make(chan error, callers)
	for c := range callers {
		go func() {
			for i := c; i < gatewayUsers; i += callers {
				if err := g.Login(context.Background(), gatewayUser(i), "s", client.GatewayLogin{Platform: "web"}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func startGateway(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), gatewayEnv+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended
		_ = cmd.Wait()
	})
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the gateway ended before everybody was logged in")
	}
	return cmd
}

// offlineTold keeps when each user was told to be OFFLINE.
type offlineTold struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (o *offlineTold) watch(t *testing.T, nc *nats.Conn) {
	t.Helper()
	o.at = map[string]time.Time{}
	sub, err := nc.Subscribe(wire.Subjects.AnyEvent(), func(m *nats.Msg) {
		now := time.Now()
		var e protocol.Event
		if protocol.Unmarshal(m.Data, &e) == nil && e.StatusType == protocol.Offline {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.at[e.UserID] = now
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (o *offlineTold) users() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.at)
}

// TestG05_GatewayProcessKilled: kill -9 of a gateway's process: all of its users
// are OFFLINE a grace later, and everybody is told.
func TestG05_GatewayProcessKilled(t *testing.T) {
	t.Parallel()
	const grace = 2 * time.Second
	d := servicetest.StartDaemon(t, "--grace", grace.String())
	nc := d.Connect(t)
	var told offlineTold
	cmd := startGateway(t, d.URL)
	told.watch(t, nc)
	killed := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, 2*wire.Soon, "everybody to be told of", func() bool { return told.users() == gatewayUsers })
	first, last := killed.Add(time.Hour), killed
	for _, at := range told.at {
		if at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	t.Logf("the first after %v, the last %v later", first.Sub(killed), last.Sub(first))
	if took := first.Sub(killed); took < grace || took > 3*(grace+time.Second) {
		t.Errorf("OFFLINE after %v, want %v to %v", took, grace, grace+time.Second)
	}
}

// TestG06_GatewayStorm: a gateway's process is killed and another run of it is
// back with everybody within the grace: nobody hears of it.
func TestG06_GatewayStorm(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--grace", "10s")
	nc := d.Connect(t)
	cmd := startGateway(t, d.URL)
	before := wire.Fresh(t, nc, gatewayUser(0), gatewayUser(gatewayUsers-1))
	var told offlineTold
	told.watch(t, nc)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	startGateway(t, d.URL)
	waitForJournal(t, nc, time.Now().Add(12*time.Second))
	if n := told.users(); n != 0 {
		t.Errorf("%d users were told to be OFFLINE", n)
	}
	for i, now := range wire.Fresh(t, nc, wire.UserIDs(before)...) {
		if now.Revision != before[i].Revision {
			t.Errorf("%s: got %+v, want %+v as before", now.UserID, now, before[i])
		}
	}
}

// TestG08_GatewayFencedLate: what an earlier run of a gateway sends late, its
// disconnect included, changes nothing for those whom the later run logged in.
func TestG08_GatewayFencedLate(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Grace = time.Second }))
	watcher := kit.Connect(t)
	events := wire.Record(t, watcher, wire.Subjects.AnyEvent())
	old, young := kit.Connect(t), kit.Connect(t)
	gateway := func(op string) string {
		subject, err := wire.Subjects.Gateway("gw1", op)
		if err != nil {
			t.Fatal(err)
		}
		return subject
	}
	logIn := []protocol.Op{{Op: protocol.OpKindLogin, UserID: "alice", SessionID: "s"}}
	for _, run := range []struct {
		process string
		nc      *nats.Conn
	}{{"old", old}, {"young", young}} {
		wire.Must[protocol.LeaseReply](t, run.nc, gateway(protocol.OpOpen), protocol.OpenRequest{Process: run.process, Connection: wire.BoundTo(run.nc)})
		wire.Must[protocol.ApplyReply](t, run.nc, gateway(protocol.OpApply), protocol.ApplyRequest{Process: run.process, Seq: 1, Ops: logIn})
	}

	late := wire.Must[protocol.ApplyReply](t, old, gateway(protocol.OpApply), protocol.ApplyRequest{Process: "old", Seq: 2, Ops: []protocol.Op{
		{Op: protocol.OpKindLogout, UserID: "alice", SessionID: "s"}, {Op: protocol.OpKindLost, UserID: "alice", SessionID: "s"}}})
	if late.Applied != 0 {
		t.Errorf("the earlier run ended a session of the later one: %+v", late)
	}
	old.Close()
	waitForJournal(t, watcher, time.Now().Add(3*time.Second))
	wire.Refused(t, watcher, gateway(protocol.OpRenew), protocol.LeaseRequest{Process: "old"}, protocol.ErrLeaseNotFound)
	wire.Must[protocol.LeaseReply](t, watcher, gateway(protocol.OpClose), protocol.CloseRequest{Process: "old", Logout: true})
	if list := events.Events(t, "alice"); len(list) != 1 {
		t.Errorf("there was announced %+v", list[1:])
	}
}
