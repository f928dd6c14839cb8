package clienttest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// maxRecorded bounds the requests that are remembered: of more, the last.
const maxRecorded = 4096

// ErrNoAnswer is an error for Fail and Intercept: the request gets no answer.
var ErrNoAnswer = errors.New("no answer")

// Options configure a Service. The zero value works.
type Options struct {
	// Prefix of all subjects; default protocol.DefaultPrefix.
	Prefix string
	// FriendNotifications is the service's switch: clients watch the contacts of
	// users who are logged in.
	FriendNotifications bool
	// DenySubscribe are subjects that clients may not subscribe to; see Service.DenySubscribe.
	DenySubscribe []string
	// MaxSubscriptions is how many a connection may have; 0: any number. The fake's own connection
	// has one for each kind of request.
	MaxSubscriptions int
}

// Service is the fake. Its methods may be called from any goroutine.
type Service struct {
	t        testing.TB // nil where Start started it
	server   *server.Server
	cable    *Cable // of all clients without a cable of their own
	nc       *nats.Conn
	subjects protocol.Subjects

	closing sync.Mutex
	closers []func() // in the order of opening
	access  access
	closed  sync.Once

	mu       sync.Mutex
	subs     []*nats.Subscription // nil: nobody answers
	state    *state.State
	sequence uint64       // of the last entry
	cursor   state.Cursor // how far changes are announced
	now      time.Time
	conns    map[uint64]*cableConn // of clients, by client ID
	known    map[string]contactList

	friendNotifications bool
	ttl                 time.Duration // of sessions and leases, where not 0
	scripted            int           // sessions that SetStatus opened
	stale, mute         bool
	trace               string // of the request at hand; empty: it names none
	fails               map[string]failure
	intercept           func(Request, func() (any, error)) (any, error)
	requests            []Request
}

// Request is a request that came. Op names its kind: login, renew, logout, set, status,
// contacts, get, stats, list, explain, admin.kick, admin.erase, gateway.open,
// gateway.renew, gateway.apply, gateway.close.
type Request struct {
	Op      string
	UserID  string // of a request about one user
	Gateway string // of a gateway's request
	Body    []byte
	// TraceParent is the trace that the request names; empty: none (PROTOCOL 5.1).
	TraceParent string
}

// Into reads the request's body into a message of package protocol.
func (r Request) Into(message any) error { return protocol.Unmarshal(r.Body, message) }

// New starts a fake for the time of a test. If a method cannot do what it is called for,
// the test fails.
func New(t testing.TB, opts Options) *Service {
	t.Helper()
	s, err := start(t, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a fake without a test, until Close: for examples, and to try something out.
// If a method cannot do what it is called for, it panics.
func Start(opts Options) (*Service, error) { return start(nil, opts) }

func start(t testing.TB, opts Options) (*Service, error) {
	a := access{denied: opts.DenySubscribe, maxSubs: opts.MaxSubscriptions}
	srv, err := startServer(a)
	if err != nil {
		return nil, err
	}
	s := &Service{
		t: t, server: srv, access: a, cable: new(Cable), subjects: protocol.NewSubjects(opts.Prefix),
		friendNotifications: opts.FriendNotifications,
		now:                 time.Now().Truncate(grain), conns: map[uint64]*cableConn{}, fails: map[string]failure{},
	}
	s.cable.of = s
	s.atClose(func() { srv.Shutdown(); srv.WaitForShutdown() })
	s.forget(uuid.NewString())
	if s.nc, err = nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(serviceUser, serviceUser), nats.MaxReconnects(-1)); err != nil {
		s.Close()
		return nil, err
	}
	s.atClose(s.nc.Close)
	s.Return()
	return s, nil
}

// Close ends the fake, and the clients and connections that it has made. With New it is
// called at the end of the test.
func (s *Service) Close() {
	s.closed.Do(func() {
		s.closing.Lock()
		defer s.closing.Unlock()
		for _, f := range slices.Backward(s.closers) {
			f()
		}
	})
}

func (s *Service) atClose(f func()) {
	s.closing.Lock()
	defer s.closing.Unlock()
	s.closers = append(s.closers, f)
}

func (s *Service) helper() {
	if s.t != nil {
		s.t.Helper()
	}
}

// check fails the test where there is an error.
func (s *Service) check(err error) {
	s.helper()
	switch {
	case err == nil:
	case s.t == nil:
		panic(err)
	default:
		s.t.Fatal(err)
	}
}

// complain is check for the fake's own goroutines, which may run after the test.
func (s *Service) complain(err error) {
	if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
		return
	}
	if s.t == nil {
		panic(err)
	}
	s.t.Error(err)
}

