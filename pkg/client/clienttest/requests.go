package clienttest

import (
	"encoding/json"

	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// handlers answer each kind of request. They hold mu.
var handlers = map[string]handler{
	protocol.OpLogin:    handle((*Service).login),
	protocol.OpRenew:    handle(byCommand(api.Renew)),
	protocol.OpLogout:   handle(byCommand(api.Logout)),
	protocol.OpSet:      handle(byCommand(api.Set)),
	protocol.OpStatus:   query((*Service).ownStatus),
	protocol.OpContacts: handle((*Service).contacts),
	"get":               query((*Service).get),
	"gateway.open":      handle((*Service).open),
	"gateway.renew":     handle(byLease(api.RenewGateway)),
	"gateway.apply":     handle((*Service).apply),
	"gateway.close":     handle(byLease(api.Close)),
	"stats":             query((*Service).stats),
	"list":              query((*Service).list),
	"explain":           query((*Service).explain),
	"admin.kick":        handle((*Service).kick),
	"admin.erase":       handle((*Service).erase),
}

type handler struct {
	answer func(*Service, Request) (any, error)
	query  bool // a stale instance answers it too
}

// handle decodes and checks a request's body for the method that answers it.
func handle[T any](f func(*Service, Request, *T) (any, error)) handler {
	return handler{answer: func(s *Service, r Request) (any, error) {
		body := new(T)
		err := r.Into(body)
		if err == nil {
			err = check(body)
		}
		if err != nil {
			return nil, err
		}
		return f(s, r, body)
	}}
}

func check(body any) error {
	switch b := body.(type) {
	case interface{ Check() error }:
		return b.Check()
	case interface{ Check(maxText int) error }:
		return b.Check(protocol.MaxCustomStatusBytes)
	}
	return nil
}

func query[T any](f func(*Service, Request, *T) (any, error)) handler {
	h := handle(f)
	h.query = true
	return h
}

// byCommand answers a user's request by a command.
func byCommand[T any](command func(user string, r *T) entry.Command) func(*Service, Request, *T) (any, error) {
	return func(s *Service, r Request, m *T) (any, error) {
		result, err := s.do(command(r.UserID, m))
		return *s.replies().Change(&result), err
	}
}

// byLease does the same for a gateway.
func byLease[T any](command func(gateway string, r *T) entry.Command) func(*Service, Request, *T) (any, error) {
	return func(s *Service, r Request, m *T) (any, error) {
		result, err := s.do(command(r.Gateway, m))
		return s.replies().Lease(&result), err
	}
}

func (s *Service) replies() api.Replies { return api.RepliesOf(s.state) }
func (s *Service) queries() api.Queries { return api.Queries{State: s.state, Stale: s.stale} }

func (s *Service) login(r Request, m *protocol.LoginRequest) (any, error) {
	result, err := s.bind(api.Login(r.UserID, m, m.Connection != nil && m.Connection.ServerID == s.server.ID()))
	return s.replies().Login(&result), err
}

func (s *Service) open(r Request, m *protocol.OpenRequest) (any, error) {
	result, err := s.bind(api.Open(r.Gateway, m))
	return s.replies().Lease(&result), err
}

// bind does a command that may bind a lease to a connection. If there is no such connection,
// it does what the service does after it has asked the broker.
func (s *Service) bind(c entry.Command) (state.Result, error) {
	if s.ttl != 0 {
		c.TTL = uint32(s.ttl.Milliseconds())
	}
	result, err := s.do(c)
	switch {
	case c.Server == "" || s.conns[c.Client] != nil && c.Server == s.server.ID():
	case c.Server == s.server.ID():
		s.append(nil, entry.Command{Kind: entry.Closed, Server: c.Server, Client: c.Client})
	default:
		s.append(nil, entry.Command{Kind: entry.Unbind, Server: c.Server, Client: c.Client})
	}
	return result, err
}

func (s *Service) apply(r Request, m *protocol.ApplyRequest) (any, error) {
	command, ops := api.Apply(r.Gateway, m, r.Body, protocol.MaxCustomStatusBytes)
	result, err := s.do(command)
	if err != nil {
		return nil, err
	}
	reply, err := s.replies().Apply(&result, ops, protocol.MaxBodyBytes)
	return *reply, err
}

func (s *Service) get(_ Request, m *protocol.GetRequest) (any, error) {
	var reply protocol.GetReply // who changes replies wants to see one
	err := json.Unmarshal(s.queries().Get(nil, m), &reply)
	return reply, err
}

func (s *Service) ownStatus(r Request, _ *struct{}) (any, error) {
	return s.queries().OwnStatus(r.UserID), nil
}

func (s *Service) stats(Request, *struct{}) (any, error) {
	reply := s.queries().Stats(instance)
	reply.Limits, reply.Refusals = map[string]int64{}, map[string]uint64{}
	return *reply, nil
}

func (s *Service) list(_ Request, m *protocol.ListRequest) (any, error) {
	for !s.state.Ordered() {
		s.state.Order(protocol.MaxUsersPerList)
	}
	if m.Limit == 0 {
		m.Limit = protocol.MaxUsersPerList
	}
	return *s.queries().List(m, protocol.MaxBodyBytes), nil
}

func (s *Service) explain(_ Request, m *protocol.UserRequest) (any, error) {
	return *s.queries().Explain(m.UserID), nil
}

func (s *Service) kick(_ Request, m *protocol.KickRequest) (any, error) {
	result, err := s.do(api.Kick(m))
	return *s.replies().Ended(&result), err
}

func (s *Service) erase(_ Request, m *protocol.EraseRequest) (any, error) {
	s.setContacts(m.UserID, nil)
	result, err := s.do(api.Erase(m))
	return *s.replies().Ended(&result), err
}
