package clienttest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"presence/pkg/protocol"
)

// known are the users that list and stats tell of, by their tokens.
func (s *Service) known() (tokens []string, byToken map[string]*user) {
	byToken = map[string]*user{}
	for id, u := range s.users {
		if token, err := protocol.EncodeToken(id); err == nil && u.public.Revision > 0 {
			tokens, byToken[token] = append(tokens, token), u
		}
	}
	slices.Sort(tokens)
	return tokens, byToken
}

func (s *Service) stats(Request, *struct{}) (any, error) {
	reply := protocol.StatsReply{Sessions: map[string]int{}, Gateways: len(s.leases), Leases: len(s.leases),
		Instances: []protocol.InstanceStats{{Writer: "clienttest", Format: 1, Answering: true}},
		Limits:    map[string]int64{}, Refusals: map[string]uint64{},
		Revision: s.revision, Epoch: s.epoch, AsOf: protocol.TimeOf(s.now), Stale: s.stale}
	_, users := s.known()
	for _, u := range users {
		reply.Leases += len(u.sessions)
		switch u.public.StatusType {
		case protocol.Online:
			reply.Users.Online++
		case protocol.Offline:
			reply.Users.Offline++
		default:
			reply.Users.Unlogined++
		}
		for _, x := range u.sessions {
			if x.Live && u.public.StatusType == protocol.Online {
				reply.Sessions[x.Platform]++
			}
		}
	}
	return reply, nil
}

func (s *Service) list(_ Request, m *protocol.ListRequest) (any, error) {
	reply := protocol.ListReply{Users: []protocol.Status{}, Revision: s.revision, Epoch: s.epoch, AsOf: protocol.TimeOf(s.now), Stale: s.stale}
	tokens, users := s.known()
	for _, token := range tokens {
		v := users[token].public
		if token <= m.Cursor || m.StatusType != 0 && v.StatusType != m.StatusType {
			continue
		}
		if len(reply.Users) == cmp.Or(m.Limit, protocol.MaxUsersPerList) {
			last, err := protocol.EncodeToken(reply.Users[len(reply.Users)-1].UserID)
			reply.Cursor = last
			return reply, err
		}
		reply.Users = append(reply.Users, v)
	}
	return reply, nil
}

func (s *Service) explain(_ Request, m *protocol.UserRequest) (any, error) {
	u := s.user(m.UserID)
	reply := protocol.ExplainReply{Public: u.public, Owner: u.owner, Availability: u.settings,
		Why:      []string{fmt.Sprintf("%d sessions, availability %s", len(u.sessions), u.availability())},
		Sessions: []protocol.SessionDetail{}, Ended: []protocol.EndedSession{},
		Revision: s.revision, Epoch: s.epoch, AsOf: protocol.TimeOf(s.now), Stale: s.stale}
	for _, x := range u.sessions {
		d := protocol.SessionDetail{Session: x.Session, EndsInSeconds: float64(x.TTLSeconds)}
		if x.lease != nil {
			d.Process = x.lease.key.process
		}
		reply.Sessions = append(reply.Sessions, d)
	}
	for id, reason := range u.ended {
		reply.Ended = append(reply.Ended, protocol.EndedSession{SessionID: id, Reason: reason, RememberedForSeconds: protocol.ReplacedKept.Seconds()})
	}
	slices.SortFunc(reply.Ended, func(a, b protocol.EndedSession) int { return cmp.Compare(a.SessionID, b.SessionID) })
	return reply, nil
}

func (s *Service) kick(_ Request, m *protocol.KickRequest) (any, error) {
	return s.end(m.UserID, m.SessionID), nil
}

func (s *Service) end(userID, sessionID string) protocol.KickReply {
	reply := protocol.KickReply{Ended: []string{}}
	s.change(func(c *change) {
		reply.Ended = c.touch(userID, protocol.CauseKicked).endAll(sessionID, protocol.EndKicked)
	})
	reply.Revision, reply.Epoch = s.revision, s.epoch
	return reply
}

func (s *Service) erase(_ Request, m *protocol.EraseRequest) (any, error) {
	reply := protocol.KickReply{Ended: []string{}, Epoch: s.epoch}
	if u := s.users[m.UserID]; u != nil {
		s.change(func(c *change) {
			t := c.touch(u.id, protocol.CauseErased)
			t.erased = true
			reply.Ended = t.endAll("", protocol.EndErased)
			t.text, t.textUntil, t.lastSeen, t.hidden = "", time.Time{}, 0, nil
			t.user.settings, t.overrideUntil = protocol.AvailabilitySettings{Lasting: protocol.Available}, time.Time{}
		})
		s.setContacts(u, nil)
	}
	reply.Revision = s.revision
	return reply, nil
}
