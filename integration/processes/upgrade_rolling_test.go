package processes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// TestG07_RollingUpgrade: three instances of an earlier version are replaced by this one, each in
// turn, under load. One of them goes back once, while the newer format is not in use yet. No
// request fails, though none is made twice. Nothing is announced but what the load changes and
// what falls due, and all of that is (G4). Nobody goes OFFLINE. Watchers are never blind (G11).
// In the end the newest format of the journal is in use, and the instances agree (G14).
func TestG07_RollingUpgrade(t *testing.T) {
	t.Parallel()
	u := startUpgrade(t)
	u.replace(t, 0, "")
	u.replace(t, 1, "")
	u.renewSnapshot(t, 0, 1)
	u.replace(t, 0, u.earlier)
	u.replace(t, 2, "")
	if format := figure(t, u.daemons[1], "presence_journal_format"); format != u.earlierFormat {
		t.Errorf("format %d is in use while an instance knows up to %d", format, u.earlierFormat)
	}
	u.replace(t, 0, "")
	awaitFormat(t, u.nc, u.daemons...)
	u.renewSnapshot(t, 0, 1, 2)
	u.replace(t, 1, "") // from a snapshot of the newest format
	u.load.stop(t)
	u.check(t)
}

// paceOfUser is the pause after each change of a user: one instance alone takes as many.
const paceOfUser = 400 * time.Millisecond

// upgradeTTL is much shorter than the upgrade, and much longer than a renewal takes on a busy
// machine.
const upgradeTTL = 15 * time.Second

// enoughRounds of the load are about a second of it.
const enoughRounds = 150

// upgrade is an installation that is upgraded, and what happens to it.
type upgrade struct {
	*trio
	earlier       string // the program before
	earlierFormat int    // the newest that it knows
	nc            *nats.Conn
	load          *steadyLoad
	bursts        int // of the load so far
	events        *wire.Recorder
	watchers      []*upgradeWatcher

	busy, expiring []string          // users whose changes are noted one by one
	byGateway      []string          // users whose changes a Gateway makes
	before         []protocol.Status // of those whom nothing happens to
}

func startUpgrade(t *testing.T) *upgrade {
	t.Helper()
	u := &upgrade{earlier: earlierPresenced(t), load: startSteadyLoad()}
	u.trio = &trio{Cluster: servicetest.StartCluster(t, 3)}
	for i := range 3 {
		u.daemons = append(u.daemons, u.StartProgram(t, u.earlier, "--http", "127.0.0.1:0", "--user-changes", "20", "--snapshot-entries", "300"))
		u.awaitReady(t, i)
	}
	u.nc = u.connect(t)
	u.earlierFormat = newestFormat(t, u.nc)
	t.Cleanup(u.load.cancel)
	u.begin(t)
	u.goOn(t)
	servicetest.Eventually(t, 3*wire.Soon, "a snapshot", func() bool { return figure(t, u.daemons[0], "presence_snapshot_position") > 0 })
	return u
}

// connect connects as a client, and waits until the answers of every instance reach it. An
// answer of 9153e71 may leave by another server than its request came by. If that server does
// not know the inbox of a new client yet, the answer is lost (docs/nats.md).
func (u *upgrade) connect(t *testing.T) *nats.Conn {
	t.Helper()
	nc := u.Connect(t)
	servicetest.Eventually(t, 3*wire.Soon, "every instance to answer a new client", func() bool {
		// Its inbox is the one of all requests. Servers hear of it before that of AskAll.
		_, err := nc.Request(wire.Subjects.Instances(), []byte("{}"), wire.Soon/4)
		return err == nil && len(wire.AskAll(t, nc, wire.Subjects.Instances())) == len(u.daemons)
	})
	return nc
}

