package processes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// load is what goes on while faults happen, and what it knows must be true.
type load struct {
	*background
	t  *testing.T
	nc *nats.Conn // of all requests but those of clients and gateways

	tallies        map[string]*tally // by kind of request; the map does not change
	setGap, getGap gap

	setters, byGateway []*setter
	kept               map[string]bool // users whom a client or a gateway keeps ONLINE
	fixed              []string        // all users whose names do not change
	watchers           []*client.Client
	told               []*wire.Teller
	gateway            *client.Gateway
	talkers            []string // users with long texts; nil until there are any

	mu     sync.Mutex
	seen   map[version]protocol.Status
	silent []string            // users for whom nobody renews
	comers []string            // users who came, once, since the last fault began
	heard  []map[string]uint64 // by listener: the last revision heard of a user

	// guarantees are the following, in the order of the summary.
	guarantees                                                              []*guarantee
	kept1, shown1, read2, same3, heard4, offline5, online6, fenced8, true11 *guarantee
}

// version names what a user's status was.
type version struct {
	user     string
	revision uint64
}

// guarantee counts how often one was checked and found broken.
type guarantee struct {
	number, text    string
	checked, broken atomic.Int64
}

// requestKinds are the rows of the summary.
var requestKinds = []string{"set", "set by gateway", "get", "get fresh", "get own write", "login", "logout", "renew of a replaced session"}

// How much goes on.
const (
	chaosSetters       = 10
	chaosKeepers       = 30
	chaosTwins         = 5
	chaosGatewayUsers  = 300
	chaosGatewaySetter = 5
	chaosComers        = 4
	chaosGetters       = 3
	chaosSilent        = 10
	// chaosTTL is that of whoever must not be lost. A presenced that is paused
	// swallows a third of the requests until the server gives up its connection, 3
	// to 4 s later: a lease must last for some renewals.
	chaosTTL = 30 * time.Second
)

func (l *load) outcomes(kind string) *tally { return l.tallies[kind] }

// failed counts the requests that were refused for want of a service, or not
// answered.
func (l *load) failed() (n int) {
	for _, kind := range requestKinds {
		for _, name := range []string{"unavailable", "overloaded", "outcome_unknown", "no answer", "not sent", "no responders"} {
			n += l.outcomes(kind).of(name)
		}
	}
	return n
}

func (l *load) guarantee(number, text string) *guarantee {
	g := &guarantee{number: number, text: text}
	l.guarantees = append(l.guarantees, g)
	return g
}

// check counts a check of a guarantee and fails the test where it is broken; of
// many times the first are told.
func (l *load) check(g *guarantee, holds bool, format string, args ...any) {
	g.checked.Add(1)
	if !holds && g.broken.Add(1) <= 5 {
		l.t.Errorf("%s %s: broken: %s", time.Now().UTC().Format("15:04:05.000"), g.number, fmt.Sprintf(format, args...))
	}
}

