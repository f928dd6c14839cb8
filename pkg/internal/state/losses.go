package state

import "time"

// Loss is that of a session or of a gateway that nobody ended: its lease ran out. It is for
// measuring how long that took.
type Loss struct {
	// Gateway says that a gateway was lost, with all of its sessions.
	Gateway bool
	// Server and Client name the closed connection that it was lost with. They are empty if it was
	// lost for its silence.
	Server string
	Client uint64
	// Silence is how long ago it last gave a sign of life, by the lease clock.
	Silence time.Duration
}

// maxLosses bounds what is noted of one entry. What is left out is only not measured.
const maxLosses = 1 << 16

// Losses returns what the last entry lost. The list is valid until the next Apply.
func (s *State) Losses() []Loss { return s.losses }

// noteLoss notes that the lease of a holder runs out. A lost session has no lease to lose.
func (s *State) noteLoss(h holder) {
	l := s.leaseOf(h)
	if !l.live || len(s.losses) >= maxLosses {
		return
	}
	x := Loss{Gateway: h.isGateway(), Silence: time.Duration(s.clock.lease-l.deadline+s.effectiveTTL(l)) * time.Millisecond}
	if c := s.connectionOf(l); c != nil && c.closed {
		key := s.connections.key(c)
		x.Server, x.Client = key.server, key.client
	}
	s.losses = append(s.losses, x)
}

// forgetLosses begins a new list.
func (s *State) forgetLosses() {
	clear(s.losses) // which has names of servers
	if s.losses = s.losses[:0]; cap(s.losses) > scratchKept {
		s.losses = nil
	}
}
