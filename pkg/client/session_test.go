package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

func login(t *testing.T, c *client.Client, opts client.LoginOptions) *client.Session {
	t.Helper()
	s, err := c.Login(testContext(t), "alice", opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lastLogin returns the newest login and how many there were.
func (f *fake) lastLogin() (protocol.LoginRequest, int) {
	logins := asked[protocol.LoginRequest](f, protocol.OpLogin)
	return logins[len(logins)-1], len(logins)
}

// isLive reports whether alice has a live session of that ID.
func (f *fake) isLive(id string) bool {
	return slices.ContainsFunc(f.Sessions("alice"), func(s protocol.Session) bool { return s.SessionID == id && s.Live })
}

// saidIdle returns what renewals said of idleness.
func (f *fake) saidIdle() (list []bool) {
	for _, r := range asked[protocol.RenewRequest](f, protocol.OpRenew) {
		list = append(list, *r.Idle)
	}
	return list
}

func TestLogin(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	ctx := testContext(t)
	s := login(t, c, client.LoginOptions{Device: "laptop", Platform: "linux", TTL: 5500 * time.Millisecond, Idle: true})
	got, _ := f.lastLogin()
	clientID, _ := nc.GetClientID()
	if got.SessionID != s.ID() || protocol.CheckID(s.ID(), "") != nil || s.UserID() != "alice" {
		t.Errorf("session %q of %q, sent %q", s.ID(), s.UserID(), got.SessionID)
	}
	if got.Device != "laptop" || got.Platform != "linux" || got.TTLSeconds != 6 || !got.Idle {
		t.Errorf("sent %+v", got)
	}
	if got.Connection == nil || got.Connection.ServerID != nc.ConnectedServerId() || got.Connection.ClientID != clientID {
		t.Errorf("bound to %+v, want this connection", got.Connection)
	}

	if status, err := s.SetSelfStatus(ctx, "busy"); err != nil || status.CustomStatus != "busy" || status.StatusType != protocol.Online {
		t.Errorf("SetSelfStatus: %v, %v", status, err)
	}
	if own, err := s.Status(ctx); err != nil || own.Status.CustomStatus != "busy" {
		t.Errorf("Status: %v, %v", own, err)
	}
	if err := s.SetIdle(ctx, false); err != nil || !slices.Equal(f.saidIdle(), []bool{false}) {
		t.Errorf("SetIdle: %v, sent %v", err, f.saidIdle())
	}

	if s.Err() != nil {
		t.Errorf("it has ended: %v", s.Err())
	}
	for range 2 {
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	<-s.Done()
	if n := f.count(protocol.OpLogout); n != 1 || !errors.Is(s.Err(), client.ErrSessionClosed) {
		t.Errorf("%d logouts, ended with %v", n, s.Err())
	}
	if _, err := s.SetSelfStatus(ctx, "x"); !errors.Is(err, client.ErrSessionClosed) {
		t.Errorf("SetSelfStatus once closed: %v", err)
	}
	if err := s.SetIdle(ctx, true); !errors.Is(err, client.ErrSessionClosed) {
		t.Errorf("SetIdle once closed: %v", err)
	}

	login(t, c, client.LoginOptions{SessionID: "mine", Unbound: true})
	if got, _ := f.lastLogin(); got.SessionID != "mine" || got.Connection != nil {
		t.Errorf("unbound: sent %+v", got)
	}
	if _, err := c.Login(ctx, "", client.LoginOptions{}); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("without a user: %v", err)
	}
}

// A login whose answer is lost is repeated as the same session.
func TestLoginIsRepeatedAsTheSameSession(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{Timeout: 50 * time.Millisecond})
	f.Fail(protocol.OpLogin, clienttest.ErrNoAnswer)
	go func() {
		eventually(t, "the login has come", func() bool { return f.count(protocol.OpLogin) > 0 })
		f.Fail(protocol.OpLogin, nil)
	}()
	s := login(t, c, client.LoginOptions{})
	for _, got := range asked[protocol.LoginRequest](f, protocol.OpLogin) {
		if got.SessionID != s.ID() {
			t.Errorf("a login was of session %q, want %q", got.SessionID, s.ID())
		}
	}
	if n := len(f.Sessions("alice")); n != 1 || f.count(protocol.OpLogin) < 2 {
		t.Errorf("%d logins made %d sessions, want one", f.count(protocol.OpLogin), n)
	}
}

func TestSessionRenewsEveryThirdOfItsTTL(t *testing.T) {
	f := newFake(t)
	f.SetTTL(1 * time.Second)
	c, _, _ := f.connect(client.Options{})
	start := time.Now()
	login(t, c, client.LoginOptions{})
	eventually(t, "three renewals", func() bool { return f.count(protocol.OpRenew) >= 3 })
	if took := time.Since(start); took < 3*time.Second/4 {
		t.Errorf("three renewals took %v, want about a second", took)
	}
}

func TestSessionSurvivesFailedRenewals(t *testing.T) {
	f := newFake(t)
	f.SetTTL(1 * time.Second)
	c, _, _ := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{})
	f.Fail(protocol.OpRenew, clienttest.ErrNoAnswer)
	eventually(t, "two renewals without an answer", func() bool { return f.count(protocol.OpRenew) >= 2 })
	f.Fail(protocol.OpRenew, protocol.ErrUnavailable)
	asked := f.count(protocol.OpRenew)
	eventually(t, "two refused", func() bool { return f.count(protocol.OpRenew) >= asked+2 })
	f.Fail(protocol.OpRenew, nil)
	asked = f.count(protocol.OpRenew)
	eventually(t, "a renewal", func() bool { return f.count(protocol.OpRenew) > asked })
	if _, n := f.lastLogin(); n != 1 || s.Err() != nil {
		t.Errorf("%d logins, ended with %v, want one session renewed", n, s.Err())
	}
}