// startLoad logs everybody in, and then begins.
func startLoad(t *testing.T, c *chaos) *load {
	t.Helper()
	l := &load{background: newBackground(t), t: t, nc: c.connect(t), tallies: map[string]*tally{}, kept: map[string]bool{}, seen: map[version]protocol.Status{}}
	for _, kind := range requestKinds {
		l.tallies[kind] = &tally{}
	}
	l.kept1 = l.guarantee("G1, G10", "every acknowledged set is there, and none that was refused")
	l.shown1 = l.guarantee("G1", "acknowledged logins and logouts show")
	l.read2 = l.guarantee("G2", "fresh and minRevision reads show what was acknowledged")
	l.same3 = l.guarantee("G3", "a user's status at a revision is the same for everybody")
	l.heard4 = l.guarantee("G4", "who only listens hears the last change of everybody, even if a presenced was away")
	l.offline5 = l.guarantee("G5", "who fell silent is OFFLINE in the end")
	l.online6 = l.guarantee("G6", "who was kept alive is ONLINE and was never announced as anything else")
	l.fenced8 = l.guarantee("G8", "a replaced session stays replaced")
	l.true11 = l.guarantee("G11", "every watcher ends in the true state")

	l.logEverybodyIn(c)
	for _, s := range c.Servers {
		nc, err := nats.Connect(s.URL, append(hasty(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		l.listen(nc)
	}
	l.watch(c.connect(t))
	l.watch(c.connect(t))
	behind, err := nats.Connect(c.watching.urls(""), append(hasty(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	l.watch(behind)
	t.Cleanup(l.end) // where the test ends early: before the clients log out
	l.begin()
	return l
}

func (l *load) logEverybodyIn(c *chaos) {
	l.t.Helper()
	keeper := wire.NewClient(l.t, c.connect(l.t), client.Options{Timeout: 2 * time.Second})
	for i, id := range wire.Names("keeper", chaosKeepers) {
		wire.LoginClient(l.t, keeper, id, client.LoginOptions{TTL: chaosTTL, Unbound: i%2 == 0})
		l.keep(id)
	}
	for _, id := range wire.Names("twin", chaosTwins) {
		wire.Login(l.t, l.nc, id, protocol.LoginRequest{SessionID: "first", Device: "phone"})
		wire.LoginClient(l.t, keeper, id, client.LoginOptions{SessionID: "second", Device: "phone", TTL: chaosTTL})
		l.keep(id)
	}
	for _, id := range wire.Names("silent", chaosSilent) {
		wire.Login(l.t, l.nc, id, protocol.LoginRequest{SessionID: "s", TTLSeconds: 5})
		l.abandon(id)
	}
	var err error
	hub := wire.NewClient(l.t, c.connect(l.t), client.Options{Timeout: 2 * time.Second})
	if l.gateway, err = hub.OpenGateway(l.t.Context(), "hub", client.GatewayOptions{TTL: chaosTTL}); err != nil {
		l.t.Fatal(err)
	}
	for _, id := range wire.Names("member", chaosGatewayUsers) {
		if err := l.gateway.Login(l.t.Context(), id, "s-"+id, client.GatewayLogin{}); err != nil {
			l.t.Fatalf("gateway login of %s: %v", id, err)
		}
		l.keep(id)
	}
	for _, id := range wire.Names("setter", chaosSetters) {
		l.setters = append(l.setters, &setter{user: id})
		l.fixed = append(l.fixed, id)
	}
	for _, id := range wire.Names("member", chaosGatewaySetter) {
		l.byGateway = append(l.byGateway, &setter{user: id})
	}
}

func (l *load) keep(user string) {
	l.kept[user] = true
	l.fixed = append(l.fixed, user)
}

// abandon takes down that nobody renews for a user.
func (l *load) abandon(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = append(l.silent, user)
}

// begin starts the goroutines. Each setter belongs to one of them.
func (l *load) begin() {
	for _, s := range l.setters {
		l.every(20*time.Millisecond, func() error { l.setAndRead(s); return nil })
	}
	for _, s := range l.byGateway {
		l.every(50*time.Millisecond, func() error { l.setByGateway(s); return nil })
	}
	for i := range chaosComers {
		n := 0
		l.every(50*time.Millisecond, func() error {
			n++
			l.comeAndGo(fmt.Sprintf("comer%d-%d", i, n))
			return nil
		})
	}
	for range chaosGetters {
		l.every(20*time.Millisecond, func() error { l.get(); return nil })
	}
	l.every(100*time.Millisecond, func() error { l.renewReplaced(); return nil })
}

// see checks a status that the service gave to somebody.
func (l *load) see(where string, s protocol.Status) {
	s.Platforms = nil
	l.mu.Lock()
	before, again := l.seen[version{s.UserID, s.Revision}]
	l.seen[version{s.UserID, s.Revision}] = s
	l.mu.Unlock()
	l.check(l.same3, !again || reflect.DeepEqual(before, s), "%s: %+v, seen before as %+v", where, s, before)
	if l.kept[s.UserID] {
		l.check(l.online6, s.StatusType == protocol.Online, "%s: %+v", where, s)
	}
}

// listen checks every event that one connection hears.
func (l *load) listen(nc *nats.Conn) {
	l.t.Helper()
	heard := map[string]uint64{}
	l.heard = append(l.heard, heard)
	if _, err := nc.Subscribe(wire.Subjects.AnyEvent(), func(m *nats.Msg) {
		var e protocol.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			l.t.Errorf("%s: %v", m.Subject, err)
			return
		}
		l.see("event, cause "+string(e.Cause), e.Status)
		l.mu.Lock()
		heard[e.UserID] = max(heard[e.UserID], e.Revision)
		l.mu.Unlock()
	}); err != nil {
		l.t.Fatal(err)
	}
}

// watch watches all users whose names do not change.
func (l *load) watch(nc *nats.Conn) {
	l.t.Helper()
	c := wire.NewClient(l.t, nc, client.Options{Timeout: 2 * time.Second, Resync: 5 * time.Second})
	told := wire.Listen(c)
	wire.Subscribe(l.t, c, l.fixed...)
	l.watchers, l.told = append(l.watchers, c), append(l.told, told)
}

// setAndRead sets a text and, where that was acknowledged, asks for it: through
// the journal, or of memory that has to have it.
func (l *load) setAndRead(s *setter) {
	reply, refusal, wrong := s.set(l.nc)
	l.outcomes("set").add(outcome(refusal))
	if refusal != nil {
		return
	}
	l.setGap.over()
	l.check(l.same3, wrong == nil, "%v", wrong)
	l.see("set", reply.Status)
	request, kind := protocol.GetRequest{UserIDList: []string{s.user}, Fresh: true}, "get fresh"
	if s.n%2 == 0 {
		request.Fresh, request.MinRevision, request.Epoch, kind = false, s.revision, s.epoch, "get own write"
	}
	got, err := wire.AskWithin[protocol.GetReply](l.nc, patience, wire.Subjects.Get(), request)
	l.outcomes(kind).add(outcome(err))
	if err == nil {
		err = s.shows(got.SuccessUserList[0])
		l.check(l.read2, err == nil, "%s: %v", kind, err)
		l.see(kind, got.SuccessUserList[0])
	}
}

// setByGateway sets a text through the gateway. It sends a request again and
// again, so of any error nobody knows whether it was done.
func (l *load) setByGateway(s *setter) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text := s.next()
	err := l.gateway.SetStatus(ctx, s.user, text)
	l.outcomes("set by gateway").add(outcome(err))
	if err != nil {
		err = protocol.ErrOutcomeUnknown
	}
	s.note(text, err)
}

// get asks for some users, of memory.
func (l *load) get() {
	users := slices.Clone(l.fixed)
	rand.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	reply, err := wire.AskWithin[protocol.GetReply](l.nc, time.Second, wire.Subjects.Get(), protocol.GetRequest{UserIDList: users[:20]})
	l.outcomes("get").add(outcome(err))
	if err != nil {
		return
	}
	l.getGap.over()
	if reply.Stale {
		l.outcomes("get").add("said to be stale")
	}
	for _, s := range reply.SuccessUserList {
		l.see("get", s)
	}
}

// renewReplaced renews sessions in the place of which the same device has opened
// others.
func (l *load) renewReplaced() {
	id := fmt.Sprint("twin", rand.IntN(chaosTwins))
	_, err := wire.AskWithin[protocol.ChangeReply](l.nc, patience, wire.To(protocol.OpRenew, id), protocol.RenewRequest{SessionID: "first"})
	l.outcomes("renew of a replaced session").add(outcome(err))
	if _, answered := errors.AsType[*protocol.Error](err); answered || err == nil {
		busy := errors.Is(err, protocol.ErrUnavailable) || errors.Is(err, protocol.ErrOverloaded) || errors.Is(err, protocol.ErrOutcomeUnknown)
		l.check(l.fenced8, busy || errors.Is(err, protocol.ErrSessionReplaced), "renewal of %s: %v", id, err)
	}
}

// comeAndGo has a user log in and out who has not been here before.
func (l *load) comeAndGo(user string) {
	begun := time.Now()
	l.mu.Lock()
	l.comers = append(l.comers, user)
	l.mu.Unlock()
	in, err := wire.AskWithin[protocol.LoginReply](l.nc, patience, wire.To(protocol.OpLogin, user), protocol.LoginRequest{SessionID: "s", TTLSeconds: 5})
	l.outcomes("login").add(outcome(err))
	if err != nil {
		if undecided(err) {
			l.abandon(user)
		}
		return
	}
	l.shows(user, protocol.Online, in.Revision, in.Epoch, begun)
	out, err := wire.AskWithin[protocol.ChangeReply](l.nc, patience, wire.To(protocol.OpLogout, user), protocol.LogoutRequest{SessionID: "s"})
	l.outcomes("logout").add(outcome(err))
	if err != nil {
		l.abandon(user)
		return
	}
	l.shows(user, protocol.Unlogined, out.Revision, out.Epoch, begun)
}

// checkHeard waits until the listeners have heard of what became of everybody
// who came since forgetComers: for as long as it takes another presenced to
// announce for one that is away, and more.
func (l *load) checkHeard(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	users := l.comers
	l.mu.Unlock()
	var last []protocol.Status
	for chunk := range slices.Chunk(users, protocol.MaxUsersPerGet) {
		last = append(last, wire.Fresh(t, l.nc, chunk...)...)
	}
	within(2*wire.Soon, func() bool {
		return !slices.ContainsFunc(last, func(s protocol.Status) bool { return !l.everybodyHeard(s) })
	})
	for _, s := range last {
		l.check(l.heard4, l.everybodyHeard(s), "nothing was announced of %+v", s)
	}
}

func (l *load) everybodyHeard(s protocol.Status) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(l.heard, func(heard map[string]uint64) bool { return heard[s.UserID] < s.Revision })
}

func (l *load) forgetComers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.comers = nil
}

// shows checks a user's type as of a revision, unless so much time has passed
// that the session may have been lost.
func (l *load) shows(user string, want protocol.StatusType, revision uint64, epoch string, begun time.Time) {
	reply, err := wire.AskWithin[protocol.GetReply](l.nc, patience, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{user}, MinRevision: revision, Epoch: epoch})
	if err != nil || time.Since(begun) > protocol.MinTTL-time.Second {
		return
	}
	got := reply.SuccessUserList[0]
	l.check(l.shown1, got.StatusType == want, "%s: got %+v, want %v as of %d", user, got, want, revision)
}

// finish ends the load and checks what must be true in the end.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop(t)
	want := wire.Truth(t, l.nc, l.fixed)
	for _, s := range append(slices.Clone(l.setters), l.byGateway...) {
		err := s.shows(want[s.user])
		l.check(l.kept1, err == nil, "%v", err)
	}
	l.checkTalkers(t)
	for i, c := range l.watchers {
		same := func(got map[string]protocol.Status) bool { return maps.EqualFunc(got, want, wire.Equal) }
		within(wire.Soon, func() bool { return same(wire.Watched(c, l.fixed)) && same(l.told[i].Last()) })
		got, told := wire.Watched(c, l.fixed), l.told[i].Last()
		for id, w := range want {
			l.check(l.true11, wire.Equal(got[id], w) && wire.Equal(told[id], w), "watcher %d has %+v, told %+v, want %+v", i, got[id], told[id], w)
		}
		l.told[i].CheckRising(t)
	}
	// The amnesty after the last fault, and then their TTL.
	within(4*wire.Soon, func() bool { return len(l.stillOnline(t)) == 0 })
	l.offline5.checked.Add(int64(len(l.silent)))
	for _, id := range l.stillOnline(t) {
		l.check(l.offline5, false, "%s is still ONLINE", id)
	}
	for _, s := range wire.Truth(t, l.nc, l.fixed) {
		l.see("get fresh, in the end", s)
	}
}

// stillOnline returns the silent users who are ONLINE.
func (l *load) stillOnline(t *testing.T) (ids []string) {
	t.Helper()
	for chunk := range slices.Chunk(l.silent, protocol.MaxUsersPerGet) {
		for _, s := range wire.Fresh(t, l.nc, chunk...) {
			if s.StatusType == protocol.Online {
				ids = append(ids, s.UserID)
			}
		}
	}
	return ids
}

// within waits until a condition holds, for a while, and reports whether it does. Whoever
// calls it looks himself at what is the matter where it does not.
func within(limit time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
