package state

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// These tests are white-box: that two states are the same is said of everything
// they remember, not of their answers alone.

// moment is what happens at one time of a generated history.
type moment struct {
	after    int64 // since the moment before
	quiet    int   // entries without anything before it, almost 2 s each
	commands []entry.Command
	renewed  []uint32 // leases, whether they are there or not
	by       string   // who writes it; empty: A
}

func (m moment) instance() string {
	if m.by == "" {
		return "A"
	}
	return m.by
}

// genHistory draws commands over few users, sessions, devices and connections,
// so that they meet, and times around the bounds that matter.
func genHistory(t *rapid.T) []moment {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	genOp := rapid.Custom(func(t *rapid.T) entry.Command {
		return entry.Command{
			Idle: rapid.Bool().Draw(t, "idle"),
			Kind: rapid.SampledFrom([]entry.Kind{entry.Login, entry.Login, entry.Logout, entry.Lost, entry.Idle, entry.Set}).Draw(t, "kind"),
			User: pick("user", "u1", "u2", "u3"), Session: pick("session", "s1", "s2", "s3", "s4"), Device: pick("device", "", "d1"),
		}
	})
	genCommand := rapid.Custom(func(t *rapid.T) entry.Command {
		c := entry.Command{User: pick("user", "u1", "u2", "u3"), Session: pick("session", "s1", "s2", "s3", "s4")}
		switch rapid.IntRange(0, 18).Draw(t, "kind") {
		case 0, 1, 2:
			c.Kind, c.Platform = entry.Login, "web"
			c.Device = pick("device", "", "", "d1", "d2")
			c.TTL = rapid.SampledFrom([]uint32{5_000, 10_000, 30_000}).Draw(t, "ttl")
			c.Grace = rapid.SampledFrom([]uint32{0, 0, 1_000, 20_000, 90_000}).Draw(t, "grace")
			if rapid.Bool().Draw(t, "bound") {
				c.Server, c.Client = "N1", uint64(rapid.IntRange(1, 4).Draw(t, "client"))
			}
		case 3, 4:
			c.Kind, c.SetIdle, c.Idle = entry.Renew, rapid.Bool().Draw(t, "setIdle"), rapid.Bool().Draw(t, "idle")
		case 5:
			which := rapid.IntRange(0, 3).Draw(t, "which")
			c.Kind, c.All, c.Final = entry.Logout, which == 0, which == 1
		case 6, 7:
			c.Kind, c.Session, c.Text = entry.Set, "", pick("text", "", "a", "b")
			if c.Text != "" {
				c.Expires = rapid.SampledFrom([]int64{0, 1_000, 7_000}).Draw(t, "expires")
			}
		case 15, 16:
			c.Kind, c.Session, c.KeepText = entry.Set, "", rapid.Bool().Draw(t, "keepText")
			c.Availability = rapid.SampledFrom([]entry.Availability{entry.Available, entry.Busy, entry.Invisible, entry.Invisible}).Draw(t, "availability")
			c.Override = rapid.SampledFrom([]int64{0, 1_000, 7_000}).Draw(t, "override")
		case 17:
			c.Kind, c.All = rapid.SampledFrom([]entry.Kind{entry.Kick, entry.Kick, entry.Erase}).Draw(t, "ending"), rapid.Bool().Draw(t, "all")
		case 8:
			c = entry.Command{Kind: rapid.SampledFrom([]entry.Kind{entry.Closed, entry.Closed, entry.Unbind, entry.LameDuck}).Draw(t, "what"),
				Server: "N1", Client: uint64(rapid.IntRange(1, 4).Draw(t, "client"))}
		case 10:
			c = entry.Command{Kind: entry.Open, Gateway: "g1", Process: pick("process", "p1", "p2"), TTL: 10_000,
				Grace: rapid.SampledFrom([]uint32{0, 0, 1_000, 90_000}).Draw(t, "grace")}
			if rapid.Bool().Draw(t, "bound") {
				c.Server, c.Client = "N1", uint64(rapid.IntRange(1, 4).Draw(t, "client"))
			}
		case 11, 13, 14:
			c = entry.Command{Kind: entry.Apply, Gateway: "g1", Process: pick("process", "p1", "p2"), Seq: uint64(rapid.IntRange(1, 8).Draw(t, "seq")),
				Body: uint64(rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "body"))}
			c.Ops = rapid.SliceOfN(genOp, 1, 5).Draw(t, "ops")
		case 12:
			c = entry.Command{Kind: rapid.SampledFrom([]entry.Kind{entry.RenewGateway, entry.RenewGateway, entry.Close}).Draw(t, "kind"),
				Gateway: "g1", Process: pick("process", "p1", "p2"), All: rapid.Bool().Draw(t, "logout")}
		case 18:
			c = entry.Command{Kind: entry.SetFormat, Seq: rapid.Uint64Range(2, entry.Format).Draw(t, "format")}
		case 9:
			if rapid.IntRange(0, 9).Draw(t, "rare") == 0 {
				return entry.Command{Kind: entry.RequestsLost}
			}
			if rapid.IntRange(0, 2).Draw(t, "newer") == 0 {
				return entry.Command{Kind: entry.SetFormat, Seq: entry.Format}
			}
			c = entry.Command{Kind: entry.Configure, Params: &entry.Params{
				Grace:      rapid.SampledFrom([]int64{0, 1_000, 5_000}).Draw(t, "grace"),
				Retention:  rapid.SampledFrom([]int64{60_000, 600_000}).Draw(t, "retention"),
				Persistent: rapid.Bool().Draw(t, "persistent"),
				Sessions:   rapid.SampledFrom([]int{0, 1, 2, 3, 32}).Draw(t, "sessions"),
				MaxGrace:   rapid.SampledFrom([]int64{0, 60_000, 1_000, 300_000}).Draw(t, "maxGrace"),
			}}
		}
		return c
	})
	genMoment := rapid.Custom(func(t *rapid.T) moment {
		return moment{
			after: rapid.SampledFrom([]int64{0, 1, 99, 100, 500, 1_000, 1_000, 1_000, 1_999, 2_000, 2_001, 60_000, -3_600_000}).
				Draw(t, "after"),
			quiet:    rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 70}).Draw(t, "quiet"),
			commands: rapid.SliceOfN(genCommand, 0, 6).Draw(t, "commands"),
			renewed:  rapid.SliceOfN(rapid.Uint32Range(0, 5), 0, 2).Draw(t, "renewed"),
			by:       rapid.SampledFrom([]string{"A", "A", "B"}).Draw(t, "by"),
		}
	})
	return rapid.SliceOfN(genMoment, 1, 120).Draw(t, "history")
}

