package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"presence/pkg/protocol"
)

// ErrSessionClosed is the error of a session that its owner has closed.
var ErrSessionClosed = errors.New("the session was closed")

// Session is one login of one device, kept alive until Close. It renews its lease every
// third of the TTL. It logs in again on each new connection, and if the service has
// forgotten it.
//
// It ends by itself when it was kicked, erased, logged out with all others, or replaced by
// a later login of the same device (protocol.ErrSessionReplaced). It hears that at once or,
// if it has missed the event, with its next renewal. It also ends when the *nats.Conn is
// closed (nats.ErrConnectionClosed). Done and Err tell. After that it never logs in again:
// two devices would replace each other for ever.
//
// If the service has lost the session while it lives, it logs in again as soon as it hears of that.
// If another client has bound the session to its own connection, as a duplicated browser tab does,
// it leaves the session to the other. It opens another one under a new ID, without the name of its
// device, because that would end the other's session. It notices within Options.Resync. Otherwise
// the two would take the session from each other for ever.
type Session struct {
	c      *Client
	userID string
	opts   LoginOptions // its SessionID is only the first one

	life    context.Context    // ended by stop: keep makes no further request
	stop    context.CancelFunc // called by Close, and when the session has ended
	abort   context.CancelFunc // interrupts a request of keep
	kept    chan struct{}      // closed when keep has returned
	done    chan struct{}      // closed when the session has ended
	closing sync.Once
	closed  error // the error of Close; guarded by closing

	wake   chan struct{}   // makes keep look at logins; holds one
	nudged <-chan struct{} // the nudge that keep has not answered yet closes it

	// turn holds a token while a login, renewal or logout is under way:
	// requests are not ordered among each other (PROTOCOL 1).
	turn chan struct{}
	conn context.Context // the connection of the last login; guarded by turn
	// said is the idleness that the service has last acknowledged. sure says that no
	// other may have been set since. Both are guarded by turn.
	said, sure bool

	mu     sync.Mutex
	id     string
	shared bool // the ID of opts is another client's by now
	logins logins
	idle   bool
	ttl    time.Duration
	err    error // why it ended
	reason protocol.EndReason
}

// Login opens a session, or resumes the one with that ID, and keeps it alive. On an error
// it may still have been opened: then it is lost after its TTL, or ended by Logout with the
// ID that you gave.
func (c *Client) Login(ctx context.Context, userID string, opts LoginOptions) (*Session, error) {
	if opts.SessionID == "" {
		opts.SessionID = uuid.NewString() // here, so that a retry resumes the same session
	}
	if err := opts.request(false, nil).Check(); err != nil {
		return nil, fmt.Errorf("logging in %q: %w", userID, err)
	}
	s := &Session{
		c: c, userID: userID, id: opts.SessionID, opts: opts, idle: opts.Idle,
		kept: make(chan struct{}), done: make(chan struct{}), turn: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), nudged: c.link.nudges(),
	}
	s.life, s.stop = context.WithCancel(context.Background())
	requests, abort := context.WithCancel(context.Background())
	s.abort = abort
	// Subscribe first: the end of the session may come before the answer to the login.
	if err := c.watch.own(s); err != nil {
		return nil, s.fail(fmt.Errorf("logging in %q: %w", userID, err))
	}
	if err := c.retry(ctx, true, s.login); err != nil {
		return nil, s.fail(fmt.Errorf("logging in %q: %w", userID, err))
	}
	if !c.adopt(s, requests) {
		return nil, s.fail(errors.Join(ErrClosed, c.Logout(ctx, userID, s.ID())))
	}
	if err := s.Err(); err != nil { // ended before it was adopted
		c.forget(s)
		return nil, fmt.Errorf("logging in %q: %w", userID, err)
	}
	return s, nil
}

// fail ends a session that was not returned to the caller, and returns why.
func (s *Session) fail(why error) error {
	s.abort()
	s.end(why, "")
	return why
}

// adopt starts the goroutine that keeps the session alive, unless the Client is closed.
func (c *Client) adopt(s *Session, requests context.Context) bool {
	conn := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.sessions[s] = struct{}{}
	c.done.Go(func() { s.keep(requests, conn) })
	return true
}

