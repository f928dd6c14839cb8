package differential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// format is the newest one that the old state machine knows.
const format = 3

// pair is one journal that both state machines apply.
type pair struct {
	t        failer
	old      *State
	new      *state.State
	now      int64
	sequence map[string]uint64
	read     map[string]*cursors // of each instance's outbox
}

type cursors struct {
	old Cursor
	new state.Cursor
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// newPair returns a pair with a format in force.
func newPair(t failer, inForce uint8) *pair {
	p := &pair{t: t, old: New(), new: state.New(), now: 1_700_000_000_000, sequence: map[string]uint64{}, read: map[string]*cursors{}}
	e := p.entry("A")
	if inForce > 1 {
		e.Commands = append(e.Commands, entry.Command{Kind: entry.SetFormat, Seq: uint64(inForce)})
	}
	p.apply(e)
	if p.new.Format() != inForce {
		t.Fatalf("the format in force is %d, want %d", p.new.Format(), inForce)
	}
	return p
}

// entry returns an entry without commands.
func (p *pair) entry(instance string) *entry.Entry {
	p.sequence[instance]++
	epoch := p.new.Epoch()
	if epoch == "" {
		epoch = "E1"
	}
	return &entry.Entry{Header: entry.Header{Epoch: epoch, Generation: p.new.Generation(), Instance: instance,
		Sequence: p.sequence[instance], LeaseClock: p.new.LeaseClock(), MaxFormat: format}}
}

// apply has both apply an entry, and compares what becomes of it.
func (p *pair) apply(e *entry.Entry) {
	p.t.Helper()
	position := p.new.Position() + 1
	oldOut, oldErr := p.old.Apply(e, position, p.now, true)
	newOut, newErr := p.new.Apply(e, position, p.now, true)
	p.same("errors", fmt.Sprint(oldErr), fmt.Sprint(newErr))
	p.same("fenced", oldOut.Fenced, newOut.Fenced)
	p.same("results", len(oldOut.Results), len(newOut.Results))
	for i := range newOut.Results {
		o, n := &oldOut.Results[i], &newOut.Results[i]
		p.same("errors of a command", showError(o.Err), showError(n.Err))
		p.same("TTLs", o.TTL, n.TTL)
		p.same("results", inShort(o.Revision, o.Status, o.Session, o.Replaced, o.Ended, o.Seq, GatewayAnswer(o.Gateway)),
			inShort(n.Revision, n.Status, n.Session, n.Replaced, n.Ended, n.Seq, GatewayAnswer(n.Gateway)))
	}
	p.same("digests", p.old.Digest(), p.new.Digest())
	oldAt, oldOK := p.old.DigestAt(position)
	newAt, newOK := p.new.DigestAt(position)
	p.same("digests of the position", fmt.Sprint(oldAt, oldOK), fmt.Sprint(newAt, newOK))
	oldDue, oldOK := p.old.NextDue()
	newDue, newOK := p.new.NextDue()
	p.same("next deadlines", fmt.Sprint(oldDue, oldOK), fmt.Sprint(newDue, newOK))
	for _, in := range p.new.Instances() {
		p.announced(in.Writer)
	}
	for _, number := range e.Renewed {
		oldStatus, oldTTL, oldOK := p.old.Renewed(number)
		n, newOK := p.new.Renewed(number)
		p.same("renewals", inShort(oldStatus, oldTTL, oldOK), inShort(n.Status, n.TTL, newOK))
	}
}

func inShort(all ...any) []any { return all }

func showError(err *protocol.Error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%+v", *err)
}

// announced compares what an instance has to announce that was not read before.
func (p *pair) announced(instance string) {
	p.t.Helper()
	c := p.read[instance]
	if c == nil {
		c = &cursors{}
		p.read[instance] = c
	}
	var oldSaid []Announcement
	var newSaid []state.Announcement
	var oldMore, newMore bool
	c.old, oldMore = p.old.Pending(instance, c.old, 1<<20, func(a Announcement) { oldSaid = append(oldSaid, a) })
	c.new, newMore = p.new.Pending(instance, c.new, 1<<20, func(a state.Announcement) { newSaid = append(newSaid, a) })
	// The order of users within one change decides nothing: it follows from calendars, whose order
	// is another after a restart.
	slices.SortStableFunc(oldSaid, func(a, b Announcement) int { return strings.Compare(a.UserID, b.UserID) })
	slices.SortStableFunc(newSaid, func(a, b state.Announcement) int { return strings.Compare(a.UserID, b.UserID) })
	p.same("announcements", oldSaid, newSaid)
	p.same("more announcements", oldMore, newMore)
}

// graceSeconds is what the old one does not say of a session.
var graceSeconds = regexp.MustCompile(`"graceSeconds":[0-9.]+,`)

// same fails if what the two have is not the same.
func (p *pair) same(what string, old, new any) {
	p.t.Helper()
	if reflect.TypeOf(old) == reflect.TypeOf(new) && reflect.TypeOf(old).Comparable() && reflect.TypeOf(old).Kind() != reflect.Pointer {
		if old != new {
			p.t.Fatalf("position %d: the %s were %v and are %v", p.new.Position(), what, old, new)
		}
		return
	}
	o, err := json.Marshal(old)
	n, err2 := json.Marshal(new)
	o, n = graceSeconds.ReplaceAll(o, nil), graceSeconds.ReplaceAll(n, nil)
	if err := errors.Join(err, err2); err != nil {
		p.t.Fatalf("%v", err)
	}
	if !bytes.Equal(o, n) {
		p.t.Fatalf("position %d: the %s were\n%s and are\n%s", p.new.Position(), what, o, n)
	}
}

// ask compares the answers about users and all else that can be asked.
func (p *pair) ask(users []string) {
	p.t.Helper()
	var statuses []protocol.Status
	for st := range p.new.Statuses(users, true) {
		statuses = append(statuses, *st)
	}
	p.same("statuses", p.old.Statuses(nil, users, true), statuses)
	for _, u := range users {
		oldStatus, oldSettings, oldSessions := p.old.OwnStatus(u)
		newStatus, newSettings, newSessions := p.new.OwnStatus(u)
		p.same("own statuses", []any{oldStatus, oldSettings, oldSessions}, []any{newStatus, newSettings, newSessions})
		p.same("explanations", p.old.Explain(u), p.new.Explain(u))
		p.same("digests of "+u, p.old.UserDigest(u), p.new.UserDigest(u))
		p.same("erasures", p.old.IsErased(u), p.new.IsErased(u))
		for _, x := range newSessions {
			oldLease, oldOK := p.old.Lease(u, x.SessionID, nil)
			newLease, newOK := p.new.Lease(u, x.SessionID, nil)
			p.same("leases", fmt.Sprint(oldLease, oldOK), fmt.Sprint(newLease, newOK))
		}
	}
	p.same("IDs", p.old.UserIDs(), p.new.UserIDs())
	oldUsers, oldSessions := p.old.Counts()
	newUsers, newSessions := p.new.Counts()
	p.same("counts", []any{oldUsers, oldSessions}, []any{newUsers, newSessions})
	p.same("facts", p.old.Facts(), p.new.Facts())
	p.same("instances", p.old.Instances(), p.new.Instances())
	oldBound, newBound := p.old.Bound(), p.new.Bound()
	for _, bound := range []map[string][]uint64{oldBound, newBound} {
		for _, clients := range bound {
			slices.Sort(clients)
		}
	}
	p.same("bound connections", oldBound, newBound)
	remembered := p.old.Remembered()
	for what, n := range p.new.Remembered() {
		switch what {
		case "users", "leases", "free-numbers", "connections", "ended-sessions", "ended-names", "untold-ends":
			p.same(what, remembered[what], n)
		}
	}
	p.list()
}

// list compares a list of all users, in pages.
func (p *pair) list() {
	p.t.Helper()
	for !p.old.Ordered() {
		p.old.Order(1000)
	}
	for !p.new.Ordered() {
		p.new.Order(1000)
	}
	for after, begun := "", false; after != "" || !begun; begun = true {
		var oldPage, newPage []protocol.Status
		oldLast := p.old.List(after, 0, 100, protocol.MaxBodyBytes, func(st protocol.Status) { oldPage = append(oldPage, st) })
		after = p.new.List(after, 0, 100, protocol.MaxBodyBytes, func(st protocol.Status) { newPage = append(newPage, st) })
		p.same("pages", oldPage, newPage)
		p.same("last ones of a page", oldLast, after)
	}
}

// snapshots are those of both that are being taken.
type snapshots struct {
	old      *Snapshot
	new      *state.Snapshot
	oldBytes []byte
	newBytes []byte
	digest   uint64
}

func (p *pair) begin() *snapshots {
	x := &snapshots{old: p.old.BeginSnapshot(), new: p.new.BeginSnapshot(), digest: p.new.Digest()}
	x.old.Step, x.new.Step = 1, 1
	return x
}

// step takes one step of both. It reports whether there are more.
func (x *snapshots) step(t failer) (more bool) {
	t.Helper()
	var err error
	var oldMore, newMore bool
	if x.oldBytes, oldMore, err = x.old.Next(x.oldBytes); err != nil {
		t.Fatalf("%v", err)
	}
	if x.newBytes, newMore, err = x.new.Next(x.newBytes); err != nil {
		t.Fatalf("%v", err)
	}
	x.old.Step, x.new.Step = 1+len(x.oldBytes)/50, 1+len(x.newBytes)/50
	return oldMore || newMore
}

// finish takes the steps that are left, and restores each snapshot by the other state machine.
func (x *snapshots) finish(p *pair) (old *State, new *state.State) {
	p.t.Helper()
	for x.step(p.t) {
	}
	x.old.End()
	x.new.End()
	if a, b := sorted(x.oldBytes), sorted(x.newBytes); a != b {
		p.t.Fatalf("the bytes of the snapshots are not the same in another order: %d and %d", len(x.oldBytes), len(x.newBytes))
	}
	new, err := state.Restore(blocks(x.oldBytes), nil)
	if err != nil {
		p.t.Fatalf("restoring the snapshot that the old one wrote: %v", err)
	}
	old, err = Restore(blocks(x.newBytes), nil)
	if err != nil {
		p.t.Fatalf("the old one restoring the snapshot that the new one wrote: %v", err)
	}
	if old.Digest() != x.digest || new.Digest() != x.digest {
		p.t.Fatalf("the digests were %x, restored %x and %x", x.digest, old.Digest(), new.Digest())
	}
	return old, new
}

// sorted counts the bytes: users may come in any order.
func sorted(b []byte) string {
	var counts [256]int
	for _, c := range b {
		counts[c]++
	}
	return fmt.Sprint(counts)
}

func blocks(b []byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		if b == nil {
			return nil, io.EOF
		}
		block := b
		b = nil
		return block, nil
	}
}

