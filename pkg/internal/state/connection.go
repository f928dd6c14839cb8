package state

import (
	"fmt"
	"hash/maphash"
	"slices"

	"presence/pkg/internal/table"
)

// connectionKey names a NATS connection. A server start has an ID of its own,
// so a key never means two connections.
type connectionKey struct {
	server string
	client uint64
}

// connection is one that leases are bound to, or that closed not long ago.
// Both are remembered because the broker's report of a closed connection and
// the login that binds to it travel apart and arrive in any order.
type connection struct {
	client   uint64
	closedAt int64  // lease clock
	server   uint32 // a name
	leases   uint32 // how many are bound to it
	only     holder // the one that is, if it is one
	closed   bool
	kept     bool // in connections.closed
	lame     bool // its server is in connections.lame
}

// closedConnection is one that was closed.
type closedConnection struct {
	number, server uint32
	client         uint64
	at             int64 // lease clock
}

type connections struct {
	table  table.Blocks[connection]
	index  *table.Index[localKey]
	names  *table.Names
	closed table.Queue[closedConnection] // in the order of their closing
	lame   []lameServer                  // in the order of time

	// crowds has the leases of the connections that have several.
	crowds map[uint32][]holder

	// newlyBound has the connections that the current entry bound and that were not known
	// before.
	newlyBound []connectionKey
}

// localKey is a connectionKey with the server's number.
type localKey struct {
	server uint32
	client uint64
}

func (cs *connections) init(names *table.Names) {
	cs.names, cs.crowds = names, make(map[uint32][]holder)
	cs.index = table.NewIndex(func(k localKey) uint64 { return maphash.Comparable(seed, k) },
		func(n uint32) localKey { c := cs.table.At(n); return localKey{c.server, c.client} })
}

// find returns the number of a connection; 0 if it is not known.
func (cs *connections) find(key connectionKey) uint32 {
	server := cs.names.Find(key.server)
	if server == 0 && key.server != "" {
		return 0
	}
	return cs.index.Find(localKey{server, key.client})
}

// get returns a connection; nil if it is not known.
func (cs *connections) get(key connectionKey) *connection { return cs.table.At(cs.find(key)) }

// key returns the name of a connection.
func (cs *connections) key(c *connection) connectionKey {
	return connectionKey{cs.names.Get(c.server), c.client}
}

// leases returns the leases that are bound to a connection. The list changes when one is bound
// or unbound.
func (cs *connections) leases(n uint32) []holder {
	switch c := cs.table.At(n); {
	case c == nil || c.leases == 0:
		return nil
	case c.leases == 1:
		return []holder{c.only}
	}
	return cs.crowds[n]
}

// add adds a lease to those of a connection and returns its place among them.
func (cs *connections) add(n uint32, h holder) (place uint32) {
	c := cs.table.At(n)
	switch c.leases {
	case 0:
		c.only = h
	case 1:
		cs.crowds[n] = []holder{c.only, h}
		c.only = 0
	default:
		cs.crowds[n] = append(cs.crowds[n], h)
	}
	c.leases++
	return c.leases - 1
}

// remove takes out the lease at a place and returns the one that is there from now on; 0: none.
func (cs *connections) remove(n uint32, place uint32) (moved holder) {
	c := cs.table.At(n)
	c.leases--
	if c.leases == 0 {
		c.only = 0
		return 0
	}
	crowd := cs.crowds[n]
	moved = crowd[c.leases]
	crowd[place] = moved
	if c.leases == 1 {
		c.only = crowd[0]
		delete(cs.crowds, n)
	} else {
		cs.crowds[n] = crowd[:c.leases]
	}
	return moved
}

// bind makes a connection that of a lease; none unbinds it. One that closed does
// not take the place of one that is open: who names it is late.
func (s *State) bind(l *lease, key connectionKey) {
	bound := s.connectionOf(l)
	if bound != nil && s.connections.key(bound) == key {
		return
	}
	n := s.connections.find(key)
	if n != 0 && s.connections.table.At(n).closed && l.live && bound != nil && !bound.closed {
		return
	}
	s.unbind(l)
	if key.server == "" {
		return
	}
	if n == 0 {
		s.connections.newlyBound = append(s.connections.newlyBound, key)
		n = s.connections.insert(key)
	}
	s.bindTo(l, s.holderOf(l), n)
}