// genFormat is the format in force when a history begins; a later one may follow.
func genFormat(t *rapid.T) uint8 {
	return rapid.SampledFrom([]uint8{1, 2, 3, 4, 5, 5}).Draw(t, "format")
}

// at makes a machine one with a format in force, of which nothing has happened yet.
func (m *machine) at(format uint8) *machine {
	m.s.format, m.maxFormat = format, entry.Format
	return m
}

// play applies a history, each moment as the entries that split makes of it,
// and returns the state and what watchers and callers were told, without
// revisions: those depend on the split.
func play(t testing.TB, format uint8, history []moment, split func(moment) [][]entry.Command, each func(*State)) (*State, []string) {
	m := newMachine(t).at(format)
	var told []string
	for _, mo := range history {
		m.pass(t, mo.quiet)
		m.now += mo.after
		for i, commands := range split(mo) {
			e := entry.Entry{Header: m.header("A"), Commands: commands}
			e.Header.MaxFormat = entry.Format
			if i == 0 {
				e.Renewed = mo.renewed
			}
			out, err := m.s.Apply(&e, m.s.Position()+1, m.now, true)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range out.Results {
				c := e.Commands[i]
				told = append(told, fmt.Sprint(m.now, c.Kind, c.User, c.Session, r.Err, r.Seq, r.Gateway.Applied, r.Gateway.Failures, r.Status.StatusType, r.Status.CustomStatus, r.Replaced))
			}
			if each != nil {
				each(m.s)
			}
		}
	}
	return m.s, told
}

// pass applies entries without anything, which have everything announced.
func (m *machine) pass(t testing.TB, quiet int) (entries []entry.Entry, at []int64) {
	for range quiet {
		m.now += maxStep - 1
		e := entry.Entry{Header: m.header("A")}
		e.Header.AnnouncedThrough = m.s.Position()
		m.apply(t, &e)
		entries, at = append(entries, e), append(at, m.now)
	}
	return entries, at
}

func whole(m moment) [][]entry.Command { return [][]entry.Command{m.commands} }