// begin logs users in, watches them, and begins the load.
func (u *upgrade) begin(t *testing.T) {
	t.Helper()
	c := wire.NewClient(t, u.connect(t), client.Options{})
	still := wire.Names("still", 8)
	for i, user := range still {
		wire.LoginClient(t, c, user, client.LoginOptions{TTL: upgradeTTL, Unbound: i%2 == 0})
	}
	gateway, err := c.OpenGateway(t.Context(), "gateway", client.GatewayOptions{TTL: upgradeTTL})
	if err != nil {
		t.Fatal(err)
	}
	stillByGateway := wire.Names("still-by-gateway", 300)
	setters, comers := wire.Names("by-gateway", 8), wire.Names("comer", 8)
	u.byGateway = slices.Concat(setters, comers)
	loginAll(t, gateway, slices.Concat(setters, stillByGateway))
	nc := u.connect(t)
	login := func(user string) {
		wire.Login(t, nc, user, protocol.LoginRequest{SessionID: "s", TTLSeconds: int64(upgradeTTL.Seconds()), Connection: wire.BoundTo(nc)})
	}
	u.busy, u.expiring = wire.Names("busy", 12), wire.Names("expiring", 4)
	renewing, hidden := wire.Names("renewing", 2), "hidden"
	l := u.load
	for _, user := range slices.Concat(u.busy, u.expiring, renewing, []string{hidden}) {
		login(user)
		l.renew(nc, user) // at once: what follows may take longer than the TTL
	}
	setAvailability(t, nc, hidden, protocol.Invisible, 0)
	for _, session := range []string{"s1", "s2"} {
		wire.Login(t, nc, "replaced", protocol.LoginRequest{SessionID: session, Device: "d", TTLSeconds: 3600})
	}
	open, _ := wire.Subjects.Gateway("gw", protocol.OpOpen)
	wire.Must[protocol.LeaseReply](t, nc, open, `{"process":"p","ttlSeconds":3600}`)

	undisturbed := slices.Concat(still, stillByGateway, renewing, []string{hidden, "replaced"})
	u.before = u.fresh(t, undisturbed)
	u.events = wire.Record(t, u.connect(t), wire.Subjects.AnyEvent())
	for range 2 {
		u.watchers = append(u.watchers, u.watch(t, slices.Concat(undisturbed, u.byGateway, u.busy, u.expiring)))
	}

	conns := []*nats.Conn{nc, u.connect(t), u.connect(t)}
	for i, user := range u.busy {
		l.setAndGet(conns[i%len(conns)], user, paceOfUser)
		if i%3 == 0 {
			l.contacts(nc, fmt.Sprint("knows-", user), paceOfUser)
		}
	}
	for _, user := range u.expiring {
		l.expire(nc, user, paceOfUser)
	}
	l.apply(nc, "through-a-gateway", paceOfUser)
	l.setHidden(nc, hidden, paceOfUser)
	l.setBySession(t, c, "by-session", paceOfUser)
	for i := range setters {
		l.changeByGateway(gateway, setters[i], comers[i], paceOfUser)
	}
	l.askAsOperator(nc, stillByGateway, paceOfUser)
}

// fresh returns the statuses of any number of users.
func (u *upgrade) fresh(t *testing.T, users []string) (list []protocol.Status) {
	t.Helper()
	for chunk := range slices.Chunk(users, protocol.MaxUsersPerGet) {
		list = append(list, wire.Fresh(t, u.nc, chunk...)...)
	}
	return list
}

func setAvailability(t *testing.T, nc *nats.Conn, user string, a protocol.Availability, seconds int64) {
	t.Helper()
	request := protocol.SetRequest{Availability: &a}
	if seconds > 0 {
		request.AvailabilityExpiresInSeconds = &seconds
	}
	wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, user), request)
}

// loginAll logs users in by a gateway, many at once.
func loginAll(t *testing.T, gateway *client.Gateway, users []string) {
	t.Helper()
	var logins errgroup.Group
	for _, user := range users {
		logins.Go(func() error {
			return gateway.Login(t.Context(), user, "s", client.GatewayLogin{Device: "d", Platform: "web"})
		})
	}
	if err := logins.Wait(); err != nil {
		t.Fatal(err)
	}
}

// goOn lets the load make requests for a while.
func (u *upgrade) goOn(t *testing.T) {
	t.Helper()
	u.load.more(t, enoughRounds)
	time.Sleep(*upgradeTime) // it was asked for
}