// bindTo binds a lease that is not bound.
func (s *State) bindTo(l *lease, h holder, n uint32) {
	l.bound, l.place = bound(n), s.connections.add(n, h)
}

func (s *State) unbind(l *lease) {
	if s.connectionOf(l) == nil {
		return
	}
	n := uint32(l.bound)
	if moved := s.connections.remove(n, l.place); moved != 0 {
		s.leaseOf(moved).place = l.place
	}
	l.bound, l.place = 0, 0
	s.connections.drop(n)
}

// closeConnection notes that the broker closed a connection. The leases bound
// to it run out a grace later unless a login binds them elsewhere.
func (s *State) closeConnection(key connectionKey) {
	cs := &s.connections
	n := cs.findOrAdd(key)
	c := cs.table.At(n)
	if c.closed {
		return
	}
	for _, h := range cs.leases(n) {
		switch x := s.sessionOf(s.leaseOf(h)); {
		case x == nil:
		case x.live:
			s.preserve(s.userOf(x))
		default:
			s.change(s.userOf(x))
		}
	}
	c.closed, c.closedAt = true, s.clock.lease
	cs.remember(n)
	if cs.closed.Len() > maxClosed {
		cs.forgetOldest()
	}
	// Backwards, because a lost session leaves the list.
	leases := cs.leases(n)
	for i := len(leases) - 1; i >= 0; i-- {
		l := s.leaseOf(leases[i])
		if l.live {
			s.schedule(l)
			continue
		}
		// Lost for its silence: a renewal brings it back, from format 3 on.
		l.loginOnly = s.format < 3
		s.unbind(l)
	}
}

// IsBound reports whether a lease is bound to a connection that is not known to be closed.
func (s *State) IsBound(server string, client uint64) bool {
	n := s.connections.find(connectionKey{server, client})
	c := s.connections.table.At(n)
	return c != nil && c.leases > 0 && !c.closed
}

// unbindConnection unbinds the leases of a connection whose NATS server does not
// answer: nobody would report its end. In force from format 3 on.
func (s *State) unbindConnection(key connectionKey) {
	n := s.connections.find(key)
	if s.format < 3 || n == 0 || s.connections.table.At(n).closed {
		return
	}
	leases := s.connections.leases(n)
	for i := len(leases) - 1; i >= 0; i-- {
		l := s.leaseOf(leases[i])
		if x := s.sessionOf(l); x != nil {
			s.change(s.userOf(x))
		}
		s.unbind(l)
	}
}

// NewlyBound yields the connections that the last entry bound leases to and that were not
// known before: they had no lease, and were not reported closed recently. The broker may
// know that they are closed. The connections are valid until the next Apply.
func (s *State) NewlyBound(yield func(server string, client uint64) bool) {
	for _, key := range s.connections.newlyBound {
		if !yield(key.server, key.client) {
			return
		}
	}
}

// expireConnections forgets connections that closed long ago.
func (s *State) expireConnections() {
	kept := s.closedKept()
	for s.connections.closed.Len() > 0 && s.connections.closed.First().at+kept <= s.clock.lease {
		s.connections.forgetOldest()
	}
}

// closedKept returns how long a closed connection is remembered. A login that arrives after the
// close of its own connection arrives within that time, and its session may still have its grace.
func (s *State) closedKept() int64 {
	if s.format < graceFormat {
		return closedKept
	}
	return s.params.LongestGrace() + closedLate
}

// findOrAdd returns the number of a connection.
func (cs *connections) findOrAdd(key connectionKey) uint32 {
	if n := cs.find(key); n != 0 {
		return n
	}
	return cs.insert(key)
}

// insert adds a connection that is not known.
func (cs *connections) insert(key connectionKey) uint32 {
	n, c := cs.table.New()
	c.server, c.client = cs.names.Take(key.server), key.client
	c.lame = len(cs.lame) > 0 && cs.isLame(key.server)
	cs.index.Add(n)
	return n
}

