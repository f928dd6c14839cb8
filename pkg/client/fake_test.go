package client_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers what the service would, so far that a client can be tested
// alone. The guarantees are tested against the real one elsewhere.
type fake struct {
	t        *testing.T
	url      string
	nc       *nats.Conn
	subjects protocol.Subjects

	mu       sync.Mutex
	epoch    string
	revision uint64
	users    map[string]protocol.Status
	sessions map[string]error // nil: live
	ttl      int64            // seconds, in login replies
	stale    bool
	fits     int              // users in a reply before it is too large; 0: any number
	fail     map[string]error // by op, "get" included: answered instead
	silent   map[string]bool  // by op: not answered at all
	onGet    func()           // between making the reply of a get and sending it
	asked    map[string]int   // by op
	gets     []protocol.GetRequest
	logins   []protocol.LoginRequest
	idle     []bool // as renewals said
}

func newFake(t *testing.T) *fake {
	return newFakeOn(t, &server.Options{})
}

func newFakeOn(t *testing.T, opts *server.Options) *fake {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, true
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(5 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	f := &fake{
		t: t, url: srv.ClientURL(), subjects: protocol.NewSubjects(""), epoch: "e1", revision: 1000, ttl: 120,
		users: map[string]protocol.Status{}, sessions: map[string]error{},
		fail: map[string]error{}, silent: map[string]bool{}, asked: map[string]int{},
	}
	f.nc, err = nats.Connect(f.url, nats.UserInfo("service", "pw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.nc.Close)
	for _, op := range []string{protocol.OpLogin, protocol.OpRenew, protocol.OpLogout, protocol.OpSet, protocol.OpStatus} {
		f.serve(f.subjects.AnyUser(op), op)
	}
	f.serve(f.subjects.Get(), "get")
	return f
}

// connect returns a client on a connection of its own, by way of a cable.
func (f *fake) connect(opts client.Options, more ...nats.Option) (*client.Client, *nats.Conn, *cable) {
	f.t.Helper()
	cb := &cable{}
	more = append(more, nats.SetCustomDialer(cb), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond),
		nats.ReconnectJitter(time.Millisecond, time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	nc, err := nats.Connect(f.url, more...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	c, err := client.New(nc, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c, nc, cb
}

func (f *fake) serve(subject, op string) {
	f.t.Helper()
	_, err := f.nc.Subscribe(subject, func(m *nats.Msg) {
		reply, err := f.answer(op, m)
		if reply == nil && err == nil {
			return
		}
		out := nats.NewMsg(m.Reply)
		if err != nil {
			e := protocol.AsError(err)
			out.Header.Set(protocol.ErrorCodeHeader, "400")
			out.Header.Set(protocol.ErrorHeader, e.Name)
			reply = e
		}
		out.Data, _ = protocol.Marshal(reply)
		_ = f.nc.PublishMsg(out)
	})
	if err == nil {
		err = f.nc.Flush()
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) answer(op string, m *nats.Msg) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[op]++
	if f.silent[op] {
		return nil, nil
	}
	if err := f.fail[op]; err != nil {
		return nil, err
	}
	userID, _ := f.subjects.ParseUser(m.Subject)
	switch op {
	case "get":
		return f.get(m)
	case protocol.OpLogin:
		var req protocol.LoginRequest
		_ = protocol.Unmarshal(m.Data, &req)
		f.logins = append(f.logins, req)
		if err := f.sessions[req.SessionID]; errors.Is(err, protocol.ErrSessionReplaced) {
			return nil, err
		}
		f.sessions[req.SessionID] = nil
		s := f.commit(userID, func(s *protocol.Status) { s.StatusType = protocol.Online })
		return protocol.LoginReply{SessionID: req.SessionID, TTLSeconds: f.ttl, Status: s, Revision: f.revision, Epoch: f.epoch}, nil
	case protocol.OpRenew:
		var req protocol.RenewRequest
		_ = protocol.Unmarshal(m.Data, &req)
		f.idle = append(f.idle, *req.Idle)
		return f.ifLive(req.SessionID, userID, func(*protocol.Status) {})
	case protocol.OpLogout:
		var req protocol.LogoutRequest
		_ = protocol.Unmarshal(m.Data, &req)
		f.sessions[req.SessionID] = protocol.ErrSessionNotFound
		return f.ifLive("", userID, func(s *protocol.Status) { s.StatusType = protocol.Unlogined })
	case protocol.OpSet:
		var req protocol.SetRequest
		_ = protocol.Unmarshal(m.Data, &req)
		return f.ifLive(req.SessionID, userID, func(s *protocol.Status) { s.CustomStatus = *req.CustomStatus })
	default:
		return protocol.OwnStatusReply{Status: f.status(userID), Revision: f.revision, Epoch: f.epoch}, nil
	}
}

func (f *fake) ifLive(sessionID, userID string, change func(*protocol.Status)) (any, error) {
	if sessionID != "" {
		if err, known := f.sessions[sessionID]; err != nil {
			return nil, err
		} else if !known {
			return nil, protocol.ErrSessionNotFound
		}
	}
	s := f.commit(userID, change)
	return protocol.ChangeReply{Status: s, Revision: f.revision, Epoch: f.epoch}, nil
}

func (f *fake) get(m *nats.Msg) (any, error) {
	var req protocol.GetRequest
	if err := protocol.Unmarshal(m.Data, &req); err != nil {
		return nil, err
	}
	f.gets = append(f.gets, req)
	if err := req.Check(); err != nil {
		return nil, err
	}
	if f.fits > 0 && len(req.UserIDList) > f.fits {
		return nil, protocol.ErrRequestTooLarge
	}
	reply := protocol.GetReply{Revision: f.revision, Epoch: f.epoch, Stale: f.stale}
	for _, id := range req.UserIDList {
		if err := f.fail["get "+id]; err != nil {
			reply.FailureUserList = append(reply.FailureUserList, protocol.Failure(id, err))
			continue
		}
		reply.SuccessUserList = append(reply.SuccessUserList, f.status(id))
	}
	if f.onGet != nil {
		f.mu.Unlock()
		f.onGet()
		f.mu.Lock()
	}
	return reply, nil
}

func (f *fake) status(userID string) protocol.Status {
	if s, ok := f.users[userID]; ok {
		return s
	}
	return protocol.Status{UserID: userID, StatusType: protocol.Unlogined}
}

// commit changes a user and announces it.
func (f *fake) commit(userID string, change func(*protocol.Status)) protocol.Status {
	old := f.status(userID)
	s := old
	change(&s)
	f.revision++
	if s.StatusType == old.StatusType && s.CustomStatus == old.CustomStatus {
		return old
	}
	s.Revision = f.revision
	f.users[userID] = s
	f.announce(protocol.Event{Status: s, Epoch: f.epoch, PreviousRevision: old.Revision, Cause: protocol.CauseSet})
	return s
}

func (f *fake) announce(ev protocol.Event) {
	subject, err := f.subjects.Event(ev.UserID)
	if err != nil {
		return
	}
	body, _ := protocol.Marshal(ev)
	_ = f.nc.Publish(subject, body)
}

// set changes a user's text as the service would by itself.
func (f *fake) set(userID, text string) protocol.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commit(userID, func(s *protocol.Status) { s.StatusType, s.CustomStatus = protocol.Online, text })
}

// setSecretly is a change whose event does not reach us; for use in with.
func (f *fake) setSecretly(userID, text string) {
	f.revision++
	f.users[userID] = protocol.Status{UserID: userID, StatusType: protocol.Online, CustomStatus: text, Revision: f.revision}
}

// with changes the fake itself.
func (f *fake) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[op]
}

// cable is a dialer whose connections can be cut.
type cable struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (c *cable) Dial(network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := net.Dial(network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
