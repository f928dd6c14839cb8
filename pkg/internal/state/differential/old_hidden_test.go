package differential

import (
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// hidden is the public view of a user who is invisible, or was invisible and has not been
// seen ONLINE since (PROTOCOL 3). It looks as if the user had lost all sessions when it
// began, and changes like the view of such a user: to UNLOGINED when lost sessions are
// forgotten, to no text when the text expires, to a user never seen when a user without
// sessions is forgotten. Nothing that the user does changes it (G9).
type hidden struct {
	view
	lastSeen int64

	revision, previous uint64
	updatedAt          int64
	cause              cause

	// until, by the lease clock, is when the last lost session would be forgotten.
	// idleSince is since when the view has nothing to show; -1: it has something. gone
	// says that the view is that of a user never seen.
	until, idleSince int64
	gone             bool
	// ended is until when the sessions that had been ended are remembered, for forgetAt.
	ended int64

	pending *pending // in an instance's outbox; nil: the view is announced
}

// hide starts hiding a user who has become invisible, and stops hiding a user who is to
// be seen again. It is called before the change gets its revision. rest is what is still
// to be announced to the owner. shown says that the hiding has stopped.
func (s *State) hide(u *user, own view) (rest parts, shown bool) {
	switch invisible := u.chosen() == entry.Invisible; {
	case invisible && u.hidden == nil:
		s.countSessions(u, -1)
		u.needRare().hidden = s.lastView(u, own)
		return u.movePending(), false
	case !invisible && u.hidden != nil && own.statusType == protocol.Online:
		s.show(u)
		s.countSessions(u, +1)
		return 0, true
	}
	return 0, false
}

// show ends the hiding of a user.
func (s *State) show(u *user) {
	u.hidden.dropPending()
	u.hidden = nil
}

// lastView returns the public view, from now on, of a user who becomes invisible.
func (s *State) lastView(u *user, own view) *hidden {
	h := &hidden{view: own, lastSeen: u.lastSeen, revision: u.revision, previous: u.previous, updatedAt: u.updatedAt, cause: u.cause, idleSince: -1}
	h.availability = entry.Keep
	if own.statusType == protocol.Online {
		h.statusType, h.lastSeen, h.cause = protocol.Offline, s.clock.wall, byLoss
		if !s.params.Persistent {
			h.text, h.textUntil = "", 0
		}
	}
	for x := u.sessions; x != nil; x = x.next {
		if x.live {
			h.until = max(h.until, s.lostUntil())
		} else {
			h.until = max(h.until, x.deadline)
		}
	}
	for r := u.replaced; r != nil; r = r.next {
		h.ended = max(h.ended, r.until)
	}
	h.gone = h.revision == 0
	if h.statusType == protocol.Unlogined && h.text == "" {
		h.idleSince = u.idleSince
	}
	s.markHiddenIdle(h)
	return h
}

// nextStep returns when, by the lease clock, the view changes by itself. It returns false
// for never, and while the view has to be announced before.
func (h *hidden) nextStep(retention int64) (int64, bool) {
	switch {
	case h.statusType == protocol.Offline:
		return roundUp(h.until, forgetGrain), true
	case h.idleSince >= 0 && !h.gone && h.pending == nil:
		return roundUp(max(h.idleSince+retention, h.ended), forgetGrain), true
	}
	return 0, false
}

// stepHidden changes the view of a hidden user if that is due, as for a user who lost all
// sessions: OFFLINE becomes UNLOGINED; once that is announced, the view becomes that of a
// user never seen.
func (s *State) stepHidden(u *user) {
	h := u.hidden
	at, ok := h.nextStep(s.params.Retention)
	switch {
	case !ok || at > s.clock.lease:
	case h.statusType == protocol.Offline:
		s.change(u)
		h.statusType, h.cause = protocol.Unlogined, byExpiry
		s.markHiddenIdle(h)
	default:
		s.change(u)
		h.gone = true
		h.revision, h.previous, h.updatedAt, h.lastSeen = 0, 0, 0, 0
	}
}

// expireHiddenText clears the text in a hidden user's public view.
func (s *State) expireHiddenText(u *user) {
	h := u.hidden
	h.text, h.textUntil, h.cause = "", 0, byExpiry
	s.markHiddenIdle(h)
}

// markHiddenIdle is markIdle for the view.
func (s *State) markHiddenIdle(h *hidden) {
	if h.statusType == protocol.Unlogined && h.text == "" && h.idleSince < 0 {
		h.idleSince = s.clock.lease
	}
}
