package state

import (
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/btree"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// Epoch names the journal; empty before the first entry.
func (s *State) Epoch() string { return s.epoch }

// Generation counts epochs: entries of a lower one are of an earlier epoch.
func (s *State) Generation() uint32 { return s.generation }

// Position is that of the last entry applied.
func (s *State) Position() uint64 { return s.position }

// Revision is what the state is as of: all of the last entry's commands.
func (s *State) Revision() uint64 {
	if s.position == 0 {
		return 0
	}
	return s.position<<12 | (entry.IndexSpan - 1)
}

// AsOf is the journal's time at Revision.
func (s *State) AsOf() protocol.Time { return protocol.Time(s.clock.wall) }

// LeaseClock, in milliseconds, goes into the headers of entries.
func (s *State) LeaseClock() int64 { return s.clock.lease }

// InAmnesty reports whether deadlines are suspended after an outage (G6).
func (s *State) InAmnesty() bool { return s.clock.inAmnesty() }

// Params returns the rules in force.
func (s *State) Params() entry.Params { return s.params }

// Users, Sessions and Gateways count what is remembered, lost sessions included.
func (s *State) Users() int    { return s.users.table.Len() }
func (s *State) Sessions() int { return s.sessions.Len() }
func (s *State) Gateways() int { return len(s.gateways.byKey) }

// Leases counts those of sessions, lost ones included, and of gateways.
func (s *State) Leases() int { return s.leases.count() }

// Status returns what everybody sees of a user; UNLOGINED with revision 0 of
// one never seen. With detail it names the platforms of live sessions.
func (s *State) Status(userID string, detail bool) protocol.Status {
	u := s.users.get(userID)
	return s.seen(u, userID, detail)
}

// Statuses yields the Status of each of some users, in their order. Each is yielded in the same
// place, so what is kept must be copied. Most of its time is spent waiting for memory. So it takes
// each step for several users, one right after the other: the processor then waits for the memory
// of several at once.
func (s *State) Statuses(userIDs []string, detail bool) iter.Seq[*protocol.Status] {
	return func(yield func(*protocol.Status) bool) {
		var found [table.Several]found
		var st protocol.Status
		for rest := userIDs; len(rest) > 0; {
			some := rest[:min(table.Several, len(rest))]
			rest = rest[len(some):]
			s.find(some, &found)
			for i, id := range some {
				u := found[i].user
				if u != nil && found[i].id != id {
					u = s.users.get(id) // its hash is much like another one's
				}
				st = s.seen(u, id, detail)
				if !yield(&st) {
					return
				}
			}
		}
	}
}

// found is who most likely has an ID; nil where nobody has. The caller compares the IDs.
type found struct {
	user     *user
	id, text string
}

// find finds users, and reads what a status has of them. There are at most table.Several.
func (s *State) find(userIDs []string, list *[table.Several]found) {
	var numbers [table.Several]uint32
	var ids, texts [table.Several]table.Text
	var read int // without a use the compiler would leave the reading out
	s.users.index.Likely(userIDs, &numbers)
	for i := range userIDs {
		u := s.user(numbers[i])
		list[i].user, ids[i], texts[i] = u, 0, 0
		if u != nil {
			ids[i], texts[i] = u.id, u.text
			read += int(u.presence) // it is in another part of the record
		}
	}
	for i := range userIDs {
		list[i].id, list[i].text = s.texts.Get(ids[i]), s.texts.Get(texts[i])
	}
	for i := range userIDs {
		read += last(list[i].id) + last(list[i].text) // that may be in the next line of the cache
	}
	runtime.KeepAlive(read)
}

// last returns the last byte of a text.
func last(text string) int {
	if text == "" {
		return 0
	}
	return int(text[len(text)-1])
}

// seen is the Status of a user, who may be nil.
func (s *State) seen(u *user, userID string, detail bool) protocol.Status {
	if u == nil {
		return unknownUser(userID)
	}
	st := s.publicView(u, userID)
	if detail && s.hidden(u) == nil {
		for x := s.first(u); x != nil; x = s.after(x) {
			if x.live {
				st.Platforms = append(st.Platforms, s.platform(x))
			}
		}
		slices.Sort(st.Platforms)
		st.Platforms = slices.Compact(st.Platforms)
	}
	return st
}

// OwnStatus returns what the user's own devices see, what is set, and all
// sessions in the order of their logins.
func (s *State) OwnStatus(userID string) (protocol.Status, protocol.AvailabilitySettings, []protocol.Session) {
	u := s.users.get(userID)
	if u == nil {
		return unknownUser(userID), protocol.AvailabilitySettings{Lasting: protocol.Available}, []protocol.Session{}
	}
	return s.ownerView(u, userID), s.settings(u), s.sessionList(u)
}

// sessionList returns all sessions in the order of their logins.
func (s *State) sessionList(u *user) []protocol.Session {
	sessions := []protocol.Session{}
	for x := s.first(u); x != nil; x = s.after(x) {
		sessions = append(sessions, s.wire(x))
	}
	return sessions
}

// wire returns the session as its owner sees it.
func (s *State) wire(x *session) protocol.Session {
	shown := protocol.Session{
		SessionID:  s.sessionID(x).String(),
		Device:     s.device(x),
		Platform:   s.platform(x),
		Live:       x.live,
		Idle:       x.idle,
		Connection: s.boundTo(&x.lease),
		LoginAt:    protocol.Time(x.loginAt),
		LostAt:     protocol.Time(x.lostAt),
	}
	shown.Bound = shown.Connection != nil
	if g := s.gatewayOf(x); g != nil {
		shown.Gateway = g.key.gateway
	}
	s.showTerms(s.effectiveLease(x), &shown)
	return shown
}

// boundTo is the connection that a lease is bound to; nil for none.
func (s *State) boundTo(l *lease) *protocol.Connection {
	c := s.connectionOf(l)
	if c == nil {
		return nil
	}
	return &protocol.Connection{ServerID: s.server(c), ClientID: c.client}
}

// Lease returns the number of a session's lease, by which an entry may renew
// it, and false where it is not live or its idleness would change: such a
// renewal is a command.
func (s *State) Lease(userID, session string, idle *bool) (uint32, bool) {
	u := s.users.get(userID)
	if u == nil {
		return 0, false
	}
	x := s.sessionNamed(u, session)
	if x == nil || !x.live || x.bound.isGateway() || idle != nil && *idle != x.idle {
		return 0, false
	}
	return x.number, true
}

// WasReplaced reports whether a user's session was ended so that it must not come
// back by itself.
func (s *State) WasReplaced(userID, session string) bool {
	return s.wasEnded(s.users.get(userID), userID, session)
}

// GatewayLease returns the number of a gateway's lease, by which an entry may
// renew it.
func (s *State) GatewayLease(gatewayID, process string) (uint32, bool) {
	g := s.gateways.byKey[gatewayKey{gatewayID, process}]
	if g == nil {
		return 0, false
	}
	return g.number, true
}

// Renewed returns the result of a renewal by number, right after its entry was applied. It has
// the owner's view if a session was renewed, and not if a gateway was. Renewed returns false if
// the lease has ended since the renewal was packed.
func (s *State) Renewed(number uint32) (Result, bool) {
	h := s.leases.get(number)
	if h == 0 || !s.leaseOf(h).live {
		return Result{}, false
	}
	l := s.leaseOf(h)
	r := Result{Revision: s.Revision(), Terms: s.termsInForce(l)}
	if x := s.sessionOf(l); x != nil {
		u := s.userOf(x)
		r.Status = s.ownerView(u, s.userID(u))
	}
	return r, true
}

// BoundTo goes through the live leases that are bound to a connection: the number of each, by which
// an entry may renew it, and whether it is a gateway's.
func (s *State) BoundTo(server string, client uint64) iter.Seq2[uint32, bool] {
	return func(yield func(uint32, bool) bool) {
		for _, h := range s.connections.leases(s.connections.find(connectionKey{server, client})) {
			if l := s.leaseOf(h); l.live && !yield(l.number, h.isGateway()) {
				return
			}
		}
	}
}

// Bound returns the connections that leases are bound to and that are not known
// to be closed, by server.
func (s *State) Bound() map[string][]uint64 {
	bound := make(map[string][]uint64)
	for _, c := range s.connections.table.All() {
		if server := s.server(c); !c.closed && c.leases > 0 {
			bound[server] = append(bound[server], c.client)
		}
	}
	return bound
}

// maxLooked bounds how many users List looks at for one page, and pageOverhead what a page
// has beside its statuses.
const (
	maxLooked    = 10 * protocol.MaxUsersPerList
	pageOverhead = 4096
)

// order is the users in the order of their tokens, without those who look like
// somebody never seen: these are not listed, and there may be so many of them in a
// row that nobody may wait for a walk over them. It is made when the first page
// of a list is asked for, from the lowest number of a user to the highest, and kept
// from then on: who never lists pays nothing for it. To put a million users in
// order takes about as long as to restore them (BenchmarkOrder, BenchmarkRestore),
// which a start has no time for.
type order struct {
	tree *btree.BTreeG[uint32] // of users, by their numbers
	next uint32                // users from this number on have still to be put in; 0: none

	// pivots are the IDs from which lists go on. Each list under way has one, by a number that
	// no user has, because a tree compares numbers only.
	pivots    sync.Map
	lastPivot atomic.Uint32
}

// pivot is set in the numbers of pivots.
const pivot = 1 << 31

// degree of the tree: an item takes about 9 bytes.
const degree = 64

func (t *tables) newOrder() *order {
	o := &order{next: 1}
	id := func(n uint32) string {
		if n < pivot {
			return t.userID(t.user(n))
		}
		id, _ := o.pivots.Load(n)
		return id.(string)
	}
	o.tree = btree.NewG(degree, func(a, b uint32) bool { return protocol.CompareTokens(id(a), id(b)) < 0 })
	return o
}

// from calls yield for the users from an ID on, until it returns false.
func (o *order) from(id string, yield func(uint32) bool) {
	n := o.lastPivot.Add(1) | pivot
	o.pivots.Store(n, id)
	defer o.pivots.Delete(n)
	o.tree.AscendGreaterOrEqual(n, yield)
}

// Ordered reports whether Order has come to its end.
func (s *State) Ordered() bool { return s.users.order != nil && s.users.order.next == 0 }

// Order does a part of what List needs, for n users. It is guarded like Apply.
func (s *State) Order(n int) {
	if s.users.order == nil {
		s.users.order = s.newOrder()
	}
	o := s.users.order
	if o.next == 0 {
		return
	}
	for number, u := range s.users.table.From(o.next) {
		if n == 0 {
			o.next = number
			return
		}
		n--
		if s.publicRevision(u) != 0 {
			o.tree.ReplaceOrInsert(number)
		}
	}
	o.next = 0
}

// reorder puts a user in order who is to be listed from now on, and takes out one
// who is not any more. was is the public revision before.
func (s *State) reorder(u *user, was uint64) {
	switch is := s.publicRevision(u); {
	case s.users.order == nil || (is == 0) == (was == 0):
	case is == 0:
		s.users.order.tree.Delete(s.numberOf(u))
	default:
		s.users.order.tree.ReplaceOrInsert(s.numberOf(u))
	}
}

// List calls yield for the users behind after in the order of their tokens, of
// all or of one statusType, as everybody sees them: at most limit, and no more
// than a reply of so many bytes can hold, which must have room for one. It returns the last user looked at where there may be
// more, and empty where there are none. The users must be Ordered.
//
// A user who looks like one never seen neither is listed nor is looked at nor ends
// a page: nothing tells of such a one (G9).
func (s *State) List(after string, t protocol.StatusType, limit, most int, yield func(protocol.Status)) (last string) {
	looked, bytes, more := 0, 0, false
	s.users.order.from(after, func(n uint32) bool {
		u := s.user(n)
		if s.userID(u) == after {
			return true
		}
		if more = limit == 0 || looked == maxLooked; more {
			return false
		}
		if st := s.publicView(u, s.userID(u)); t == 0 || t == st.StatusType {
			if bytes += statusBytes(&st); bytes > most-pageOverhead {
				more = true
				return false
			}
			limit--
			yield(st)
		}
		looked, last = looked+1, s.userID(u)
		return true
	})
	if !more {
		return ""
	}
	return last
}

// statusBytes is no less than what a status has as JSON, where a byte takes two
// at most.
func statusBytes(st *protocol.Status) int { return 512 + 2*len(st.UserID) + 2*len(st.CustomStatus) }

// counts are kept up to date because nobody may wait for a walk over all users.
type counts struct {
	users     [protocol.Unlogined + 1]int // by public statusType, without those of revision 0
	platforms map[string]int              // live sessions of users who are not hidden
}

// Counts returns how many users are shown in which statusType, and how many live
// sessions there are on which platform; the sessions of hidden users do not count
// (G9).
func (s *State) Counts() (users protocol.UserCounts, sessions map[string]int) {
	n := &s.counts.users
	return protocol.UserCounts{Online: n[protocol.Online], Offline: n[protocol.Offline], Unlogined: n[protocol.Unlogined]}, maps.Clone(s.counts.platforms)
}

// countUser counts a user of a public view in or out.
func (s *State) countUser(t protocol.StatusType, revision uint64, by int) {
	if revision != 0 {
		s.counts.users[t] += by
	}
}

// countSession counts a session in or out, where it is one that counts. What is live, idle or on
// a platform is counted out before that changes, and in afterwards.
func (s *State) countSession(x *session, by int) {
	u := s.userOf(x)
	if by > 0 {
		s.notePresence(u)
	}
	if s.hidden(u) == nil {
		s.countPlatform(x, by)
	}
}

func (s *State) countPlatform(x *session, by int) {
	if !x.live {
		return
	}
	if s.counts.platforms == nil {
		s.counts.platforms = make(map[string]int)
	}
	platform := s.platform(x)
	if n := s.counts.platforms[platform] + by; n != 0 {
		s.counts.platforms[platform] = n
	} else {
		delete(s.counts.platforms, platform)
	}
}

// countSessions counts the live sessions of a user in or out, who is not hidden.
func (s *State) countSessions(u *user, by int) {
	for x := s.first(u); x != nil; x = s.after(x) {
		s.countPlatform(x, by)
	}
}

// Remembered counts what the state keeps in memory, by names that stay, for operators
// who look for what grows. Each is bounded by what exists:
//
//	users              everybody known
//	leases             of sessions, lost ones included, and of gateways
//	free-numbers       numbers of leases that ended: as many as there were at once, or within
//	                   quarantine
//	connections        those that leases are bound to, and those that closed within State.closedKept
//	ended-sessions     see fences
//	ended-names        at most maxNamed
//	untold-ends        at most maxPendingEnds for each user
//	deadlines          at most two for each lease, see calendar
//	forgetting         at most two for each user
//	expiries           at most two for each user
//	outbox             what instances have yet to announce for certain, dead items included
//	digests            digestsKept
//	scratch            room kept for the users that the next entry changes
func (s *State) Remembered() map[string]int {
	outbox, untold := 0, 0
	for _, in := range s.instances {
		outbox += len(in.outbox)
	}
	for _, ends := range s.ends {
		untold += len(ends)
	}
	return map[string]int{
		"users": s.users.table.Len(), "leases": s.leases.count(), "free-numbers": s.leases.freed.Len(),
		"connections": s.connections.table.Len(), "ended-sessions": s.fenceTable.count, "ended-names": len(s.ended),
		"untold-ends": untold, "deadlines": s.due.entries, "forgetting": s.forgets.entries, "expiries": s.expiries.entries,
		"outbox": outbox, "digests": digestsKept, "scratch": cap(s.touched),
	}
}
