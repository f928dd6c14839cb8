package service

import (
	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/connections"
)

// leases are the state's leases as package connections knows them. What it learns of their
// connections is appended to the journal.
type leases struct{ s *Service }

var _ connections.Leases = leases{}

// lameDuckFormat is the first format of the journal that has LameDuck and Unbind.
const lameDuckFormat = 3

func (l leases) Bound() map[string][]uint64 {
	l.s.mu.RLock()
	defer l.s.mu.RUnlock()
	return l.s.state.Bound()
}

func (l leases) IsLame(server string) bool {
	l.s.mu.RLock()
	defer l.s.mu.RUnlock()
	return l.s.state.IsLame(server)
}

func (l leases) format() uint8 {
	l.s.mu.RLock()
	defer l.s.mu.RUnlock()
	return l.s.state.Format()
}

func (l leases) Closed(server string, client uint64) error {
	return l.s.journal.Report(entry.Command{Kind: entry.Closed, Server: server, Client: client})
}

func (l leases) Unbind(server string, client uint64) error {
	if l.format() < lameDuckFormat {
		return nil
	}
	return l.s.journal.Report(entry.Command{Kind: entry.Unbind, Server: server, Client: client})
}

// LameDuck has it appended that a server shuts down. Other instances do the same, and the first
// one counts.
func (l leases) LameDuck(server string) error {
	switch {
	case l.IsLame(server):
		return nil
	case l.format() < lameDuckFormat:
		l.s.log.Warn("a NATS server shuts down, and not every instance knows what to do then: leases bound to it keep their TTL", "server", server)
		return nil
	}
	l.s.log.Info("a NATS server shuts down: leases bound to it last half their TTL", "server", server)
	return l.s.journal.Report(entry.Command{Kind: entry.LameDuck, Server: server})
}