// replace stops an instance and starts another program in its place; empty: that of this tree.
// As an operator would, it waits until the new one is ready.
func (u *upgrade) replace(t *testing.T, i int, program string) {
	t.Helper()
	d := u.daemons[i]
	u.checkDigests(t, i)
	var stopped time.Duration
	u.bursts++
	u.load.burst(t, u.nc, fmt.Sprint(u.bursts), func() {
		begun := time.Now()
		d.Stop(t)
		stopped = time.Since(begun)
	})
	u.load.more(t, enoughRounds) // on those that are left
	d.Program = program
	d.Restart(t)
	u.awaitReady(t, i)
	u.goOn(t)
	what := "this version"
	if program != "" {
		what = "the earlier version"
	}
	t.Logf("instance %d stopped within %v; %s was ready after %v", i, stopped.Round(time.Millisecond), what, d.ReadyAfter.Round(time.Millisecond))
}

// toErase is a user of renewSnapshot.
const toErase = "to-erase"

// renewSnapshot waits until one of some instances has stored a snapshot.
func (u *upgrade) renewSnapshot(t *testing.T, instances ...int) {
	t.Helper()
	newest := func() (position int) {
		for _, i := range instances {
			position = max(position, figure(t, u.daemons[i], "presence_snapshot_position"))
		}
		return position
	}
	before := newest()
	servicetest.Eventually(t, 4*wire.Soon, "a snapshot", func() bool {
		eraseForSnapshots(t, u.nc, toErase) // any instance answers
		return within(5*time.Second, func() bool { return newest() > before })
	})
}

func (u *upgrade) awaitReady(t *testing.T, i int) {
	t.Helper()
	servicetest.Eventually(t, 2*wire.Soon, fmt.Sprintf("instance %d to be ready", i), func() bool {
		code, _ := monitor(t, u.daemons[i], "/readyz")
		return code == 200
	})
}

// checkDigests fails where an instance had another state than others, for a moment even (G14).
func (u *upgrade) checkDigests(t *testing.T, i int) {
	t.Helper()
	if n := figure(t, u.daemons[i], "presence_digest_mismatches_total"); n != 0 {
		t.Errorf("instance %d had another state than others %d times", i, n)
	}
}

// upgradeWatcher is a client that watches, and must never be blind.
type upgradeWatcher struct {
	*client.Client
	users []string
	told  *wire.Teller

	mu    sync.Mutex
	blind []client.State
}

func (u *upgrade) watch(t *testing.T, users []string) *upgradeWatcher {
	t.Helper()
	w := &upgradeWatcher{Client: wire.NewClient(t, u.connect(t), client.Options{}), users: users}
	w.told = wire.Listen(w.Client)
	wire.Subscribe(t, w.Client, users...)
	servicetest.Eventually(t, wire.Soon, "a watcher to be live", func() bool { return w.State().Live })
	w.OnState(func(s client.State) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !s.Live {
			w.blind = append(w.blind, s)
		}
	})
	return w
}

func (w *upgradeWatcher) check(t *testing.T, want map[string]protocol.Status) {
	t.Helper()
	right := func(got map[string]protocol.Status) error {
		for _, id := range w.users {
			if !wire.Equal(got[id], want[id]) {
				return fmt.Errorf("a watcher has %+v, want %+v", got[id], want[id])
			}
		}
		return nil
	}
	within(wire.Soon, func() bool { return right(wire.Watched(w.Client, w.users)) == nil && right(w.told.Last()) == nil })
	if err := errors.Join(right(wire.Watched(w.Client, w.users)), right(w.told.Last())); err != nil {
		t.Error(err)
	}
	w.told.CheckRising(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.blind) > 0 {
		t.Errorf("a watcher was blind: %+v", w.blind)
	}
}

