package client

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// rebindJitter spreads the logins after a reconnect. It is well below the
	// grace of a closed connection (PROTOCOL 4.1, 5 s).
	rebindJitter = 500 * time.Millisecond
	// renewRetry is the first wait after a failed renewal. No wait is longer than the
	// regular one.
	renewRetry = 250 * time.Millisecond
)

// keep keeps the session alive until it has ended or is closed. conn is the connection of
// the first login. The end of ctx interrupts a request under way.
func (s *Session) keep(ctx, conn context.Context) {
	defer close(s.kept)
	wait, failures := s.interval(), 0
	for s.pause(conn, wait) {
		next, err := s.c.link.wait(s.life)
		if err == nil {
			if (next != conn || s.hasNews()) && !sleep(s.life, jitter(rebindJitter)) {
				return
			}
			conn = next
			err = s.beat(ctx)
		}
		if err == nil {
			wait, failures = s.interval(), 0
			continue
		}
		if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, ErrClosed) {
			s.end(err, "")
		}
		wait = max(backoff(failures, renewRetry, s.interval()), retryAfter(err))
		failures++
		if s.life.Err() == nil {
			s.c.opts.Logger.Warn("keeping a session alive", "user", s.userID, "session", s.ID(), "retryIn", wait, "err", err)
		}
	}
}

// pause waits until it is time for the next renewal, a nudge asks for one, conn is lost, or there
// is news of the session. It reports whether the session goes on.
func (s *Session) pause(conn context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-s.wake:
			if !s.hasNews() { // a login since has made it old
				continue
			}
		case <-s.life.Done():
		case <-conn.Done():
		case <-s.nudged:
			s.nudged = s.c.link.nudges()
		case <-t.C:
		}
		return s.life.Err() == nil
	}
}

// beat renews the session, or logs it in again if the connection is new or there is news.
func (s *Session) beat(ctx context.Context) error {
	// An attempt must be over before the next one is due.
	ctx, cancel := context.WithTimeout(ctx, s.interval())
	defer cancel()
	return s.alone(ctx, func() error {
		if s.takeNews() || s.conn.Err() != nil {
			return s.login(ctx)
		}
		return s.renew(ctx)
	})
}

// renew makes one attempt to extend the lease. If the service has forgotten the session, it
// logs in again. It needs turn.
func (s *Session) renew(ctx context.Context) error {
	subject, err := s.c.subjects.Renew(s.userID)
	if err != nil {
		return err
	}
	idle := s.isIdle()
	req := protocol.RenewRequest{SessionID: s.ID(), Idle: &idle}
	var reply protocol.ChangeReply
	err = s.c.ask(ctx, request{subject: subject, body: req, repeatable: true}, &reply)
	switch {
	case errors.Is(err, protocol.ErrSessionNotFound):
		return s.login(ctx)
	case (errors.Is(err, protocol.ErrOverloaded) || errors.Is(err, protocol.ErrRateLimited)) && s.sure && idle == s.said:
		// The lease is extended all the same; only the answer was refused (PROTOCOL
		// 6). To ask again at once would add to the load.
		return nil
	case err == nil:
		s.said, s.sure = idle, true
		s.c.note(reply)
	case idle != s.said:
		s.sure = false // it may have been done
	}
	return err
}

// login makes one attempt to open or resume the session, bound to the current connection.
// If that is replaced before the reply comes, conn has ended, and keep logs in once more.
// It needs turn.
func (s *Session) login(ctx context.Context) error {
	subject, err := s.c.subjects.Login(s.userID)
	if err != nil {
		return err
	}
	conn, identity, err := s.c.link.identity(ctx)
	if err != nil {
		return err
	}
	if s.opts.Unbound {
		identity = nil
	}
	idle := s.isIdle()
	req := s.request(idle, identity)
	var reply protocol.LoginReply
	if err := s.c.ask(ctx, request{subject: subject, body: req, repeatable: true}, &reply); err != nil {
		return err
	}
	s.c.note(protocol.ChangeReply{Status: reply.Status, Revision: reply.Revision, Epoch: reply.Epoch})
	s.c.watch.ownMissed(s.userID) // what happened while it was not logged in
	s.conn, s.said, s.sure = conn, idle, true
	s.mu.Lock()
	s.logins.done(reply.Epoch, reply.Revision)
	s.ttl = max(time.Duration(reply.TTLSeconds)*time.Second, time.Second)
	s.mu.Unlock()
	return nil
}

func (s *Session) isIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle
}

// interval is the jittered time to the next renewal: at most a third of the TTL.
func (s *Session) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl/3*3/4 + jitter(s.ttl/12)
}
