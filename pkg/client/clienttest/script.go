package clienttest

import (
	"cmp"
	"fmt"
	"time"

	"github.com/google/uuid"

	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// SetStatus gives a user a status and a text, as if others had done it, with the events of
// that. For ONLINE it opens a session, unless the user has a live one. For OFFLINE all
// sessions are lost, for UNLOGINED they are logged out; neither has a text. It returns what
// everybody sees then.
func (s *Service) SetStatus(userID string, statusType protocol.StatusType, text string) protocol.Status {
	s.helper()
	if err := protocol.CheckUserID(userID); err != nil || statusType < protocol.Online || statusType > protocol.Unlogined || statusType != protocol.Online && text != "" {
		s.check(fmt.Errorf("SetStatus(%q, %v, %q) cannot be", userID, statusType, text))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own, _, sessions := s.state.OwnStatus(userID)
	var ops []entry.Command
	if own.CustomStatus != text || own.CustomStatusExpiresAt != 0 {
		ops = append(ops, api.Set(userID, &protocol.SetRequest{CustomStatus: &text}))
	}
	if len(sessions) == 0 && statusType != protocol.Unlogined || own.StatusType != protocol.Online && statusType == protocol.Online {
		s.scripted++
		opened := protocol.Session{SessionID: fmt.Sprint(instance, "-", s.scripted), Live: true}
		ops = append(ops, take(userID, opened))
		sessions = append(sessions, opened)
	}
	switch statusType {
	case protocol.Offline:
		ops = append(ops, lose(userID, sessions)...)
	case protocol.Unlogined:
		for _, x := range sessions {
			ops = append(ops, take(userID, x), entry.Command{Kind: entry.Logout, User: userID, Session: x.SessionID})
		}
	}
	s.act(ops)
	return s.state.Status(userID, true)
}

// act does ops as a gateway of its own, in one change. A gateway holds the sessions that it
// logs in, and may lose them or log them out.
func (s *Service) act(ops []entry.Command) {
	if len(ops) == 0 {
		return
	}
	open := api.Open(instance, &protocol.OpenRequest{Process: instance, TTLSeconds: int64(protocol.MaxTTL / time.Second)})
	r, err := s.do(open)
	if err == nil {
		r, err = s.do(entry.Command{Kind: entry.Apply, Gateway: instance, Process: instance, Seq: r.Seq + 1, Ops: ops})
	}
	s.complain(err)
	for _, f := range r.Gateway.Failures {
		s.complain(f.Err())
	}
}

// take makes that gateway hold a session, and opens the session if there is none.
func take(userID string, x protocol.Session) entry.Command {
	return entry.Command{Kind: entry.Login, User: userID, Session: x.SessionID, Device: x.Device, Platform: cmp.Or(x.Platform, "unknown"), Idle: x.Idle}
}

// lose are the ops by which a user's live sessions are lost.
func lose(userID string, sessions []protocol.Session) (ops []entry.Command) {
	for _, x := range sessions {
		if x.Live {
			ops = append(ops, take(userID, x), entry.Command{Kind: entry.Lost, User: userID, Session: x.SessionID})
		}
	}
	return ops
}

// SetAvailability sets the lasting value of a user's availability, as the user would.
func (s *Service) SetAvailability(userID string, a protocol.Availability) {
	s.helper()
	s.check(a.Check())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.append(nil, api.Set(userID, &protocol.SetRequest{Availability: &a}))
}

// Status returns what everybody sees of a user.
func (s *Service) Status(userID string) protocol.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Status(userID, true)
}

// Sessions returns a user's sessions, lost ones included.
func (s *Service) Sessions(userID string) []protocol.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, sessions := s.state.OwnStatus(userID)
	return sessions
}

// Kick ends all sessions of a user as an operator does, or only those with these IDs.
func (s *Service) Kick(userID string, sessionIDs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(sessionIDs) == 0 {
		sessionIDs = []string{""}
	}
	for _, id := range sessionIDs {
		s.append(nil, api.Kick(&protocol.KickRequest{UserID: userID, SessionID: id}))
	}
}

// Lose makes all live sessions of a user lost at once. A client that holds one logs in again as
// soon as it hears of that.
func (s *Service) Lose(userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, sessions := s.state.OwnStatus(userID)
	s.act(lose(userID, sessions))
}

// Forget makes the service forget a session, as if somebody else had logged it out.
func (s *Service) Forget(userID, sessionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.append(nil, api.Logout(userID, &protocol.LogoutRequest{SessionID: sessionID}))
}

// SetContacts changes whom a user knows, as another device would.
func (s *Service) SetContacts(userID string, contacts ...string) {
	s.helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.contacts(Request{UserID: userID}, &protocol.ContactsRequest{Replace: &contacts})
	s.check(err)
}

// SetFriendNotifications turns the service's switch. Clients hear of it when they next ask
// for contacts, as after a restart of the service with another configuration.
func (s *Service) SetFriendNotifications(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.friendNotifications = on
}

// Advance lets time pass, in multiples of 100 ms: texts and overrides expire, leases run out,
// sessions whose connection closed are lost after the grace, and lost ones are forgotten after
// protocol.DefaultRetention.
//
// Meanwhile clients that are connected renew what is bound to their connection, unless Fail makes
// renewals fail; with FailNext one renewal does, and the next is 2 s later. What is bound to no
// connection is not renewed. Leases do not run out while nobody runs (Leave), nor in the 30 s after
// Return (PROTOCOL 8, G6).
func (s *Service) Advance(d time.Duration) {
	s.helper()
	if d < 0 {
		s.check(fmt.Errorf("Advance(%v): time does not go back", d))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d = d.Truncate(grain); s.subs == nil {
		s.now = s.now.Add(d)
		return
	}
	s.pass(d)
}

// Fail makes requests of a kind (Request.Op) fail with an error, or stay without an answer
// with ErrNoAnswer, until it is called with nil.
func (s *Service) Fail(op string, err error) {
	s.helper()
	s.setFailure(op, failure{err: err})
}

// FailNext is Fail for the next request only.
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

// Intercept makes f answer all requests, by a message of package protocol or an error. next
// returns the answer without f. f may call any method, also before or after next. nil ends
// it.
func (s *Service) Intercept(f func(r Request, next func() (reply any, err error)) (any, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// SetStale cuts the instance off from its journal (PROTOCOL 8, G12): its answers may be
// old, and it refuses changes.
func (s *Service) SetStale(stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = stale
}

// SetMute makes events get lost before they reach anybody.
func (s *Service) SetMute(mute bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = mute
}

// SetTTL sets the TTL that sessions and leases get, in whole seconds, whatever they ask
// for. With a short one clients renew soon.
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
	s.forget(uuid.NewString())
}

// NextEpoch begins a new epoch and keeps the state, as a restart of presenced with a server inside
// does.
func (s *Service) NextEpoch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appendTo(uuid.NewString(), s.state.Generation()+1, nil, entry.Command{Kind: entry.NewEpoch})
}

// Rollback replaces the journal by an empty one in the same epoch, as when a NATS server elsewhere
// was put back to an earlier state. Only clients can notice that.
func (s *Service) Rollback() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(s.state.Epoch())
}

// Publish publishes any message in the service's name.
func (s *Service) Publish(subject string, body []byte) {
	s.helper()
	s.check(s.nc.Publish(subject, body))
}

// Epoch names the journal.
func (s *Service) Epoch() string { s.mu.Lock(); defer s.mu.Unlock(); return s.state.Epoch() }

// Revision is what answers are as of.
func (s *Service) Revision() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return s.state.Revision() }
