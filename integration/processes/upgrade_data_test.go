package processes

import (
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestG01_EarlierData: a data directory that an earlier version wrote, snapshots included, is
// served by this one as it was: all that was acknowledged, and nothing else. Nobody goes OFFLINE.
// So it is when the newest format has come into use, and after one more start. The earlier
// version does not start then, and changes nothing.
func TestG01_EarlierData(t *testing.T) {
	t.Parallel()
	earlier := earlierPresenced(t)
	for name, end := range map[string]func(*servicetest.Daemon, testing.TB){
		"stopped": (*servicetest.Daemon).Stop,
		"killed":  (*servicetest.Daemon).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := writeEarlier(t, earlier)
			setForAMoment(t, e.nc)
			end(e.Daemon, t)
			e.load.stop(t)

			e.restart(t, "")
			e.same(t, "after the upgrade")
			e.verify(t)
			awaitMomentOver(t, e.nc)
			awaitFormat(t, e.nc, e.Daemon)
			newest := newestFormat(t, e.nc)
			e.renewSnapshots(t)
			e.same(t, "in the newest format")
			e.verify(t)
			e.Stop(t)
			if newest > e.format {
				refusesToStart(t, earlier, "--data", e.DataDir, "--listen", "127.0.0.1:0")
			}
			e.restart(t, "")
			e.same(t, "after another start")
			e.verify(t)
			e.goOn(t)
		})
	}
}

// TestG01_EarlierData_Downgrade: as long as the newer format is not in use, the earlier version
// goes on with what this one has written, a snapshot included. And this one goes on with that.
func TestG01_EarlierData_Downgrade(t *testing.T) {
	t.Parallel()
	earlier := earlierPresenced(t)
	e := writeEarlier(t, earlier)
	e.load.end()
	e.Stop(t)
	e.restart(t, "")
	e.same(t, "after the upgrade")
	e.renewSnapshots(t)
	if format := figure(t, e.Daemon, "presence_journal_format"); format != e.format {
		t.Fatalf("format %d is in use already: it should take a minute", format)
	}
	e.Stop(t)
	e.restart(t, earlier)
	e.same(t, "after the downgrade")
	e.goOn(t)
	e.Stop(t)
	e.restart(t, "")
	e.verify(t)
	if s := wire.Fresh(t, e.nc, "text")[0]; s.CustomStatus != "goes on" {
		t.Errorf("after another upgrade: got %+v, want what the earlier version acknowledged", s)
	}
}

// earlierData is a presenced on what an earlier version wrote.
type earlierData struct {
	*servicetest.Daemon
	nc     *nats.Conn
	format int // the newest that the earlier version knows
	load   *dataLoad
	before map[string]string // what was served
}

// writeEarlier has an earlier version write a data directory, with two snapshots, and leaves it
// under load.
func writeEarlier(t *testing.T, program string) *earlierData {
	t.Helper()
	e := &earlierData{Daemon: servicetest.StartProgram(t, program, nil, "--http", "127.0.0.1:0", "--snapshot-entries", "100", "--journal-keep", "1s")}
	e.nc = e.Connect(t)
	e.format = newestFormat(t, e.nc)
	fillEarlier(t, e.Daemon, e.nc)
	e.load = startDataLoad(t, e.Daemon)
	servicetest.Eventually(t, 3*wire.Soon, "two snapshots", func() bool { return e.load.snapshots(t, e.Daemon) >= 2 })
	e.before = served(t, e.nc, e.URL)
	return e
}

// restart starts a program on the data; empty: that of this tree.
func (e *earlierData) restart(t *testing.T, program string) {
	t.Helper()
	e.Program = program
	e.Restart(t)
	servicetest.Eventually(t, wire.Soon, "the client to reconnect", e.nc.IsConnected)
}

// same fails where something else is served than by the earlier version.
func (e *earlierData) same(t *testing.T, when string) {
	t.Helper()
	compareServed(t, when, served(t, e.nc, e.URL), e.before)
	e.load.check(t, e.nc)
}

func (e *earlierData) verify(t *testing.T) {
	t.Helper()
	t.Log(presencectl(t, e.URL, "verify", "--data", e.DataDir))
}

