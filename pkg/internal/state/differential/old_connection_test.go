package differential

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
	key      connectionKey
	closed   bool
	kept     bool  // in connections.closed
	lame     bool  // its server is in connections.lame
	closedAt int64 // lease clock
	leases   []*lease
}

type connections struct {
	known  map[connectionKey]*connection
	closed []*connection // in the order of their closing; what is in it is never changed
	lame   []lameServer  // in the order of time

	// newlyBound has the connections that the current entry bound and that were not known
	// before.
	newlyBound []connectionKey
}

// bind makes a connection that of a lease; none unbinds it. One that closed does
// not take the place of one that is open: who names it is late.
func (s *State) bind(l *lease, key connectionKey) {
	if l.connection != nil && l.connection.key == key {
		return
	}
	if c := s.connections.known[key]; c != nil && c.closed && l.live && l.connection != nil && !l.connection.closed {
		return
	}
	s.unbind(l)
	if key.server == "" {
		return
	}
	if s.connections.known[key] == nil {
		s.connections.newlyBound = append(s.connections.newlyBound, key)
	}
	c := s.connections.findOrAdd(key)
	l.connection, l.bound = c, int32(len(c.leases))
	c.leases = append(c.leases, l)
}

func (s *State) unbind(l *lease) {
	c := l.connection
	if c == nil {
		return
	}
	last := len(c.leases) - 1
	moved := c.leases[last]
	c.leases[l.bound], moved.bound = moved, l.bound
	c.leases[last] = nil
	c.leases = c.leases[:last]
	l.connection = nil
	s.connections.drop(c)
}

// closeConnection notes that the broker closed a connection. The leases bound
// to it run out a grace later unless a login binds them elsewhere.
func (s *State) closeConnection(key connectionKey) {
	c := s.connections.findOrAdd(key)
	if c.closed {
		return
	}
	for _, l := range c.leases {
		switch {
		case l.session == nil:
		case l.live:
			s.preserve(l.session.user)
		default:
			s.change(l.session.user)
		}
	}
	c.closed, c.closedAt, c.kept = true, s.clock.lease, true
	s.connections.closed = append(s.connections.closed, c)
	if len(s.connections.closed) > maxClosed {
		s.connections.forgetOldest()
	}
	// Backwards, because a lost session leaves the list.
	for i := len(c.leases) - 1; i >= 0; i-- {
		l := c.leases[i]
		if l.live {
			s.schedule(l)
			continue
		}
		// Lost for its silence: a renewal brings it back, from format 3 on.
		l.session.loginOnly = s.format < 3
		s.unbind(l)
	}
}

// unbindConnection unbinds the leases of a connection whose NATS server does not
// answer: nobody would report its end. In force from format 3 on.
func (s *State) unbindConnection(key connectionKey) {
	c := s.connections.known[key]
	if s.format < 3 || c == nil || c.closed {
		return
	}
	for i := len(c.leases) - 1; i >= 0; i-- {
		l := c.leases[i]
		if l.session != nil {
			s.change(l.session.user)
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
	for len(s.connections.closed) > 0 && s.connections.closed[0].closedAt+closedKept <= s.clock.lease {
		s.connections.forgetOldest()
	}
}

func (cs *connections) findOrAdd(key connectionKey) *connection {
	c := cs.known[key]
	if c == nil {
		c = &connection{key: key, lame: len(cs.lame) > 0 && cs.isLame(key.server)}
		cs.known[key] = c
	}
	return c
}

func (cs *connections) forgetOldest() {
	c := cs.closed[0]
	cs.closed = cs.closed[1:] // append makes a new array in time
	c.kept = false
	cs.drop(c)
}

// drop forgets a connection that nothing refers to.
func (cs *connections) drop(c *connection) {
	if len(c.leases) == 0 && !c.kept {
		delete(cs.known, c.key)
	}
}
