package client

import (
	"slices"

	"github.com/google/uuid"

	"presence/pkg/protocol"
)

// logins are what a session remembers of its logins. By it the session can tell news from
// what is older than its last login, and its own connections from another client's.
type logins struct {
	epoch    string
	revision uint64 // of the last login that was answered
	own      []protocol.Connection
	news     news
	newsAsOf uint64 // the revision of the latest news
}

// news is what happened to a session without its holder.
type news int

const (
	noNews news = iota
	isLost
	isShared // another client has bound it
)

// ownConnections bounds how many connections are remembered that a session was bound to. The
// service may still name a few of them after they were replaced.
const ownConnections = 8

// done notes that a login was answered. A loss before it does not matter any more.
func (h *logins) done(epoch string, revision uint64) {
	h.epoch, h.revision = epoch, revision
	if h.news == isLost && h.newsAsOf <= revision {
		h.news = noNews
	}
}

// bind notes a connection that a login is about to name.
func (h *logins) bind(c *protocol.Connection) {
	if c == nil || slices.Contains(h.own, *c) {
		return
	}
	if len(h.own) == ownConnections {
		h.own = slices.Delete(h.own, 0, 1)
	}
	h.own = append(h.own, *c)
}

// look tells the user's sessions in this Client what the service says of them. It needs the watch's
// mu.
func (o *selfWatch) look() {
	for s := range o.sessions {
		id := s.ID()
		for i := range o.sessionList {
			if o.sessionList[i].SessionID == id {
				s.see(&o.sessionList[i], o.w.epoch, o.sessionsAsOf)
			}
		}
	}
}

// see takes in what the service says of the session, as of a revision.
func (s *Session) see(x *protocol.Session, epoch string, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.logins
	switch {
	case epoch != h.epoch || revision <= h.revision: // the last login is newer, or not answered yet
		return
	case x.Connection != nil && !slices.Contains(h.own, *x.Connection):
		h.news = isShared
	case !x.Live:
		h.news = max(h.news, isLost)
	default:
		return
	}
	h.newsAsOf = revision
	notify(s.wake)
}

func (s *Session) hasNews() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins.news != noNews
}

// takeNews reports whether the session has to log in because of news. If another client has bound
// the session, it gets another ID first.
func (s *Session) takeNews() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.logins.news
	s.logins.news = noNews
	if news == isShared {
		old := s.id
		s.id, s.shared = uuid.NewString(), true
		s.c.opts.Logger.Warn("another client has bound the session: opening one of another ID", "user", s.userID, "session", old, "now", s.id)
	}
	return news != noNews
}

// request is the login that the session asks for now.
func (s *Session) request(idle bool, connection *protocol.Connection) *protocol.LoginRequest {
	req := s.opts.request(idle, connection)
	s.mu.Lock()
	defer s.mu.Unlock()
	req.SessionID = s.id
	if s.shared {
		req.Device = "" // it is the name of the shared session's device, which would be replaced
	}
	s.logins.bind(connection)
	return req
}
