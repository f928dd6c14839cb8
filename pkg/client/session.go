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

// ErrSessionClosed is why a session ended that was closed by its owner.
var ErrSessionClosed = errors.New("the session was closed")

// Session is one login of one device, kept alive until Close. It renews its
// lease every third of the TTL, logs in again on each new connection, and when
// the service has forgotten it. It ends by itself when it was kicked, erased,
// logged out with all others or replaced by a later login of the same device
// (protocol.ErrSessionReplaced), which it is told at once or, where that was
// missed, learns by its next renewal; and when the *nats.Conn is closed
// (nats.ErrConnectionClosed). Done and Err tell. It never logs in again after
// that: two devices would replace each other for ever.
//
// When it learns that the service has lost the session while it lives, it logs in at once. When it
// learns that another client has bound the session to a connection of its own, as a duplicated tab
// does, it leaves that session to the other and opens one under a new ID, without its device's name,
// which would end the other's. It learns that within Options.Resync. Otherwise the two would take
// the session from each other for ever.
type Session struct {
	c      *Client
	userID string
	opts   LoginOptions // but for the session's ID

	life    context.Context    // ended by stop: keep makes no further request
	stop    context.CancelFunc // by Close, or when the session has ended
	abort   context.CancelFunc // ends the request that keep is making
	kept    chan struct{}      // closed when keep has returned
	done    chan struct{}      // closed when the session has ended
	closing sync.Once
	closed  error // what Close answers; guarded by closing

	wake   chan struct{}   // has keep look at what logins says; holds one
	nudged <-chan struct{} // the nudge that keep has not answered yet closes it

	// turn holds a token while a login, renewal or logout is under way:
	// requests are not ordered among each other (PROTOCOL 1).
	turn chan struct{}
	conn context.Context // the connection of the last login; guarded by turn
	// said is the idleness that the service has acknowledged last; sure, that
	// none was said since that may have been done. Guarded by turn.
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

// Login opens a session, or resumes the one of that ID, and keeps it alive. On
// an error it may have been opened nevertheless: then it is lost after its
// TTL, or logged out by Logout with the ID given.
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
	// Its end must not be missed, not even between the login and its answer.
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

// fail ends a session that nobody has got to see, and returns why.
func (s *Session) fail(why error) error {
	s.abort()
	s.end(why, "")
	return why
}

// adopt has the session kept alive until it ends, unless the Client is closed.
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

// ID returns the session's ID. It is another one after another client has bound the session to its
// own connection: see Session.
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

// EndReason says who ended a session that did not end by itself, where the
// service told; empty where it only refused it (Err says so too), or it ended
// otherwise.
func (s *Session) EndReason() protocol.EndReason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// SetSelfStatus sets the user's custom status, or clears it with an empty
// text, and returns the owner's view. It is refused unless this session is
// live; one that the service has forgotten logs in again first. On
// protocol.ErrOutcomeUnknown, which a missing answer is too, the change may
// have been or still be made: Client.Settle tells.
func (s *Session) SetSelfStatus(ctx context.Context, text string, opts ...SetOption) (protocol.Status, error) {
	return s.set(ctx, protocol.SetRequest{CustomStatus: &text}, opts)
}

// SetAvailability sets what the user says of how to be reached: the lasting value
// or, with ExpiresIn, an override of it. Otherwise it is as SetSelfStatus.
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

// SetIdle says whether somebody is at the device. If it fails, the next
// renewal says it.
func (s *Session) SetIdle(ctx context.Context, idle bool) error {
	s.mu.Lock()
	s.idle = idle
	s.mu.Unlock()
	return s.inTurn(ctx, s.renew)
}

// Status returns what the user sees of oneself, sessions included.
func (s *Session) Status(ctx context.Context) (protocol.OwnStatusReply, error) {
	return s.c.OwnStatus(ctx, s.userID)
}

// Close logs the session out, stops renewing it and waits for its goroutine.
// When the logout does not succeed before ctx ends, the session has ended all
// the same: the service loses it after its TTL. Closing what has ended does
// nothing; closing twice answers the same.
func (s *Session) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.close(ctx) })
	return s.closed
}

func (s *Session) close(ctx context.Context) error {
	s.stop()
	// A login that is under way must not be overtaken by the logout: let it
	// finish.
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
	defer s.end(ErrSessionClosed, "") // before the turn is given back
	if err := s.c.Logout(ctx, s.userID, s.ID()); err != nil {
		return fmt.Errorf("logging out %q: %w", s.userID, err)
	}
	return nil
}

// inTurn makes a request, with retries, while no other login, renewal or
// logout of this session is under way, unless the session has ended.
func (s *Session) inTurn(ctx context.Context, attempt func(context.Context) error) error {
	return s.alone(ctx, func() error {
		return s.c.retry(ctx, true, attempt)
	})
}

// alone runs f while it holds the turn, unless the session has ended.
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

// judge ends the session where err says that it was replaced, and returns err.
func (s *Session) judge(err error) error {
	if errors.Is(err, protocol.ErrSessionReplaced) {
		s.end(err, "")
	}
	return err
}

// endWords are what a session's error says of who ended it.
var endWords = map[protocol.EndReason]string{
	protocol.EndReplaced: "a later login of its device has replaced the session",
	protocol.EndKicked:   "an operator has ended the session",
	protocol.EndLogout:   "the user has logged out everywhere",
	protocol.EndErased:   "the user was erased",
}

// ended is told of a session that somebody else ended (PROTOCOL 5, kicked).
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