// TestProperty_SplitAndReplay: any split of the same commands into entries, and
// any replay, gives the same state and the same answers (G3).
func TestProperty_SplitAndReplay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		history := genHistory(rt)
		for i := range history { // new rules can make something due between two entries of one moment
			history[i].commands = slices.DeleteFunc(history[i].commands, func(c entry.Command) bool { return c.Kind == entry.Configure })
		}
		format := genFormat(rt)
		cuts := rapid.SliceOfN(rapid.IntRange(0, 6), len(history), len(history)).Draw(rt, "cuts")
		s1, told1 := play(t, format, history, whole, nil)
		replay, toldReplay := play(t, format, history, whole, nil)
		if got, want := dump(replay, true), dump(s1, true); got != want {
			rt.Fatalf("replayed: got\n%s\nwant\n%s", got, want)
		}
		next := -1
		s2, told2 := play(t, format, history, func(m moment) [][]entry.Command {
			next++
			at := min(cuts[next], len(m.commands))
			return [][]entry.Command{m.commands[:at], m.commands[at:]}
		}, nil)
		if got, want := dump(s2, false), dump(s1, false); got != want {
			rt.Fatalf("split: got\n%s\nwant\n%s", got, want)
		}
		for i, told := range [][]string{toldReplay, told2} {
			if !slices.Equal(told, told1) {
				rt.Fatalf("told %d: got\n%s\nwant\n%s", i, strings.Join(told, "\n"), strings.Join(told1, "\n"))
			}
		}
	})
}

// TestProperty_Invariants: after every entry, what is kept for speed agrees with
// what it is derived from, revisions only rise, and what is seen at one is always
// the same (G3).
func TestProperty_Invariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		revisions, statuses := map[string]uint64{}, map[string]protocol.Status{}
		play(t, genFormat(rt), genHistory(rt), whole, func(s *State) {
			checkInvariants(rt, s)
			for _, u := range s.users.table.All() {
				id := strings.Clone(s.userID(u))
				if u.revision != 0 && u.revision < revisions[id] { // 0: forgotten meanwhile, and nothing seen since
					rt.Fatalf("revision of %s fell from %d to %d", id, revisions[id], u.revision)
				}
				revisions[id] = u.revision
				for i, st := range []protocol.Status{s.Status(id, false), s.ownerView(u, id)} {
					key := fmt.Sprint(i, id, st.Revision)
					if was, ok := statuses[key]; ok && !reflect.DeepEqual(st, was) {
						rt.Fatalf("at one revision %s was %+v and is %+v", id, was, st)
					}
					if st.Revision != 0 {
						statuses[key] = st
					}
				}
				if u.revision > s.Revision() {
					rt.Fatalf("revision %d of %s is beyond the state's %d", u.revision, id, s.Revision())
				}
			}
		})
	})
}

