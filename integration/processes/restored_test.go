package processes

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/integration/internal/wire"
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
		wire.Login(t, nc, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600})
	}
	wire.SetText(t, nc, "bob", "before the backup")
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
	told := wire.Listen(c)
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
	servicetest.Eventually(t, wire.Soon, "the client to reconnect", nc.IsConnected)
	for i := range 50 {
		wire.SetText(t, nc, "bob", fmt.Sprint("after the backup ", i))
	}
	if _, err := session.SetSelfStatus(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	before, err := c.GetUserStatus(t.Context(), []string{"bob"})
	if err != nil {
		t.Fatal(err)
	}
	awaitText(t, told, "bob", "after the backup 49")
	toldOfDave := timesTold(told, "dave")
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
	awaitText(t, told, "bob", "before the backup")
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
	servicetest.Eventually(t, wire.Soon, "the client to reconnect", nc.IsConnected)
	wire.SetText(t, nc, "bob", "goes on")
	awaitText(t, told, "bob", "goes on")
	if again := timesTold(told, "dave"); again != toldOfDave {
		t.Errorf("dave, who did not change: told %d times, %d before the restore", again, toldOfDave)
	}
}

// awaitText waits until the last that a client was told of a user is a text.
func awaitText(t *testing.T, told *wire.Teller, user, text string) {
	t.Helper()
	servicetest.Eventually(t, 10*wire.Soon, fmt.Sprintf("to be told of %q", text), func() bool { return told.Last()[user].CustomStatus == text })
}

// timesTold is how often a client was told of a user.
func timesTold(told *wire.Teller, user string) (n int) {
	for _, s := range told.All() {
		if s.UserID == user {
			n++
		}
	}
	return n
}