// renewSnapshots waits until this version has replaced both snapshots.
func (e *earlierData) renewSnapshots(t *testing.T) {
	t.Helper()
	for range 2 {
		before := figure(t, e.Daemon, "presence_snapshot_position")
		eraseForSnapshots(t, e.nc, "soon-erased")
		servicetest.Eventually(t, 3*wire.Soon, "a snapshot", func() bool { return figure(t, e.Daemon, "presence_snapshot_position") != before })
	}
}

// hour is a TTL, and how long things are set for that do not end in the test.
const hour = 3600

// fillEarlier brings users into all states that there are.
func fillEarlier(t *testing.T, d *servicetest.Daemon, nc *nats.Conn) {
	t.Helper()
	login := func(user string, request protocol.LoginRequest) {
		t.Helper()
		if request.TTLSeconds = hour; request.SessionID == "" {
			request.SessionID = "s"
		}
		wire.Login(t, nc, user, request)
	}
	ask := func(op, user, request string) {
		t.Helper()
		wire.Must[map[string]any](t, nc, wire.To(op, user), request)
	}
	for _, user := range []string{
		"text", "text-for-an-hour", "away", "busy-for-an-hour", "invisible", "invisible-for-an-hour", "out", "everywhere-out", "kicked", "erased",
		"soon-text", "soon-busy", "ü ber/alles.*>", "名前",
	} {
		login(user, protocol.LoginRequest{Platform: "web"})
	}
	login("phone-and-laptop", protocol.LoginRequest{SessionID: "phone", Device: "phone", Platform: "ios", Idle: true})
	login("phone-and-laptop", protocol.LoginRequest{SessionID: "laptop", Device: "laptop", Platform: "desktop"})
	login("replaced", protocol.LoginRequest{SessionID: "s1", Device: "d"})
	login("replaced", protocol.LoginRequest{SessionID: "s2", Device: "d"})

	ask(protocol.OpSet, "text", `{"customStatus":"a text that stays ✓"}`)
	ask(protocol.OpSet, "text-only", `{"customStatus":"never logged in"}`)
	ask(protocol.OpSet, "text-for-an-hour", `{"customStatus":"for an hour","expiresInSeconds":3600}`)
	ask(protocol.OpSet, "away", `{"availability":"away"}`)
	ask(protocol.OpSet, "busy-for-an-hour", `{"availability":"dnd"}`)
	ask(protocol.OpSet, "busy-for-an-hour", `{"availability":"busy","availabilityExpiresInSeconds":3600}`)
	ask(protocol.OpSet, "invisible", `{"availability":"invisible","customStatus":"unseen"}`)
	ask(protocol.OpSet, "invisible-for-an-hour", `{"availability":"invisible","availabilityExpiresInSeconds":3600}`)
	ask(protocol.OpLogout, "out", `{"sessionID":"s"}`)
	ask(protocol.OpLogout, "everywhere-out", `{"all":true}`)
	wire.Must[protocol.KickReply](t, nc, wire.Subjects.Kick(), `{"userID":"kicked"}`)
	ask(protocol.OpContacts, "text", `{"replace":["away","名前","nobody"]}`)
	ask(protocol.OpContacts, "away", `{"add":["text","out"]}`)
	ask(protocol.OpContacts, "away", `{"remove":["out"]}`)
	ask(protocol.OpContacts, "lost", `{"add":["text"]}`)
	ask(protocol.OpContacts, "lost", `{"replace":[]}`)
	ask(protocol.OpContacts, "erased", `{"add":["text"]}`)
	wire.Must[protocol.KickReply](t, nc, wire.Subjects.Erase(), `{"userID":"erased"}`)

	open, _ := wire.Subjects.Gateway("gw", protocol.OpOpen)
	wire.Must[protocol.LeaseReply](t, nc, open, `{"process":"p","ttlSeconds":3600}`)
	wire.Must[protocol.ApplyReply](t, nc, applySubject, firstApply())

	lost := d.Connect(t)
	wire.Login(t, lost, "lost", protocol.LoginRequest{SessionID: "s", Connection: wire.BoundTo(lost)})
	lost.Close()
	servicetest.Eventually(t, wire.Soon, "lost to become OFFLINE", func() bool { return wire.Fresh(t, nc, "lost")[0].StatusType == protocol.Offline })
	c := wire.NewClient(t, d.Connect(t), client.Options{})
	wire.LoginClient(t, c, "by-client", client.LoginOptions{SessionID: "s"})
}

