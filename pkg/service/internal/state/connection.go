package state

// connectionKey names a NATS connection. A server start has an ID of its own,
// so a key never means two connections.
type connectionKey struct {
	server string
	client uint64
}

// connection is one that sessions are bound to, or that closed not long ago.
// Both are remembered because the broker's report of a closed connection and
// the login that binds to it travel apart and arrive in any order.
type connection struct {
	key      connectionKey
	closed   bool
	kept     bool  // in connections.closed
	closedAt int64 // lease clock
	sessions []*session
}

type connections struct {
	known  map[connectionKey]*connection
	closed []*connection // in the order of their closing
}

// bind makes a login's connection that of its session; none unbinds it.
func (s *State) bind(x *session, key connectionKey) {
	if x.connection != nil && x.connection.key == key {
		return
	}
	s.unbind(x)
	if key.server == "" {
		return
	}
	c := s.connections.findOrAdd(key)
	x.connection, x.bound = c, int32(len(c.sessions))
	c.sessions = append(c.sessions, x)
}

func (s *State) unbind(x *session) {
	c := x.connection
	if c == nil {
		return
	}
	last := len(c.sessions) - 1
	moved := c.sessions[last]
	c.sessions[x.bound], moved.bound = moved, x.bound
	c.sessions[last] = nil
	c.sessions = c.sessions[:last]
	x.connection = nil
	s.connections.drop(c)
}

// closeConnection notes that the broker closed a connection. Its sessions are
// lost a grace later unless a login binds them elsewhere.
func (s *State) closeConnection(key connectionKey) {
	c := s.connections.findOrAdd(key)
	if c.closed {
		return
	}
	c.closed, c.closedAt, c.kept = true, s.clock.lease, true
	s.connections.closed = append(s.connections.closed, c)
	if len(s.connections.closed) > maxClosed {
		s.connections.forgetOldest()
	}
	// Backwards, because a lost session leaves the list.
	for i := len(c.sessions) - 1; i >= 0; i-- {
		x := c.sessions[i]
		if x.live {
			s.schedule(x)
			continue
		}
		x.severed = true
		s.unbind(x)
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
		c = &connection{key: key}
		cs.known[key] = c
	}
	return c
}

func (cs *connections) forgetOldest() {
	c := cs.closed[0]
	cs.closed[0] = nil
	cs.closed = cs.closed[1:]
	c.kept = false
	cs.drop(c)
}

// drop forgets a connection that nothing refers to.
func (cs *connections) drop(c *connection) {
	if len(c.sessions) == 0 && !c.kept {
		delete(cs.known, c.key)
	}
}
