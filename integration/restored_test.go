package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/broker"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestG03_RestoredBackup: the data directory is put back whole to what it was, head included, and
// revisions are given a second time. That is another epoch, and whoever was connected is right
// again at once: a watcher is told what changed, and nothing of who did not.
func TestG03_RestoredBackup(t *testing.T) {
	t.Parallel()
	d := servicetest.StartDaemon(t, "--user-changes", "-1")
	restoreBackup(t, d, d.DataDir, true)
}

// TestG03_RestoredElsewhere: the same with a store that is not presenced's own. It goes on in the
// old epoch, and nobody but the client can notice.
func TestG03_RestoredElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kit := servicetest.Start(t, servicetest.WithBroker(func(c *broker.Config) { c.DataDir = dir }))
	restoreBackup(t, kit, dir, false)
}

// restorable is a service whose data can be put back while it is stopped.
type restorable interface {
	Connect(testing.TB, ...nats.Option) *nats.Conn
	Stop(testing.TB)
	Restart(testing.TB)
}

func restoreBackup(t *testing.T, d restorable, dir string, newEpoch bool) {
	const within = 5 * time.Second
	nc := d.Connect(t)
	for _, user := range []string{"bob", "dave"} {
		login(t, nc, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
	}
	setText(t, nc, "bob", "before the backup")
	d.Stop(t)
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	d.Restart(t)
	c, err := client.New(d.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	told := listen(c)
	if _, err := c.SubscribeUserStatus(t.Context(), []string{"bob", "dave"}); err != nil {
		t.Fatal(err)
	}
	session, err := c.Login(t.Context(), "alice", client.LoginOptions{SessionID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := c.OpenGateway(t.Context(), "gw", client.GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"carol", "erin"} { // two requests
		if err := gateway.Login(t.Context(), user, "g", client.GatewayLogin{}); err != nil {
			t.Fatal(err)
		}
	}
	servicetest.Eventually(t, soon, "the client to reconnect", nc.IsConnected)
	for i := range 50 {
		setText(t, nc, "bob", fmt.Sprint("after the backup ", i))
	}
	if _, err := session.SetSelfStatus(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	before, err := c.GetUserStatus(t.Context(), []string{"bob"})
	if err != nil {
		t.Fatal(err)
	}
	told.await(t, "bob", "after the backup 49")
	toldOfDave := told.times("dave")
	d.Stop(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}

	d.Restart(t)
	ready := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*within)
	defer cancel()
	after, err := c.GetUserStatus(ctx, []string{"bob"})
	if err != nil || newEpoch == (after.Epoch == before.Epoch) || after.Revision >= before.Revision || after.SuccessUserList[0].CustomStatus != "before the backup" {
		t.Errorf("after the restore: got %+v, %v, want what was, in another epoch: %v", after, err, newEpoch)
	}
	servicetest.Eventually(t, 10*within, "the client to be live again", func() bool { return c.State().Live })
	told.await(t, "bob", "before the backup")
	for _, user := range []string{"alice", "carol", "erin"} {
		servicetest.Eventually(t, 10*within, user+" to be ONLINE again", func() bool {
			r, err := c.GetUserStatus(ctx, []string{user}, client.Fresh())
			return err == nil && r.SuccessUserList[0].StatusType == protocol.Online
		})
	}
	if _, err := session.SetSelfStatus(ctx, "mine again"); err != nil {
		t.Errorf("setting a text in the session: %v", err)
	}
	t.Logf("all was right %v after the restored service was ready", time.Since(ready).Round(time.Millisecond))
	servicetest.Eventually(t, soon, "the client to reconnect", nc.IsConnected)
	setText(t, nc, "bob", "goes on")
	told.await(t, "bob", "goes on")
	if again := told.times("dave"); again != toldOfDave {
		t.Errorf("dave, who did not change: told %d times, %d before the restore", again, toldOfDave)
	}
}

// listener is what a client's callback was told.
type listener struct {
	mu   sync.Mutex
	told []protocol.Status
}

func listen(c *client.Client) *listener {
	l := &listener{}
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, list...)
	})
	return l
}

// await waits until the last that was told of a user is a text.
func (l *listener) await(t *testing.T, user, text string) {
	t.Helper()
	servicetest.Eventually(t, 10*soon, fmt.Sprintf("to be told of %q", text), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range slices.Backward(l.told) {
			if s.UserID == user {
				return s.CustomStatus == text
			}
		}
		return false
	})
}

func (l *listener) times(user string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.told {
		if s.UserID == user {
			n++
		}
	}
	return n
}