func (c *Client) forget(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// ID returns the session's ID. It changes if another client binds the session to its own
// connection, see Session.
func (s *Session) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// UserID returns the user.
func (s *Session) UserID() string { return s.userID }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session ended; nil while it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// EndReason says why somebody ended the session, if the service has told. It is empty if
// the service only refused the session (see Err), or if the session ended otherwise.
func (s *Session) EndReason() protocol.EndReason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// SetSelfStatus sets the user's custom status, or clears it with an empty text, and returns
// the owner's view. It is refused unless this session is live. If the service has forgotten
// the session, that logs in again first. After protocol.ErrOutcomeUnknown, also for a
// missing answer, the change may be done, now or later: Client.Settle tells.
func (s *Session) SetSelfStatus(ctx context.Context, text string, opts ...SetOption) (protocol.Status, error) {
	return s.set(ctx, protocol.SetRequest{CustomStatus: &text}, opts)
}

// SetAvailability sets how the user wants to be reached: the lasting value or, with
// ExpiresIn, an override of it. Otherwise it is like SetSelfStatus.
func (s *Session) SetAvailability(ctx context.Context, a protocol.Availability, opts ...SetOption) (protocol.Status, error) {
	return s.set(ctx, protocol.SetRequest{Availability: &a}, opts)
}

func (s *Session) set(ctx context.Context, req protocol.SetRequest, opts []SetOption) (protocol.Status, error) {
	if err := s.Err(); err != nil {
		return protocol.Status{}, err
	}
	req.SessionID = s.ID()
	ctx, cancel := s.c.bounded(ctx) // for all of it
	defer cancel()
	status, err := s.c.set(ctx, s.userID, req, opts)
	if errors.Is(err, protocol.ErrSessionNotFound) {
		if err = s.inTurn(ctx, s.login); err == nil {
			status, err = s.c.set(ctx, s.userID, req, opts)
		}
	}
	return status, s.judge(err)
}

// SetIdle says whether somebody is at the device. If it fails, the next renewal does it.
func (s *Session) SetIdle(ctx context.Context, idle bool) error {
	s.mu.Lock()
	s.idle = idle
	s.mu.Unlock()
	return s.inTurn(ctx, s.renew)
}

// Status returns the user's own view, sessions included.
func (s *Session) Status(ctx context.Context) (protocol.OwnStatusReply, error) {
	return s.c.OwnStatus(ctx, s.userID)
}

// Close logs the session out, stops renewing it and waits for its goroutine. If the logout
// does not succeed before ctx ends, the session has ended all the same, and the service
// loses it after its TTL. To close a session that has ended does nothing. A second Close
// returns what the first did.
func (s *Session) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.close(ctx) })
	return s.closed
}

func (s *Session) close(ctx context.Context) error {
	s.stop()
	// The logout must not overtake a login under way: wait for that.
	select {
	case <-s.kept:
	case <-ctx.Done():
	}
	s.abort()
	<-s.kept
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
	}
	if s.Err() != nil {
		return nil
	}
	defer s.end(ErrSessionClosed, "") // runs before the turn is given back
	if err := s.c.Logout(ctx, s.userID, s.ID()); err != nil {
		return fmt.Errorf("logging out %q: %w", s.userID, err)
	}
	return nil
}

// inTurn makes a request, with retries, while no other login, renewal or logout of this
// session is under way. If the session has ended it makes none.
func (s *Session) inTurn(ctx context.Context, attempt func(context.Context) error) error {
	return s.alone(ctx, func() error {
		return s.c.retry(ctx, true, attempt)
	})
}

// alone runs f while it holds the turn. If the session has ended it does not.
func (s *Session) alone(ctx context.Context, f func() error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.Err(); err != nil {
		return err
	}
	return s.judge(f())
}

// judge ends the session if err says that it was replaced, and returns err.
func (s *Session) judge(err error) error {
	if errors.Is(err, protocol.ErrSessionReplaced) {
		s.end(err, "")
	}
	return err
}

// endWords are the words of a session's error for each reason.
var endWords = map[protocol.EndReason]string{
	protocol.EndReplaced: "a later login of its device has replaced the session",
	protocol.EndKicked:   "an operator has ended the session",
	protocol.EndLogout:   "the user has logged it out for good, or logged out everywhere",
	protocol.EndErased:   "the user was erased",
}

// ended is called when an event says that somebody has ended the session (PROTOCOL 5,
// kicked).
func (s *Session) ended(reason protocol.EndReason) {
	words, ok := endWords[reason]
	if !ok {
		words = "the session was ended: " + string(reason)
	}
	s.end(protocol.ErrSessionReplaced.With(words), reason)
}

// end makes the session end, once.
func (s *Session) end(why error, reason protocol.EndReason) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err, s.reason = why, reason
	s.stop()
	close(s.done)
	s.mu.Unlock()
	s.c.forget(s)
	s.c.watch.disown(s)
}
