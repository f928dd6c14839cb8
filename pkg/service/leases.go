package service

import (
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/connections"
)

// leases shows the state's leases to package connections. What that package learns of connections
// is appended to the journal.
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
	return l.closed(server, client, causeClosed)
}

func (l leases) Missing(server string, client uint64) error {
	return l.closed(server, client, causeComparison)
}

func (l leases) closed(server string, client uint64, how cause) error {
	l.s.mu.RLock()
	bound := l.s.state.IsBound(server, client)
	l.s.mu.RUnlock()
	if bound {
		l.s.detections.closed(server, client, how, time.Now())
	}
	return l.s.journal.Report(entry.Command{Kind: entry.Closed, Server: server, Client: client})
}

func (l leases) Unbind(server string, client uint64) error {
	if l.format() < lameDuckFormat {
		return nil
	}
	return l.s.journal.Report(entry.Command{Kind: entry.Unbind, Server: server, Client: client})
}

// LameDuck appends that a server shuts down. Other instances do so too; the first entry counts.
func (l leases) LameDuck(server string) error {
	switch {
	case l.IsLame(server):
		return nil
	case l.format() < lameDuckFormat:
		l.s.log.Warn("a NATS server shuts down: leases bound to it keep their TTL, because not every instance has a version that halves it", "server", server)
		return nil
	}
	l.s.log.Info("a NATS server shuts down: leases bound to it last half their TTL", "server", server)
	return l.s.journal.Report(entry.Command{Kind: entry.LameDuck, Server: server})
}