// check is when the load has ended.
func (u *upgrade) check(t *testing.T) {
	t.Helper()
	for chunk := range slices.Chunk(u.before, protocol.MaxUsersPerGet) {
		wire.CheckUndisturbed(t, u.nc, u.events, chunk)
	}
	noted := slices.Concat(u.busy, u.expiring, []string{"through-a-gateway", "by-session"})
	last := map[string]protocol.Status{}
	for _, s := range u.fresh(t, slices.Concat(wire.UserIDs(u.before), noted, u.byGateway)) {
		last[s.UserID] = s
	}
	for _, user := range slices.Concat(noted, u.byGateway) {
		u.checkAnnounced(t, user, last[user], slices.Contains(noted, user))
	}
	for _, user := range u.expiring {
		u.checkExpired(t, user)
	}
	told := announced(t, u.events.All())
	for user := range told {
		if _, known := last[user]; !known && user != toErase && u.load.set[user] == nil {
			t.Errorf("%s was announced, whom nobody changed", user)
		}
	}
	for user, revisions := range u.load.set {
		if acknowledged := slices.Max(slices.Collect(maps.Keys(revisions))); told[user] < acknowledged {
			t.Errorf("%s: revision %d was acknowledged, and announced none after %d", user, acknowledged, told[user])
		}
	}
	for _, w := range u.watchers {
		w.check(t, last)
	}
	for i := range u.daemons {
		u.checkDigests(t, i)
	}
	wire.Refused(t, u.nc, wire.To(protocol.OpLogin, "replaced"), `{"sessionID":"s1"}`, protocol.ErrSessionReplaced)
	wire.Refused(t, u.nc, wire.To(protocol.OpRenew, "replaced"), `{"sessionID":"s1"}`, protocol.ErrSessionReplaced)
	t.Log(presencectl(t, u.URLAs(""), "verify", "--journal-url", u.URLAs(servicetest.JournalUser)))
	if newestFormat(t, u.nc) > u.earlierFormat {
		refusesToStart(t, u.earlier, "--nats-url", u.URLAs(servicetest.ClientsUser), "--journal-url", u.URLAs(servicetest.JournalUser), "--system-url", u.URLAs(servicetest.SystemUser))
	}
}

// announcedOf returns the events of a user by revision: they may come out of order, as each of
// two instances announces its own.
func (u *upgrade) announcedOf(t *testing.T, user string) []wire.Arrived {
	t.Helper()
	return slices.SortedFunc(slices.Values(u.events.Events(t, user)), func(a, b wire.Arrived) int { return cmp.Compare(a.Revision, b.Revision) })
}

// checkAnnounced fails where the last change of a user was not announced, or something was that
// the load did not do.
func (u *upgrade) checkAnnounced(t *testing.T, user string, last protocol.Status, noted bool) {
	t.Helper()
	var list []wire.Arrived
	if !within(wire.Soon, func() bool {
		list = u.announcedOf(t, user)
		return len(list) > 0 && list[len(list)-1].Revision == last.Revision
	}) {
		t.Errorf("%s has %+v, which was not announced", user, last)
	}
	for _, e := range list {
		made := !noted || u.load.made(user, e.Revision) || e.Cause == protocol.CauseExpired && slices.Contains(u.expiring, user)
		if !made && e.Cause != protocol.CauseLogin {
			t.Errorf("%s: announced, but nobody changed it: %+v", user, e.Event)
		}
		if e.StatusType == protocol.Offline || e.Cause == protocol.CauseLost {
			t.Errorf("%s: %+v", user, e.Event)
		}
	}
}

// checkExpired fails unless everything that a user set ended by itself, when it was due.
func (u *upgrade) checkExpired(t *testing.T, user string) {
	t.Helper()
	const due = time.Second
	list := u.announcedOf(t, user)
	for i, e := range list {
		if e.Cause != protocol.CauseSet {
			continue
		}
		if i+1 == len(list) || list[i+1].Cause != protocol.CauseExpired {
			t.Errorf("%s: %+v did not end, or that was not announced", user, e.Event)
			continue
		}
		if lasted := list[i+1].UpdatedAt.Time().Sub(e.UpdatedAt.Time()); lasted < due || lasted > due+wire.Soon {
			t.Errorf("%s: %+v lasted %v, want %v", user, e.Event, lasted, due)
		}
	}
}
