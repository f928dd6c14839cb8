package state

import (
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// hidden is the public view of a user who is invisible, or was and has not been
// seen ONLINE since (PROTOCOL 3). It is that of somebody who lost all sessions at
// the moment when it began, and goes on as that one's would: UNLOGINED when lost
// sessions are forgotten, without the text when that expires, unknown when a user
// without anything is forgotten. Nothing the user does touches it (G9).
type hidden struct {
	view
	lastSeen int64

	revision, previous uint64
	updatedAt          int64
	cause              cause

	// until, of the lease clock, is when the last of the lost sessions would be
	// forgotten; idleSince when the view had nothing to show any more, -1: it
	// has. gone says that it is that of somebody never seen.
	until, idleSince int64
	gone             bool
	// ended is until when the sessions are remembered that were ended by then,
	// as forgetAt has it.
	ended int64

	pending *pending // who has yet to announce the view for certain; nil: it is announced
}

// hide hides a user who has become invisible, before the change is given its
// revision, and shows one who is to be seen. rest is what is to be told the owner
// still; shown says that the user was hidden.
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

// lastView is what is seen from now on of a user who becomes invisible.
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

// nextStep is when, by the lease clock, the view changes by itself, and false
// for never, or not before something is announced.
func (h *hidden) nextStep(retention int64) (int64, bool) {
	switch {
	case h.statusType == protocol.Offline:
		return roundUp(h.until, forgetGrain), true
	case h.idleSince >= 0 && !h.gone && h.pending == nil:
		return roundUp(max(h.idleSince+retention, h.ended), forgetGrain), true
	}
	return 0, false
}

// stepHidden lets happen to the view of a hidden user what is due, as it would
// to a user who lost all sessions: the end of OFFLINE, and once it is announced
// that of everything.
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

// expireHiddenText clears the text that everybody sees of a hidden user.
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