func checkInvariants(t *rapid.T, s *State) {
	sessions, holding, pending := 0, 0, map[uint32]int{}
	digest, counted := uint64(0), &State{tables: s.tables}
	checkFences(t, s)
	checkCalendar(t, "due", &s.due)
	checkCalendar(t, "forgets", &s.forgets)
	checkCalendar(t, "expiries", &s.expiries)
	checkTables(t, s)
	for number, u := range s.users.table.All() {
		id, r, h := s.userID(u), s.rare(u), s.hidden(u)
		if s.users.get(id) != u || u.touched != 0 || s.numberOf(u) != number {
			t.Fatalf("user %q: touched %d, number %d of %d", id, u.touched, s.numberOf(u), number)
		}
		if u.presence != s.presenceOf(u) {
			t.Fatalf("user %s: presence %d, want %d", id, u.presence, s.presenceOf(u))
		}
		if u.pending != 0 {
			pending[s.pendings.At(u.pending).instance]++
		}
		if h != nil && h.pending != 0 {
			pending[s.pendings.At(h.pending).instance]++
		}
		if h != nil && u.pending != 0 && s.pendings.At(u.pending).all()&partPublic != 0 {
			t.Fatalf("what everybody sees of %s, who is hidden, is pending together with what the owner does", id)
		}
		digest += s.hash(u)
		if at := s.nextExpiry(u); at != 0 && (r.expiryBucket == 0 || r.expiryBucket > bucketOf(at)) {
			t.Fatalf("what %s said expires at %d but waits in bucket %d", id, at, r.expiryBucket)
		}
		if idle := s.isForgettable(u); idle != (u.idleSince.ms() >= 0) {
			t.Fatalf("user %s: idle %t since %d", id, idle, u.idleSince.ms())
		}
		if at, ok := s.nextForget(u); ok && (u.forgetBucket == 0 || u.forgetBucket > leaseBucket(at)) {
			t.Fatalf("something of %s is forgotten at %d but waits in bucket %d", id, at, u.forgetBucket)
		}
		if s.chosen(u) == entry.Invisible && h == nil || h != nil && h.statusType == protocol.Online {
			t.Fatalf("user %s chose %d and is seen as %+v", id, s.chosen(u), h)
		}
		if r.override == entry.Keep && r.overrideUntil != 0 {
			t.Fatalf("user %s: no override until %d", id, r.overrideUntil)
		}
		counted.countUser(s.public(u, s.own(u)).statusType, s.publicRevision(u), +1)
		if h == nil {
			counted.countSessions(u, +1)
		}
		for x := s.first(u); x != nil; x = s.after(x) {
			sessions++
			if x.bound.isGateway() {
				holding++
			}
			if s.sessionOf(&x.lease) != x || s.userOf(x) != u {
				t.Fatalf("session %s of %s is not behind its number %d", s.sessionID(x), id, x.number)
			}
			due := s.dueAt(&x.lease)
			if !x.byGateway() && (x.bucket == 0 || x.bucket > leaseBucket(due)) {
				t.Fatalf("session %s of %s is due at %d but waits in bucket %d", s.sessionID(x), id, due, x.bucket)
			}
			c := s.connectionOf(&x.lease)
			if c == nil {
				continue
			}
			key := s.connections.key(c)
			if s.leaseOf(s.connections.leases(uint32(x.bound))[x.place]) != &x.lease || s.connections.get(key) != c || !x.live && c.closed {
				t.Fatalf("session %s of %s: its connection %v does not know it", s.sessionID(x), id, key)
			}
			if c.lame != s.connections.isLame(key.server) {
				t.Fatalf("session %s of %s: its connection %v is lame: %t", s.sessionID(x), id, key, c.lame)
			}
		}
	}
	if users, platforms := s.Counts(); !reflect.DeepEqual(counted.counts.users, s.counts.users) || !maps.Equal(counted.counts.platforms, platforms) {
		t.Fatalf("counted %+v %v, there are %+v", users, platforms, counted.counts)
	}
	held := 0
	for key, g := range s.gateways.byKey {
		held += len(g.sessions)
		if g.key != key || s.leaseOf(s.holderOf(&g.lease)) != &g.lease || g.bucket == 0 || g.bucket > leaseBucket(s.dueAt(&g.lease)) {
			t.Fatalf("gateway %v: number %d, bucket %d, due at %d", key, g.number, g.bucket, s.dueAt(&g.lease))
		}
		for i, n := range g.sessions {
			if x := s.sessions.Get(n); x == nil || s.gatewayOf(x) != g || int(x.place) != i || !x.live {
				t.Fatalf("gateway %v: its session %d does not know it", key, n)
			}
		}
	}
	if len(s.gateways.byLease) != len(s.gateways.byKey) {
		t.Fatalf("%d gateways by their leases, %d by their keys", len(s.gateways.byLease), len(s.gateways.byKey))
	}
	if held != holding {
		t.Fatalf("gateways hold %d sessions, %d say so", held, holding)
	}
	if got := s.Sessions(); got != sessions {
		t.Fatalf("Sessions() is %d, there are %d", got, sessions)
	}
	for _, w := range s.instances {
		if w.current != pending[w.local] {
			t.Fatalf("instance %s has %d pending, says %d", w.id, pending[w.local], w.current)
		}
	}
	for l := range s.allLeases {
		digest += deadlineHash(l.number, l.deadline)
	}
	if digest != s.digest || s.users.table.Len() != s.users.index.Len() {
		t.Fatalf("the digest is %x, that of what there is %x", s.digest, digest)
	}
	for n, c := range s.connections.table.All() {
		if c.leases == 0 && !c.kept || int(c.leases) != len(s.connections.leases(n)) {
			t.Fatalf("connection %v has %d leases of %d, kept: %t", s.connections.key(c), c.leases, len(s.connections.leases(n)), c.kept)
		}
	}
}

