package differential

import (
	"fmt"
	"strings"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// Explain returns everything about a user, hidden or not, and why the status is
// what it is, for an operator (PROTOCOL 4.8). Stale is left to the caller.
func (s *State) Explain(userID string) protocol.ExplainReply {
	r := protocol.ExplainReply{
		Public: s.Status(userID, true), Why: []string{},
		Sessions: []protocol.SessionDetail{}, Ended: []protocol.EndedSession{},
		Revision: s.Revision(), Epoch: s.epoch, AsOf: s.AsOf(),
	}
	r.Owner, r.Availability, _ = s.OwnStatus(userID)
	if s.clock.inAmnesty() {
		r.AmnestySeconds = seconds(s.clock.amnestyUntil - s.clock.lease)
	}
	u := s.users.get(userID)
	if u == nil || u.erased == erasedGone {
		r.Why = append(r.Why, "UNLOGINED: nothing is known of the user, who was never seen or is forgotten")
		if u != nil && u.pending != nil {
			r.OwedBy = u.pending.instance.id
			r.Why = append(r.Why, "erased: that is not announced for certain yet")
		}
		return r
	}
	for x := u.sessions; x != nil; x = x.next {
		r.Sessions = append(r.Sessions, s.detail(x))
	}
	s.endedOf(u, func(session sessionID, reason endReason, until int64) {
		if left := until - s.clock.lease; left > 0 {
			r.Ended = append(r.Ended, protocol.EndedSession{SessionID: session.String(), Reason: reason.wire(), RememberedForSeconds: seconds(left)})
		}
	})
	if at, ok := s.nextForget(u); ok && u.idleSince >= 0 {
		r.ForgottenInSeconds = seconds(max(at-s.clock.lease, 0))
	}
	switch {
	case u.pending != nil:
		r.OwedBy = u.pending.instance.id
	case u.hasPending():
		r.OwedBy = u.hidden.pending.instance.id
	}
	r.Why = s.why(u)
	return r
}

// detail adds to a session what keeps it live.
func (s *State) detail(x *session) protocol.SessionDetail {
	d := protocol.SessionDetail{Session: x.wire()}
	l := x.effectiveLease()
	if x.gateway != nil {
		d.Process = x.gateway.key.process
	}
	d.EndsInSeconds = seconds(l.dueAt(s.params.Grace) - s.clock.lease)
	if c := l.connection; c != nil {
		d.Connection = &protocol.Connection{ServerID: c.key.server, ClientID: c.key.client}
		if c.closed {
			d.ClosedSeconds = seconds(s.clock.lease - c.closedAt)
		}
	}
	return d
}

// effectiveLease returns the lease that decides when a session's status ends: its own, or
// its gateway's.
func (x *session) effectiveLease() *lease {
	if x.gateway != nil {
		return &x.gateway.lease
	}
	return &x.lease
}

// why names the rules that decided, in the order in which they do.
func (s *State) why(u *user) (why []string) {
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	s.whyStatus(u, say)
	s.whyAvailability(u, say)
	switch {
	case u.textUntil != 0:
		say("the text ends at %s", clockTime(u.textUntil))
	case u.text != "" && s.params.Persistent:
		say("the text stays until it is cleared (policy persistent)")
	case u.text != "":
		say("the text stays until the user stops being ONLINE (policy session)")
	}
	if h := u.hidden; h != nil {
		s.whyHidden(u, h, say)
	}
	if s.clock.inAmnesty() {
		say("nobody is lost or forgotten for another %s: there was an outage, of the service or of the broker", span(s.clock.amnestyUntil-s.clock.lease))
	}
	switch {
	case u.erased != notErased:
		say("erased: to be forgotten as soon as that is announced for certain")
	case u.idleSince >= 0:
		say("there is nothing left to remember but when the user was last seen and which sessions were ended: forgotten %s after that began", span(s.params.Retention))
	}
	return why
}

func (s *State) whyStatus(u *user, say func(string, ...any)) {
	t := u.statusType()
	if t == protocol.Unlogined {
		say("UNLOGINED: there is no session")
	}
	for x := u.sessions; x != nil; x = x.next {
		switch {
		case x.live:
			say("ONLINE: session %s is live, %s", x.title(), s.whyLive(x))
		case t == protocol.Offline:
			say("OFFLINE: session %s was lost %s, %s ago", x.title(), x.loss.sentence(x.ttl), span(s.clock.wall-x.lostAt))
		default:
			say("session %s was lost %s, %s ago, and does not matter while another is live", x.title(), x.loss.sentence(x.ttl), span(s.clock.wall-x.lostAt))
		}
	}
	s.endedOf(u, func(session sessionID, reason endReason, until int64) {
		if left := until - s.clock.lease; left > 0 {
			say("session %s was ended %s ago: %s", session, span(replacedKept-left), reason.sentence())
		}
	})
}

// whyLive says what keeps a session live.
func (s *State) whyLive(x *session) string {
	l := x.effectiveLease()
	left := span(l.dueAt(s.params.Grace) - s.clock.lease)
	by := ""
	if x.gateway != nil {
		by = fmt.Sprintf("held by gateway %s, ", x.gateway.key.gateway)
	}
	switch {
	case l.connection == nil:
		return by + "for another " + left + " unless it is renewed"
	case l.connection.lame && !l.connection.closed:
		return by + "for another " + left + " unless it is renewed: its NATS server shuts down, so half of its TTL counts"
	case !l.connection.closed:
		return by + "for another " + left + " unless it is renewed, or until its connection closes"
	case s.clock.inAmnesty():
		return by + "although its connection closed: there is an amnesty"
	}
	return by + "for another " + left + ": its connection closed and the grace of " + span(s.params.Grace) + " runs"
}

func (s *State) whyAvailability(u *user, say func(string, ...any)) {
	shown := u.statusType() == protocol.Online
	name := availabilities[u.chosen()]
	switch {
	case u.override != entry.Keep && shown:
		say("%s: an override until %s, set by the user; lasting is %s", name, clockTime(u.overrideUntil), availabilities[u.lasting])
	case u.override != entry.Keep:
		say("%s is set until %s, lasting is %s; it shows while the user is ONLINE", name, clockTime(u.overrideUntil), availabilities[u.lasting])
	case u.lasting != entry.Available && shown:
		say("%s: set by the user, lasting", name)
	case u.lasting != entry.Available:
		say("%s is set, lasting; it shows while the user is ONLINE", name)
	case shown && u.isIdle():
		say("away: all live sessions say that they are idle, and nothing else is set")
	}
}

func (s *State) whyHidden(u *user, h *hidden, say func(string, ...any)) {
	invisible := "was invisible, and has not been ONLINE and visible since"
	if u.chosen() == entry.Invisible {
		invisible = "is invisible"
	}
	shown := h.statusType.String()
	if h.gone {
		shown = "somebody never seen"
	}
	say("everybody else sees %s: the user %s", shown, invisible)
	if h.statusType == protocol.Offline {
		say("everybody else sees UNLOGINED in %s, when the sessions would be forgotten that would have been lost", span(roundUp(h.until, forgetGrain)-s.clock.lease))
	}
}

// loss says how a session was lost. The numbers are in snapshots.
type loss uint8

const (
	lostSilent loss = iota
	lostWithConnection
	lostByGateway
)

func (l loss) sentence(ttl uint32) string {
	switch l {
	case lostWithConnection:
		return "when its connection closed and the grace was over"
	case lostByGateway:
		return "by its gateway, or with it"
	}
	return "when nothing had been heard of it for " + span(int64(ttl))
}

func (r endReason) sentence() string {
	return [...]string{"replaced by a later login of its device", "kicked by an operator", "a logout for good", "erased with all that was known"}[r]
}

// title names a session for people.
func (x *session) title() string {
	var more []string
	if x.device != "" {
		more = append(more, x.device)
	}
	more = append(more, x.platform.Value())
	if x.idle {
		more = append(more, "idle")
	}
	return x.id.String() + " (" + strings.Join(more, ", ") + ")"
}

func seconds(milliseconds int64) float64 { return float64(milliseconds) / 1000 }

// span shows a time as long as people speak of it: 1.5s, 12s, 3h5m0s.
func span(milliseconds int64) string {
	d := time.Duration(max(milliseconds, 0)) * time.Millisecond
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// clockTime shows a wall time to the second.
func clockTime(wall int64) string {
	return protocol.Time(wall).Time().Format("2006-01-02 15:04:05 UTC")
}
