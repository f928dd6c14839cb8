package clienttest

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"presence/pkg/protocol"
)

// scripted is the ID of the session that SetStatus opens.
const scripted = "clienttest"

// SetStatus makes a user show a status as others bring it about, and announces
// what that changes: ONLINE by a session of its own, unless there is a live one,
// with the text; OFFLINE has all sessions lost, UNLOGINED has them logged out, and
// neither keeps a text. It returns what everybody sees then.
func (s *Service) SetStatus(userID string, statusType protocol.StatusType, text string) protocol.Status {
	s.helper()
	if err := protocol.CheckUserID(userID); err != nil || statusType < protocol.Online || statusType > protocol.Unlogined || statusType != protocol.Online && text != "" {
		s.check(fmt.Errorf("SetStatus(%q, %v, %q) cannot be", userID, statusType, text))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.user(userID)
	s.change(func(c *change) {
		if statusType != protocol.Unlogined && (statusType == protocol.Online && u.owner.StatusType != protocol.Online || len(u.sessions) == 0) {
			delete(u.ended, scripted)
			_, _ = c.open(opened{userID: userID, sessionID: scripted, ttl: protocol.DefaultTTL}) // it cannot fail: none is live
		}
		switch statusType {
		case protocol.Online:
			if u.text != text || u.textUntil != (time.Time{}) {
				cause := protocol.CauseSet
				if u.owner.StatusType != protocol.Online {
					cause = protocol.CauseLogin
				}
				c.touch(userID, cause)
				u.text, u.textUntil = text, time.Time{}
			}
		case protocol.Offline:
			c.loseAll(u)
		case protocol.Unlogined:
			c.touch(userID, protocol.CauseLogout)
			u.sessions = nil
		}
	})
	return u.public
}

func (c *change) loseAll(u *user) {
	for _, x := range u.sessions {
		if x.Live {
			c.lose(u.id, x)
		}
	}
}

// SetAvailability sets the lasting value of what a user says, as the user would.
func (s *Service) SetAvailability(userID string, a protocol.Availability) {
	s.helper()
	s.check(a.Check())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(func(c *change) { _ = c.set(userID, &protocol.SetRequest{Availability: &a}) })
}

// Status returns what everybody sees of a user.
func (s *Service) Status(userID string) protocol.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.public(userID, true)
}

// Sessions returns a user's sessions, lost ones included.
func (s *Service) Sessions(userID string) []protocol.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user(userID).list()
}

// Kick ends all sessions of a user as an operator does, or those of these IDs.
func (s *Service) Kick(userID string, sessionIDs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(sessionIDs) == 0 {
		s.end(userID, "")
	}
	for _, id := range sessionIDs {
		s.end(userID, id)
	}
}

// Lose has all live sessions of a user lost, as their connections' end or their
// leases' would. A client that holds one logs in again when it next renews.
func (s *Service) Lose(userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(func(c *change) { c.loseAll(s.user(userID)) })
}

// Forget makes it as if the service had never known a session.
func (s *Service) Forget(userID, sessionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(func(c *change) {
		t := c.touch(userID, protocol.CauseExpired)
		delete(t.user.ended, sessionID)
		if x := t.session(sessionID); x != nil {
			t.remove(x)
		}
	})
}

// SetContacts changes whom a user knows, as another device would.
func (s *Service) SetContacts(userID string, contacts ...string) {
	s.helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.contacts(Request{UserID: userID}, &protocol.ContactsRequest{Replace: &contacts})
	s.check(err)
}

// SetFriendNotifications turns the service's switch. As in a service that is
// started again with another configuration, clients learn it when they next ask
// for contacts.
func (s *Service) SetFriendNotifications(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.friendNotifications = on
}

// Advance lets time pass: texts and overrides expire, lost sessions are forgotten
// after protocol.DefaultRetention. Leases do not run out.
func (s *Service) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	past := func(t time.Time) bool { return !t.IsZero() && !t.After(s.now) }
	for _, u := range s.users {
		s.change(func(c *change) {
			if past(u.textUntil) {
				c.touch(u.id, protocol.CauseExpired)
				u.text, u.textUntil = "", time.Time{}
			}
			if past(u.overrideUntil) {
				c.touch(u.id, protocol.CauseExpired)
				u.settings.Override, u.settings.OverrideExpiresAt, u.overrideUntil = "", 0, time.Time{}
			}
			for _, x := range append([]*session(nil), u.sessions...) {
				if !x.Live && past(x.LostAt.Time().Add(protocol.DefaultRetention)) {
					c.touch(u.id, protocol.CauseExpired)
					u.remove(x)
				}
			}
		})
	}
}

// Fail has requests of a kind (Request.Op) answered with an error, or with
// ErrNoAnswer not at all, until it is called with nil.
func (s *Service) Fail(op string, err error) {
	s.helper()
	s.setFailure(op, failure{err: err})
}

// FailNext is Fail for one request.
func (s *Service) FailNext(op string, err error) {
	s.helper()
	s.setFailure(op, failure{err: err, once: true})
}

func (s *Service) setFailure(op string, f failure) {
	s.helper()
	if _, ok := handlers[op]; !ok {
		s.check(fmt.Errorf("there is no kind of request %q", op))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.err == nil {
		delete(s.fails, op)
	} else {
		s.fails[op] = f
	}
}

// Intercept has f answer all requests, each by the message of package protocol
// that is the reply, or an error; next answers as without it. f may call any
// method, also before or after next. nil ends it.
func (s *Service) Intercept(f func(r Request, next func() (reply any, err error)) (any, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// SetStale makes the instance cut off from its journal (PROTOCOL 8, G12): what it
// answers may be old, and it refuses changes.
func (s *Service) SetStale(stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = stale
}

// SetMute has events lost before they reach anybody.
func (s *Service) SetMute(mute bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = mute
}

// SetTTL is what logins and leases are answered in place of what they asked for,
// to have clients renew soon: whole seconds.
func (s *Service) SetTTL(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl = ttl
}

// NewEpoch replaces the journal by an empty one: nobody is known, and revisions
// begin anew.
func (s *Service) NewEpoch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	s.revision = 1
}

// NextEpoch begins a new epoch on the state as it is, as a restart of presenced with a server
// inside does.
func (s *Service) NextEpoch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = uuid.NewString()
}

// Rollback is NewEpoch without a new epoch: as where a NATS server that is not presenced's was put
// back to an earlier state, which nobody but a client can tell.
func (s *Service) Rollback() {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch := s.epoch
	s.forget()
	s.epoch, s.revision = epoch, 1
}

// Publish publishes a message in the service's name, whatever it is.
func (s *Service) Publish(subject string, body []byte) {
	s.helper()
	s.check(s.nc.Publish(subject, body))
}

// Epoch names the journal, Revision is the last one of it.
func (s *Service) Epoch() string { s.mu.Lock(); defer s.mu.Unlock(); return s.epoch }

// Revision is that of the last change.
func (s *Service) Revision() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return s.revision }