// checkTables: what is in the tables belongs to something, and each text has its owner.
func checkTables(t *rapid.T, s *State) {
	sessions, rares, hiddens, texts := 0, 0, 0, 0
	replaced, ends, tombstones := 0, 0, 0
	owned := func(text table.Text, n uint32, of textOf) {
		if text == 0 {
			return
		}
		texts++
		if got := s.texts.Owner(text); got != n<<ownerBits|uint32(of) {
			t.Fatalf("the text %q of record %d has the owner %d", s.texts.Get(text), n, got)
		}
	}
	names := map[string]bool{}
	for n, u := range s.users.table.All() {
		owned(u.id, n, ofUser)
		owned(u.text, n, ofStatus)
		for at := u.sessions; at != 0; at = s.session(at).next {
			x := s.session(at)
			sessions++
			if !x.id.isUUID() {
				owned(x.id.text(), at, ofSession)
			}
			owned(x.device, at, ofDevice)
			names[s.platform(x)] = true
		}
		r := s.rare(u)
		if u.rare != 0 {
			rares++
		}
		if u.rare != 0 && r == (rare{}) {
			t.Fatalf("nothing is rare of user %q, who has a record for it", s.userID(u))
		}
		if h := s.hidden(u); h != nil {
			hiddens++
			owned(h.text, r.hidden, ofHidden)
		}
		for count, has := range map[*int]bool{&replaced: r.replaced, &ends: r.ends, &tombstones: r.tombstone} {
			if has {
				*count++
			}
		}
		if r.replaced != (s.replaced[n] != nil) || r.ends != (len(s.ends[n]) > 0) {
			t.Fatalf("user %q: %+v, replaced %v, ends %v", s.userID(u), r, s.replaced[n], s.ends[n])
		}
	}
	if s.sessions.Len() != sessions || s.rares.Len() != rares || s.hiddens.Len() != hiddens {
		t.Fatalf("%d sessions, %d rare, %d hidden, want %d, %d, %d", s.sessions.Len(), s.rares.Len(), s.hiddens.Len(), sessions, rares, hiddens)
	}
	if len(s.replaced) != replaced || len(s.ends) != ends || len(s.tombstones) != tombstones {
		t.Fatalf("%d replaced, %d ends, %d tombstones, want %d, %d, %d", len(s.replaced), len(s.ends), len(s.tombstones), replaced, ends, tombstones)
	}
	if s.texts.Len() != texts {
		t.Fatalf("there are %d texts, %d are somebody's", s.texts.Len(), texts)
	}
	for _, c := range s.connections.table.All() {
		names[s.server(c)] = true
	}
	if n := s.names.Used(); n != len(names) && n != len(names)-1 { // the empty one has no number
		t.Fatalf("%d names are in use, want %d", n, len(names))
	}
	outbox := 0
	for _, in := range s.instances {
		outbox += len(in.outbox)
	}
	if s.pendings.Len() != outbox {
		t.Fatalf("there are %d announcements, %d are in an outbox", s.pendings.Len(), outbox)
	}
}

