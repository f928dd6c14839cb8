package clienttest

import (
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// instance is the name of the one instance.
const instance = "clienttest"

// grain is the unit of the fake's time. The state machine's deadlines are multiples of it, so that
// Advance meets them exactly.
const grain = 100 * time.Millisecond

// tick is the longest time between two entries. To the state machine a longer one is an outage.
const tick = 2 * time.Second

// The fake has the service's state machine, but no journal: an entry is applied at once.

// begin begins an empty journal.
func (s *Service) begin(epoch string) {
	s.state, s.cursor = state.New(), state.Cursor{}
	s.appendTo(epoch, 1, nil, entry.Command{Kind: entry.SetFormat, Seq: entry.Format})
}

// do does one command.
func (s *Service) do(c entry.Command) (state.Result, error) {
	r := s.append(nil, c)[0]
	if r.Err != nil {
		return r, r.Err
	}
	return r, nil
}

// append applies an entry and announces what it changed.
func (s *Service) append(renewed []uint32, commands ...entry.Command) []state.Result {
	return s.appendTo(s.state.Epoch(), s.state.Generation(), renewed, commands...)
}

func (s *Service) appendTo(epoch string, generation uint32, renewed []uint32, commands ...entry.Command) []state.Result {
	position := s.state.Position()
	s.sequence++
	out, err := s.state.Apply(&entry.Entry{
		Header: entry.Header{
			Epoch: epoch, Generation: generation, Instance: instance, Sequence: s.sequence,
			LeaseClock: s.state.LeaseClock(), AnnouncedThrough: position, MaxFormat: entry.Format,
		},
		Renewed: renewed, Commands: commands,
	}, position+1, s.now.UnixMilli(), true)
	if err == nil && out.Fenced {
		err = fmt.Errorf("the entry at position %d counts as empty", position+1)
	}
	if err != nil {
		panic(err) // a defect of this package
	}
	s.cursor, _ = s.state.Pending(instance, s.cursor, math.MaxInt, s.announce)
	return out.Results
}

// announce publishes the events of a change.
func (s *Service) announce(a state.Announcement) {
	if a.Announce {
		subject, err := s.subjects.Event(a.UserID)
		trace := s.trace
		if a.Public.StatusType == protocol.Offline {
			trace = "" // as in the service (PROTOCOL 5.1)
		}
		s.publish(subject, err, a.Public, trace)
	}
	subject, err := s.subjects.Self(a.UserID)
	if a.Tell {
		s.publish(subject, err, a.Status, s.trace)
	}
	for _, e := range a.Self {
		s.publish(subject, err, e, s.trace)
	}
}

func (s *Service) publish(subject string, err error, event any, trace string) {
	if err != nil || s.mute {
		return
	}
	body, err := protocol.Marshal(event)
	if err == nil {
		m := nats.NewMsg(subject)
		m.Data = body
		if trace != "" {
			m.Header[protocol.TraceHeader] = []string{trace}
		}
		err = s.nc.PublishMsg(m)
	}
	s.complain(err)
}

// pass lets time pass in steps, so that deadlines fall due one after the other.
func (s *Service) pass(d time.Duration) {
	for d > 0 {
		step := min(d, tick)
		if due, ok := s.state.NextDue(); ok && due > 0 {
			step = min(step, time.Duration(due)*time.Millisecond)
		}
		s.now, d = s.now.Add(step), d-step
		s.append(s.renewals())
	}
}

// renewals are the leases that are renewed while time passes: those of clients that are
// connected, unless their renewals fail, and the one of SetStatus.
func (s *Service) renewals() (numbers []uint32) {
	for id, conn := range s.conns {
		if conn.silent.Load() {
			continue
		}
		for number, ofGateway := range s.state.BoundTo(s.server.ID(), id) {
			op := protocol.OpRenew
			if ofGateway {
				op = "gateway.renew"
			}
			if s.failing(op) == nil {
				numbers = append(numbers, number)
			}
		}
	}
	if number, ok := s.state.GatewayLease(instance, instance); ok {
		numbers = append(numbers, number)
	}
	return numbers
}

// connected notes a client's connection.
func (s *Service) connected(c *cableConn, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.closed {
		c.id = id
		s.conns[id] = c
	}
}

// disconnected notes the end of a client's connection.
func (s *Service) disconnected(c *cableConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed || c.id == 0 {
		c.closed = true
		return
	}
	c.closed = true
	delete(s.conns, c.id)
	s.append(nil, entry.Command{Kind: entry.Closed, Server: s.server.ID(), Client: c.id})
}