// forget begins an epoch in which nobody is known.
func (s *Service) forget(epoch string) {
	s.known = map[string]contactList{}
	s.begin(epoch)
}

// Leave makes the fake answer nothing until Return, as if no instance ran.
func (s *Service) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		_ = sub.Unsubscribe()
	}
	s.subs = nil
	s.complain(s.nc.Flush())
}

// Return makes it answer requests again. Nothing was forgotten.
func (s *Service) Return() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs != nil {
		return
	}
	for _, subject := range s.subjects.RequestSubjects() {
		sub, err := s.nc.QueueSubscribe(subject, protocol.ServiceName, s.handle)
		s.complain(err)
		s.subs = append(s.subs, sub)
	}
	s.complain(s.nc.Flush())
}

// Requests returns the requests of a kind that came, in order; all requests if op is empty.
// It remembers the last few thousand.
func (s *Service) Requests(op string) (list []Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if op == "" || r.Op == op {
			list = append(list, r)
		}
	}
	return list
}

// handle answers one request.
func (s *Service) handle(m *nats.Msg) {
	if m.Reply != "" && !s.subjects.ReplyAllowed(m.Reply) {
		return
	}
	r, err := s.parse(m)
	var reply any
	if err == nil {
		reply, err = s.answer(r)
	}
	if m.Reply == "" || errors.Is(err, ErrNoAnswer) {
		return
	}
	out := nats.NewMsg(m.Reply)
	if r.TraceParent != "" {
		out.Header[protocol.TraceHeader] = []string{r.TraceParent}
	}
	if err == nil {
		out.Data, err = protocol.Marshal(reply)
	}
	if len(out.Data) > protocol.MaxBodyBytes {
		err = protocol.ErrRequestTooLarge
	}
	if err != nil {
		e := protocol.AsError(err)
		out.Header.Set(protocol.ErrorCodeHeader, strconv.Itoa(e.Code))
		out.Header.Set(protocol.ErrorHeader, e.Name)
		out.Data, _ = protocol.Marshal(e)
	}
	_ = s.nc.PublishMsg(out) // it fails when the test is over
}

// parse reads a request's subject.
func (s *Service) parse(m *nats.Msg) (r Request, err error) {
	r.Body, r.TraceParent = m.Data, protocol.TraceParent(m.Header)
	rest := strings.TrimPrefix(m.Subject, s.subjects.Prefix()+".")
	last := rest[strings.LastIndex(rest, ".")+1:]
	switch {
	case strings.HasPrefix(rest, "user."):
		r.Op = last
		r.UserID, err = s.subjects.ParseUser(m.Subject)
	case strings.HasPrefix(rest, "gateway."):
		r.Op = "gateway." + last
		r.Gateway, err = s.subjects.ParseGateway(m.Subject)
	default:
		r.Op = rest
	}
	return r, err
}

// answer records the request and answers it.
func (s *Service) answer(r Request) (any, error) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	if len(s.requests) > maxRecorded {
		s.requests = slices.Delete(s.requests, 0, maxRecorded/2)
	}
	intercept := s.intercept
	s.mu.Unlock()
	if intercept == nil {
		return s.serve(r)
	}
	return intercept(r, func() (any, error) { return s.serve(r) })
}

// failure is what requests of a kind are answered with.
type failure struct {
	err  error
	once bool
}

// failing returns the error that the script has for a request of a kind, nil for none. It needs mu.
func (s *Service) failing(op string) error {
	f := s.fails[op]
	if f.once {
		delete(s.fails, op)
	}
	return f.err
}

// serve answers as the script says, or as the service would.
func (s *Service) serve(r Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = r.TraceParent
	defer func() { s.trace = "" }()
	h, ok := handlers[r.Op]
	if !ok {
		return nil, ErrNoAnswer
	}
	if err := s.failing(r.Op); err != nil {
		return nil, err
	}
	if s.stale && !h.query {
		return nil, protocol.ErrUnavailable
	}
	return h.answer(s, r)
}