// remember keeps a connection that has closed.
func (cs *connections) remember(n uint32) {
	c := cs.table.At(n)
	c.kept = true
	cs.closed.Push(closedConnection{number: n, server: c.server, client: c.client, at: c.closedAt})
}

func (cs *connections) forgetOldest() {
	n := cs.closed.Pop().number
	cs.table.At(n).kept = false
	cs.drop(n)
}

// drop forgets a connection that nothing refers to.
func (cs *connections) drop(n uint32) {
	c := cs.table.At(n)
	if c.leases > 0 || c.kept {
		return
	}
	cs.index.Remove(n)
	cs.names.Release(c.server)
	cs.table.Free(n)
}

// Bounds of what is remembered of servers in lame duck mode, on the lease clock in
// milliseconds. A server stays in that mode for 2 minutes unless it is configured
// otherwise, and its ID is never used again.
const (
	lameKept = 24 * 3_600_000
	// maxLame is how many servers are remembered. A later one makes room by the oldest.
	maxLame = 256
)

// lameServer is a NATS server that shuts down: it reports closed connections no
// more. Until it is gone a lease that is bound there lasts half its TTL.
type lameServer struct {
	id    string
	since int64 // lease clock
}

// lameDuck notes that a server is in lame duck mode. The leases that are bound there
// run out after half their TTL from now at the latest, unless they are renewed. In
// force with format 3.
func (s *State) lameDuck(server string) {
	if s.format < 3 || s.connections.isLame(server) {
		return
	}
	if len(s.connections.lame) >= maxLame {
		s.forgetLame()
	}
	s.connections.lame = append(s.connections.lame, lameServer{id: server, since: s.clock.lease})
	// In any order: each lease ends up as it would by itself.
	for n, c := range s.connections.table.All() {
		if s.server(c) != server {
			continue
		}
		c.lame = true
		for _, h := range s.connections.leases(n) {
			s.shorten(s.leaseOf(h))
		}
	}
}

// shorten lets a live lease run no longer than if it were renewed now.
func (s *State) shorten(l *lease) {
	until := s.clock.lease + s.effectiveTTL(l)
	if !l.live || l.deadline <= until {
		return
	}
	if x := s.sessionOf(l); x != nil {
		s.preserve(s.userOf(x))
	}
	s.setDeadline(l, until)
	s.schedule(l)
}

// effectiveTTL returns for how many milliseconds a renewal keeps a lease live.
func (s *State) effectiveTTL(l *lease) int64 {
	if len(s.connections.lame) > 0 {
		if c := s.connectionOf(l); c != nil && c.lame {
			return l.ttl() / 2
		}
	}
	return l.ttl()
}

// expireLame forgets servers that must be gone by now.
func (s *State) expireLame() {
	for len(s.connections.lame) > 0 && s.connections.lame[0].since+lameKept <= s.clock.lease {
		s.forgetLame()
	}
}

// forgetLame forgets the server that has been in lame duck mode for longest.
func (s *State) forgetLame() {
	server := s.connections.lame[0].id
	s.connections.lame = slices.Delete(s.connections.lame, 0, 1)
	for _, c := range s.connections.table.All() {
		if s.server(c) == server {
			c.lame = false
		}
	}
}

func (cs *connections) isLame(server string) bool {
	return slices.ContainsFunc(cs.lame, func(l lameServer) bool { return l.id == server })
}

// IsLame reports whether a server is known to be in lame duck mode.
func (s *State) IsLame(server string) bool { return s.connections.isLame(server) }

// appendLame adds the servers to what the digest hashes. Without any there is
// nothing to add, as earlier versions hash it.
func (s *State) appendLame(b []byte) []byte {
	for _, l := range s.connections.lame {
		b = appendText(b, l.id)
		b = appendNumbers(b, uint64(l.since))
	}
	return b
}

// lameFact tells the same for people.
func (s *State) lameFact() string {
	if len(s.connections.lame) == 0 {
		return "none"
	}
	last := s.connections.lame[len(s.connections.lame)-1]
	return fmt.Sprintf("%d, the last is %s since %d", len(s.connections.lame), last.id, last.since)
}