// applySubject is where a gateway makes changes.
var applySubject, _ = wire.Subjects.Gateway("gw", protocol.OpApply)

// firstApply is a gateway's first request.
func firstApply() protocol.ApplyRequest {
	request := protocol.ApplyRequest{Process: "p", Seq: 1}
	for i, user := range wire.Names("by-gateway", 200) {
		request.Ops = append(request.Ops, protocol.Op{Op: protocol.OpKindLogin, UserID: user, SessionID: "s", Device: "d", Platform: "web", Idle: i%3 == 0})
	}
	text, dnd := "by a gateway", protocol.DND
	request.Ops = append(request.Ops,
		protocol.Op{Op: protocol.OpKindSet, UserID: "by-gateway1", CustomStatus: &text},
		protocol.Op{Op: protocol.OpKindSet, UserID: "by-gateway2", Availability: &dnd, AvailabilityExpiresInSeconds: protocol.Ptr[int64](hour)},
		protocol.Op{Op: protocol.OpKindLost, UserID: "by-gateway3", SessionID: "s"},
		protocol.Op{Op: protocol.OpKindLogout, UserID: "by-gateway4", SessionID: "s"})
	return request
}

// goOn changes something of what was written.
func (e *earlierData) goOn(t *testing.T) {
	t.Helper()
	nc := e.nc
	if again := wire.Must[protocol.ApplyReply](t, nc, applySubject, firstApply()); again.Applied != len(firstApply().Ops) {
		t.Errorf("the gateway's first request again: got %+v", again)
	}
	if s := wire.Fresh(t, nc, "by-gateway4")[0]; s.StatusType != protocol.Unlogined {
		t.Errorf("the gateway's first request again: got %+v, want nothing done", s)
	}
	text := "goes on"
	next := protocol.ApplyRequest{Process: "p", Seq: 2, Ops: []protocol.Op{{Op: protocol.OpKindSet, UserID: "by-gateway1", CustomStatus: &text}}}
	if reply := wire.Must[protocol.ApplyReply](t, nc, applySubject, next); reply.Applied != 1 {
		t.Errorf("the gateway's next request: got %+v", reply)
	}
	wire.SetText(t, nc, "text", "goes on")
	wire.Must[protocol.ContactsReply](t, nc, wire.To(protocol.OpContacts, "text"), `{"remove":["nobody"]}`)
	for _, user := range []string{"text", "by-gateway1"} {
		if s := wire.Fresh(t, nc, user)[0]; s.CustomStatus != text || s.StatusType != protocol.Online {
			t.Errorf("got %+v, want %q", s, text)
		}
	}
}

// momentLasts is for how long setForAMoment sets something: the upgrade falls into it.
const momentLasts = 6

// setForAMoment sets what ends while presenced is stopped, or soon after it has started.
func setForAMoment(t *testing.T, nc *nats.Conn) {
	t.Helper()
	text, busy, seconds := "for a moment", protocol.Busy, protocol.Ptr[int64](momentLasts)
	wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, "soon-text"), protocol.SetRequest{CustomStatus: &text, ExpiresInSeconds: seconds})
	wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, "soon-busy"), protocol.SetRequest{Availability: &busy, AvailabilityExpiresInSeconds: seconds})
}

// awaitMomentOver waits until what setForAMoment set has ended.
func awaitMomentOver(t *testing.T, nc *nats.Conn) {
	t.Helper()
	servicetest.Eventually(t, momentLasts*time.Second+wire.Soon, "what was set for a moment to end", func() bool {
		list := wire.Fresh(t, nc, "soon-text", "soon-busy")
		return list[0].CustomStatus == "" && list[1].Availability == ""
	})
}
