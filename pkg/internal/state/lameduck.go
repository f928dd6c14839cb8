package state

import (
	"fmt"
	"slices"
)

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