// dump writes down everything that decides what the state does next; positions
// and what follows from them only where exact.
func dump(s *State, exact bool) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.epoch, s.generation, s.format, s.clock, s.params, slices.Collect(s.leases.freed.All()), s.leases.byNumber.Len())
	for _, id := range s.UserIDs() {
		u := s.users.get(id)
		fmt.Fprintf(&b, "%s %q until %d seen %d idle %d updated %d %s", id, s.text(u), s.rare(u).textUntil, u.lastSeen.ms(), u.idleSince.ms(), u.updatedAt.ms(), u.cause)
		for r := s.replacedOf(u); r != nil; r = r.next {
			fmt.Fprintf(&b, " replaced %s until %d %s %t", r.session, r.until, r.reason.wire(), r.pending)
		}
		for _, e := range s.pendingEnds(u) {
			fmt.Fprintf(&b, " to be told of %s %s", e.session, e.reason.wire())
		}
		s.walkFences(u, func(f *fence) { fmt.Fprintf(&b, " %x", f.key) })
		fmt.Fprint(&b, " set ", s.settings(u), u.erased, u.fenced, s.rare(u).tombstone)
		if h := s.hidden(u); h != nil {
			fmt.Fprintf(&b, " seen as %+v seen %d updated %d %s until %d idle %d gone %t ended %d", s.hiddenView(h), h.lastSeen, h.updatedAt, h.cause, h.until, h.idleSince, h.gone, h.ended)
		}
		b.WriteByte('\n')
		if exact {
			fmt.Fprintln(&b, "  ", u.revision, u.previous, s.tombstones[s.numberOf(u)])
			if h := s.hidden(u); h != nil {
				fmt.Fprintln(&b, "  ", h.revision, h.previous)
			}
		}
		for x := s.first(u); x != nil; x = s.after(x) {
			fmt.Fprintf(&b, "   %s %q %s live %t idle %t loginOnly %t terms %x due %d number %d login %d lost %d", s.sessionID(x), s.device(x), s.platform(x),
				x.live, x.idle, x.loginOnly, uint32(x.terms), s.dueAt(&x.lease), x.number, x.loginAt, x.lostAt)
			if c := s.connectionOf(&x.lease); c != nil {
				fmt.Fprintf(&b, " on %v", s.connections.key(c))
			}
			if g := s.gatewayOf(x); g != nil {
				fmt.Fprintf(&b, " by %v", g.key)
			}
			b.WriteByte('\n')
		}
	}
	for _, key := range []gatewayKey{{"g1", "p1"}, {"g1", "p2"}} {
		if g := s.gateways.byKey[key]; g != nil {
			fmt.Fprintln(&b, key, g.number, g.terms, g.seq, showDone(g), s.dueAt(&g.lease))
		}
	}
	fmt.Fprintln(&b, "format", s.format, "lame", s.connections.lame)
	for c := range s.connections.closed.All() {
		fmt.Fprintln(&b, s.names.Get(c.server), c.client, c.at)
	}
	var all []string // the order of those of one second is not the same everywhere
	s.walkAllFences(func(_ uint32, f *fence, until uint32) {
		all = append(all, fmt.Sprintf("%x %d %s", f.key, until, f.reason().wire()))
	})
	slices.Sort(all)
	fmt.Fprintln(&b, all, s.ended)
	if exact {
		for _, w := range s.instances {
			fmt.Fprint(&b, w.id, w.sequence, w.seen, w.maxFormat, w.current)
			var items []string // whose order within an entry decides nothing
			for _, at := range w.outbox {
				if u := s.currentUser(at); u != nil {
					o := s.pendings.At(at)
					items = append(items, fmt.Sprint(o.position, " ", s.userID(u), " ", o.hidden, o.since, o.all()))
				}
			}
			slices.Sort(items)
			fmt.Fprintln(&b, items)
		}
	}
	return b.String()
}

// TestG03_ComeAndGone: a gateway's user who comes and goes by one change was not
// seen ONLINE, so nothing that is seen changes without a revision.
func TestG03_ComeAndGone(t *testing.T) {
	m := newMachine(t)
	do := func(lines ...string) {
		e := entry.Entry{Header: m.header("A")}
		for _, line := range lines {
			c, _ := parseCommand(t, m.s, strings.Fields(line))
			e.Commands = append(e.Commands, c)
		}
		m.apply(t, &e)
	}
	do("open g1 p1 ttl=30s", "apply g1 p1 seq=1 login:alice:s1 lost:alice:s1")
	want := m.s.Status("alice", false)
	m.now += 1_000
	do("apply g1 p1 seq=2 login:alice:s1 lost:alice:s1")
	if got := m.s.Status("alice", false); !reflect.DeepEqual(got, want) {
		t.Errorf("Status(alice) = %+v, want %+v as before", got, want)
	}
}

// TestG04_OwedInSteps: a change that is taken over by a later one of its user is
// announced with that, also where a reader of Owed stops between the two.
func TestG04_OwedInSteps(t *testing.T) {
	m := newMachine(t)
	do := func(lines ...string) {
		e := entry.Entry{Header: m.header("A")}
		for _, line := range lines {
			c, _ := parseCommand(t, m.s, strings.Fields(line))
			e.Commands = append(e.Commands, c)
		}
		if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
			t.Fatal(err)
		}
	}
	do("login alice phone")
	cursor, _ := m.s.Pending("A", Cursor{}, 10, func(Announcement) {})
	do("set alice text=hello", "set bob text=hello", "login alice laptop")
	var told []string
	for more := true; more; {
		cursor, more = m.s.Pending("A", cursor, 1, func(a Announcement) {
			if a.Announce {
				told = append(told, a.UserID)
			}
		})
	}
	slices.Sort(told)
	if want := []string{"alice", "bob"}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

// showDone is what a gateway's last requests were answered, without revisions.
func showDone(g *gateway) (list []string) {
	for _, d := range g.done {
		list = append(list, fmt.Sprint(d.body, d.answer.Applied, d.answer.Failures))
	}
	return list
}