// TestSameAsBefore_Few: few users, to whom everything happens in any order.
func TestSameAsBefore_Few(t *testing.T) {
	users := []string{"u1", "u2", "u3", "nobody"}
	rapid.Check(t, func(rt *rapid.T) {
		history := genHistory(rt)
		begin := rapid.IntRange(0, len(history)-1).Draw(rt, "begin")
		p := newPair(rt, rapid.SampledFrom([]uint8{1, 2, 3, 3}).Draw(rt, "format"))
		var x *snapshots
		for i, mo := range history {
			for range mo.quiet {
				p.now += maxStep - 1
				e := p.entry("A")
				e.Header.AnnouncedThrough = p.new.Position()
				p.apply(e)
			}
			p.now += mo.after
			e := p.entry(mo.by)
			e.Commands, e.Renewed = mo.commands, mo.renewed
			if i%3 == 0 {
				e.Header.AnnouncedThrough = p.new.Position() - min(p.new.Position(), 2)
			}
			p.apply(e)
			p.ask(users)
			if x != nil {
				x.step(rt)
			}
			if i == begin {
				x = p.begin()
			}
		}
		p.old, p.new = x.finish(p)
		p.read = map[string]*cursors{}
		p.now += 1000
		p.sequence["C"] = 0
		p.apply(p.entry("C"))
		p.ask(users)
	})
}

