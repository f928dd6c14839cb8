package state

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
		if u != nil && u.pending != 0 {
			r.OwedBy = s.pendingAt(u)
			r.Why = append(r.Why, "erased: that is not announced for certain yet")
		}
		return r
	}
	for x := s.first(u); x != nil; x = s.after(x) {
		r.Sessions = append(r.Sessions, s.detail(x))
	}
	s.endedOf(u, func(session sessionID, reason endReason, until int64) {
		if left := until - s.clock.lease; left > 0 {
			r.Ended = append(r.Ended, protocol.EndedSession{SessionID: session.String(), Reason: reason.wire(), RememberedForSeconds: seconds(left)})
		}
	})
	if at, ok := s.nextForget(u); ok && u.idleSince.ms() >= 0 {
		r.ForgottenInSeconds = seconds(max(at-s.clock.lease, 0))
	}
	r.OwedBy = s.pendingAt(u)
	r.Why = s.why(u)
	return r
}

// pendingAt returns the ID of the instance that has something to announce of a user; empty: there
// is nothing.
func (s *State) pendingAt(u *user) string {
	at := u.pending
	if h := s.hidden(u); at == 0 && h != nil {
		at = h.pending
	}
	if at == 0 {
		return ""
	}
	return s.instanceOf(s.pendings.At(at)).id
}

// detail adds to a session what keeps it live.
func (s *State) detail(x *session) protocol.SessionDetail {
	d := protocol.SessionDetail{Session: s.wire(x)}
	l := s.effectiveLease(x)
	if g := s.gatewayOf(x); g != nil {
		d.Process = g.key.process
	}
	d.EndsInSeconds = seconds(s.dueAt(l) - s.clock.lease)
	d.Connection = s.boundTo(l)
	if c := s.connectionOf(l); c != nil && c.closed {
		d.ClosedSeconds = seconds(s.clock.lease - c.closedAt)
	}
	return d
}

// effectiveLease returns the lease that decides when a session's status ends: its own, or
// its gateway's.
func (s *State) effectiveLease(x *session) *lease {
	if g := s.gatewayOf(x); g != nil {
		return &g.lease
	}
	return &x.lease
}

// why names the rules that decided, in the order in which they do.
func (s *State) why(u *user) (why []string) {
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	s.whyStatus(u, say)
	s.whyAvailability(u, say)
	switch until := s.rare(u).textUntil; {
	case until != 0:
		say("the text ends at %s", clockTime(until))
	case u.text != 0 && s.params.Persistent:
		say("the text stays until it is cleared (policy persistent)")
	case u.text != 0:
		say("the text stays until the user stops being ONLINE (policy session)")
	}
	if h := s.hidden(u); h != nil {
		s.whyHidden(u, h, say)
	}
	if s.clock.inAmnesty() {
		say("nobody is lost or forgotten for another %s: there was an outage, of the service or of the broker", span(s.clock.amnestyUntil-s.clock.lease))
	}
	switch {
	case u.erased != notErased:
		say("erased: to be forgotten as soon as that is announced for certain")
	case u.idleSince.ms() >= 0:
		say("there is nothing left to remember but when the user was last seen and which sessions were ended: forgotten %s after that began", span(s.params.Retention))
	}
	return why
}

func (s *State) whyStatus(u *user, say func(string, ...any)) {
	t := u.statusType()
	if t == protocol.Unlogined {
		say("UNLOGINED: there is no session")
	}
	for x := s.first(u); x != nil; x = s.after(x) {
		switch {
		case x.live:
			say("ONLINE: session %s is live, %s", s.title(x), s.whyLive(x))
		case t == protocol.Offline:
			say("OFFLINE: session %s was lost %s, %s ago", s.title(x), x.loss.sentence(x.ttl()), span(s.clock.wall-x.lostAt))
		default:
			say("session %s was lost %s, %s ago, and does not matter while another is live", s.title(x), x.loss.sentence(x.ttl()), span(s.clock.wall-x.lostAt))
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
	l := s.effectiveLease(x)
	left := span(s.dueAt(l) - s.clock.lease)
	by := ""
	if g := s.gatewayOf(x); g != nil {
		by = fmt.Sprintf("held by gateway %s, ", g.key.gateway)
	}
	switch c := s.connectionOf(l); {
	case c == nil:
		return by + "for another " + left + " unless it is renewed"
	case c.lame && !c.closed:
		return by + "for another " + left + " unless it is renewed: its NATS server shuts down, so half of its TTL counts"
	case !c.closed:
		return by + "for another " + left + " unless it is renewed, or until its connection closes"
	case s.clock.inAmnesty():
		return by + "although its connection closed: there is an amnesty"
	}
	return by + "for another " + left + ": its connection closed and the grace of " + span(s.termsInForce(l).Grace) + " runs"
}

func (s *State) whyAvailability(u *user, say func(string, ...any)) {
	shown := u.statusType() == protocol.Online
	name := availabilities[s.chosen(u)]
	switch r := s.rare(u); {
	case r.override != entry.Keep && shown:
		say("%s: an override until %s, set by the user; lasting is %s", name, clockTime(r.overrideUntil), availabilities[u.lasting])
	case r.override != entry.Keep:
		say("%s is set until %s, lasting is %s; it shows while the user is ONLINE", name, clockTime(r.overrideUntil), availabilities[u.lasting])
	case u.lasting != entry.Available && shown:
		say("%s: set by the user, lasting", name)
	case u.lasting != entry.Available:
		say("%s is set, lasting; it shows while the user is ONLINE", name)
	case shown && u.presence == idle:
		say("away: all live sessions say that they are idle, and nothing else is set")
	}
}

func (s *State) whyHidden(u *user, h *hidden, say func(string, ...any)) {
	invisible := "was invisible, and has not been ONLINE and visible since"
	if s.chosen(u) == entry.Invisible {
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

func (l loss) sentence(ttl int64) string {
	switch l {
	case lostWithConnection:
		return "when its connection closed and the grace was over"
	case lostByGateway:
		return "by its gateway, or with it"
	}
	return "when nothing had been heard of it for " + span(ttl)
}

func (r endReason) sentence() string {
	return [...]string{"replaced by a later login of its device", "kicked by an operator", "a logout for good", "erased with all that was known"}[r]
}

// title names a session for people.
func (s *State) title(x *session) string {
	var more []string
	if device := s.device(x); device != "" {
		more = append(more, device)
	}
	more = append(more, s.platform(x))
	if x.idle {
		more = append(more, "idle")
	}
	return s.sessionID(x).String() + " (" + strings.Join(more, ", ") + ")"
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