// TestSessionTakesOverloadedForRenewed: a renewal that is answered so is done
// (PROTOCOL 6), and is not repeated at once, which would add to the load. What
// it said of idleness is not done, unless that is not new.
func TestSessionTakesOverloadedForRenewed(t *testing.T) {
	f := newFake(t)
	f.SetTTL(3 * time.Second)
	c, _, _ := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{})
	f.Fail(protocol.OpRenew, protocol.ErrOverloaded)
	eventually(t, "a renewal", func() bool { return f.count(protocol.OpRenew) == 1 })
	refused := time.Now()
	eventually(t, "the next", func() bool { return f.count(protocol.OpRenew) == 2 })
	if took := time.Since(refused); took < 3*time.Second/4/2 {
		t.Errorf("the next renewal came after %v, want about a second", took)
	}

	done := make(chan error, 1)
	go func() { done <- s.SetIdle(testContext(t), true) }()
	asked := f.count(protocol.OpRenew)
	eventually(t, "SetIdle is tried again", func() bool { return f.count(protocol.OpRenew) > asked+1 })
	f.Fail(protocol.OpRenew, nil)
	if err := <-done; err != nil {
		t.Errorf("SetIdle after it was overloaded: %v", err)
	}
	if !f.Sessions("alice")[0].Idle {
		t.Errorf("the renewals said %v of idleness, want that alice is idle", f.saidIdle())
	}
}

func TestSessionThatIsForgottenLogsInAgain(t *testing.T) {
	f := newFake(t)
	f.SetTTL(1 * time.Second)
	c, _, _ := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{Idle: true})
	forget := func() { f.Forget("alice", s.ID()) }

	forget()
	eventually(t, "a login by renewal", func() bool { return f.isLive(s.ID()) })
	if got, _ := f.lastLogin(); got.SessionID != s.ID() || !got.Idle {
		t.Errorf("logged in again with %+v", got)
	}
	forget()
	if _, err := s.SetSelfStatus(testContext(t), "busy"); err != nil {
		t.Errorf("SetSelfStatus of a forgotten session: %v", err)
	}
	forget()
	if err := s.SetIdle(testContext(t), false); err != nil {
		t.Errorf("SetIdle of a forgotten session: %v", err)
	}
	if got, _ := f.lastLogin(); got.Idle {
		t.Errorf("logged in again with %+v, want not idle", got)
	}
}

func TestSessionLogsInOnEachNewConnection(t *testing.T) {
	f := newFake(t)
	c, nc, cable := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{})
	first, _ := f.lastLogin()
	for range 2 {
		_, before := f.lastLogin()
		cable.Cut()
		cable.Mend()
		eventually(t, "a login on the new connection", func() bool {
			got, n := f.lastLogin()
			clientID, _ := nc.GetClientID()
			return n > before && got.Connection.ClientID == clientID && clientID != first.Connection.ClientID
		})
	}
	if got, _ := f.lastLogin(); got.SessionID != s.ID() || s.Err() != nil {
		t.Errorf("logged in as %q, ended with %v, want the same session", got.SessionID, s.Err())
	}
}