// TestSameAsBefore_Many: thousands of users come and go, so that numbers are given again and
// texts move. Now and then both go on from the other one's snapshot.
func TestSameAsBefore_Many(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("PRESENCE_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("PRESENCE_TEST_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	entries := 1200
	if testing.Short() {
		entries = 300
	}
	for _, inForce := range []uint8{2, 3} {
		t.Run(fmt.Sprint("format ", inForce), func(t *testing.T) {
			p := newPair(t, inForce)
			c := crowd{rnd: rnd, users: 3000}
			var x *snapshots
			for i := range entries {
				p.now += int64(rnd.IntN(1500))
				e := p.entry("AB"[i%2 : i%2+1])
				c.users = 200 + 2800*(1+i/100%2)/2 // now more of them, now fewer
				for range rnd.IntN(60) {
					e.Commands = append(e.Commands, c.command())
				}
				for range rnd.IntN(20) {
					e.Renewed = append(e.Renewed, uint32(rnd.IntN(3000)))
				}
				slices.Sort(e.Renewed)
				e.Renewed = slices.Compact(e.Renewed)
				if rnd.IntN(3) > 0 {
					e.Header.AnnouncedThrough = p.new.Position() - min(p.new.Position(), uint64(rnd.IntN(4)))
				}
				p.apply(e)
				switch {
				case x != nil && rnd.IntN(100) == 0:
					p.old, p.new = x.finish(p)
					x, p.read = nil, map[string]*cursors{}
				case x != nil:
					x.step(t)
				case rnd.IntN(60) == 0:
					x = p.begin()
				}
				if i%50 == 0 {
					p.ask(c.someUsers())
				}
			}
		})
	}
}

// crowd makes up commands.
type crowd struct {
	rnd   *rand.Rand
	users int
	seq   [4]uint64 // of the gateways' requests
}

func (c *crowd) user() string { return "user-" + strconv.Itoa(c.rnd.IntN(c.users)) }

func (c *crowd) someUsers() []string {
	users := make([]string, 100)
	for i := range users {
		users[i] = c.user()
	}
	return users
}

func (c *crowd) text() string {
	return strings.Repeat(string(rune('a'+c.rnd.IntN(26))), c.rnd.IntN(10)*c.rnd.IntN(10)*c.rnd.IntN(6))
}

func (c *crowd) session() string {
	if c.rnd.IntN(2) == 0 {
		return "s" + strconv.Itoa(c.rnd.IntN(3))
	}
	return fmt.Sprintf("0b6b0c5a-5b0e-4d5f-9d0a-%012d", c.rnd.IntN(3))
}

// ofSession returns a command that is also an op of a gateway.
func (c *crowd) ofSession() entry.Command {
	m := entry.Command{User: c.user(), Session: c.session()}
	switch c.rnd.IntN(9) {
	case 0, 1, 2, 3:
		m.Kind, m.TTL, m.Platform, m.Idle = entry.Login, uint32(5_000+c.rnd.IntN(60_000)), "platform-"+strconv.Itoa(c.rnd.IntN(30)), c.rnd.IntN(4) == 0
		if c.rnd.IntN(2) == 0 {
			m.Device = "device-" + strconv.Itoa(c.rnd.IntN(2)) + "-" + m.User
		}
	case 4, 5:
		m.Kind = entry.Logout
	case 6, 7:
		m.Kind, m.Session, m.Text = entry.Set, "", c.text()
		if m.Text != "" && c.rnd.IntN(2) == 0 {
			m.Expires = int64(c.rnd.IntN(60_000))
		}
		if c.rnd.IntN(4) == 0 {
			m.Availability, m.KeepText = entry.Availability(1+c.rnd.IntN(5)), c.rnd.IntN(2) == 0
			m.Override = int64(c.rnd.IntN(2) * c.rnd.IntN(60_000))
		}
	default:
		m.Kind, m.Idle = entry.Idle, c.rnd.IntN(2) == 0
	}
	return m
}

func (c *crowd) command() entry.Command {
	server := "N" + strconv.Itoa(c.rnd.IntN(3))
	client := uint64(c.rnd.IntN(c.users))
	gateway := c.rnd.IntN(len(c.seq))
	switch c.rnd.IntN(100) {
	default:
		m := c.ofSession()
		switch m.Kind {
		case entry.Idle:
			m.Kind, m.SetIdle = entry.Renew, c.rnd.IntN(2) == 0
		case entry.Login:
			if c.rnd.IntN(2) == 0 {
				m.Server, m.Client = server, client/uint64(1+c.rnd.IntN(20))
			}
		case entry.Logout:
			m.All = c.rnd.IntN(4) == 0
		}
		return m
	case 0, 1, 2, 3, 4:
		return entry.Command{Kind: entry.Closed, Server: server, Client: client}
	case 5:
		return entry.Command{Kind: entry.Unbind, Server: server, Client: client}
	case 6, 7, 8:
		return entry.Command{Kind: entry.Erase, User: c.user()}
	case 9, 10:
		return entry.Command{Kind: entry.Kick, User: c.user(), All: true}
	case 11, 12, 13:
		return entry.Command{Kind: entry.Open, Gateway: "g", Process: strconv.Itoa(gateway), TTL: 10_000, Server: server, Client: client}
	case 14, 15, 16, 17, 18, 19, 20:
		c.seq[gateway]++
		m := entry.Command{Kind: entry.Apply, Gateway: "g", Process: strconv.Itoa(gateway), Seq: c.seq[gateway], Body: c.seq[gateway]}
		for range c.rnd.IntN(30) {
			op := c.ofSession()
			if op.Kind == entry.Logout && c.rnd.IntN(2) == 0 {
				op.Kind = entry.Lost
			}
			m.Ops = append(m.Ops, op)
		}
		return m
	case 21:
		if c.rnd.IntN(10) == 0 {
			c.seq[gateway] = 0
			return entry.Command{Kind: entry.Close, Gateway: "g", Process: strconv.Itoa(gateway), All: c.rnd.IntN(2) == 0}
		}
		return entry.Command{Kind: entry.RenewGateway, Gateway: "g", Process: strconv.Itoa(gateway)}
	case 22:
		if c.rnd.IntN(20) == 0 {
			return entry.Command{Kind: entry.LameDuck, Server: server}
		}
		return entry.Command{Kind: entry.Configure, Params: &entry.Params{Grace: int64(c.rnd.IntN(6_000)),
			Retention: 60_000 * int64(1+c.rnd.IntN(3)), Persistent: c.rnd.IntN(2) == 0, Sessions: 2 + c.rnd.IntN(6)}}
	}
}