// A login whose connection broke before the answer came is repeated on the
// next one, at once.
func TestLoginIsRepeatedOnTheNextConnection(t *testing.T) {
	f := newFake(t)
	c, nc, cable := f.connect(client.Options{Timeout: time.Hour}) // no timeout helps
	f.Fail(protocol.OpLogin, clienttest.ErrNoAnswer)
	done := make(chan *client.Session, 1)
	go func() {
		s, err := c.Login(testContext(t), "alice", client.LoginOptions{})
		if err != nil {
			t.Error(err)
		}
		done <- s
	}()
	eventually(t, "the login has come", func() bool { return f.count(protocol.OpLogin) == 1 })
	cable.Cut()
	f.Fail(protocol.OpLogin, nil)
	cable.Mend()
	<-done
	clientID, _ := nc.GetClientID()
	if got, n := f.lastLogin(); n != 2 || got.Connection.ClientID != clientID {
		t.Errorf("bound to %+v by login %d, want client %d by the second", got.Connection, n, clientID)
	}
}

func TestReplacedSessionEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trigger func(t *testing.T, s *client.Session, cable *clienttest.Cable)
	}{
		{"by renewal", func(*testing.T, *client.Session, *clienttest.Cable) {}},
		{"by a set", func(t *testing.T, s *client.Session, _ *clienttest.Cable) {
			if _, err := s.SetSelfStatus(testContext(t), "x"); !errors.Is(err, protocol.ErrSessionReplaced) {
				t.Errorf("SetSelfStatus: %v", err)
			}
		}},
		{"by the login after a reconnect", func(_ *testing.T, _ *client.Session, c *clienttest.Cable) { c.Cut(); c.Mend() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			if tt.name == "by renewal" {
				f.SetTTL(1 * time.Second)
			}
			c, _, cable := f.connect(client.Options{})
			s := login(t, c, client.LoginOptions{})
			f.SetMute(true) // it misses the event
			f.Kick("alice")
			tt.trigger(t, s, cable)
			<-s.Done()
			if !errors.Is(s.Err(), protocol.ErrSessionReplaced) {
				t.Errorf("ended with %v, want session_replaced", s.Err())
			}
			logins := f.count(protocol.OpLogin)
			if err := s.Close(testContext(t)); err != nil {
				t.Errorf("Close: %v", err)
			}
			if f.count(protocol.OpLogout) != 0 || f.count(protocol.OpLogin) != logins {
				t.Error("it logged out or in once more")
			}
		})
	}
}

func TestClosedConnectionEndsSessions(t *testing.T) {
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	s := login(t, c, client.LoginOptions{})
	nc.Close()
	<-s.Done()
	if !errors.Is(s.Err(), nats.ErrConnectionClosed) {
		t.Errorf("ended with %v, want that the connection is closed", s.Err())
	}
}

func TestCloseLogsOutOpenSessions(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	s, s2 := login(t, c, client.LoginOptions{}), login(t, c, client.LoginOptions{})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if f.isLive(s.ID()) || f.isLive(s2.ID()) || f.count(protocol.OpLogout) != 2 {
		t.Errorf("%d logouts, want both sessions'", f.count(protocol.OpLogout))
	}
	if _, err := c.Login(testContext(t), "alice", client.LoginOptions{}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Login on a closed client: %v", err)
	}
}

// A service that does not answer, or a broker that is away, holds nobody up
// for longer than the context, or the Timeout, says.
func TestCloseIsBounded(t *testing.T) {
	for _, name := range []string{"silent service", "no connection"} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c, _, cable := f.connect(client.Options{Timeout: 100 * time.Millisecond})
			s := login(t, c, client.LoginOptions{})
			login(t, c, client.LoginOptions{})
			f.Fail(protocol.OpLogout, clienttest.ErrNoAnswer)
			if name == "no connection" {
				cable.Cut()
			}
			ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
			defer cancel()
			if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Close: %v, want that the deadline passed", err)
			}
			<-s.Done()
			_ = c.Close()
		})
	}
}

func TestLogout(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	ctx := testContext(t)
	if err := c.Logout(ctx, "alice", "s1"); err != nil {
		t.Error(err)
	}
	if err := c.LogoutAll(ctx, "alice"); err != nil {
		t.Error(err)
	}
	if err := c.LogoutAll(ctx, "\n"); !errors.Is(err, protocol.ErrInvalidUserID) {
		t.Errorf("got %v", err)
	}
}

// Close does not wait for a login that waits for its turn to ask again.
func TestCloseDuringALogin(t *testing.T) {
	f := newFake(t)
	c, _, _ := f.connect(client.Options{})
	f.Fail(protocol.OpLogin, protocol.ErrRateLimited.RetryIn(time.Hour))
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	login := make(chan error, 1)
	go func() {
		_, err := c.Login(ctx, "alice", client.LoginOptions{})
		login <- err
	}()
	eventually(t, "asked", func() bool { return f.count(protocol.OpLogin) > 0 })
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("Close waits for it")
	}
	cancel()
	if err := <-login; err == nil {
		t.Error("logged in")
	}
}
