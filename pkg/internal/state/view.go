package state

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// cause is a protocol.Cause in one byte.
type cause uint8

const (
	byLogin cause = iota
	byLogout
	byLoss
	bySet
	byExpiry
	byKick
	byErasure
)

func (c cause) String() string {
	return string([...]protocol.Cause{protocol.CauseLogin, protocol.CauseLogout, protocol.CauseLost, protocol.CauseSet, protocol.CauseExpired,
		protocol.CauseKicked, protocol.CauseErased}[c])
}

// view is what can be seen of a user. A change that leaves it equal is not visible
// (PROTOCOL 2).
type view struct {
	text         string
	textUntil    int64
	statusType   protocol.StatusType
	availability entry.Availability
}

// own returns the view of the user's own devices.
func (s *State) own(u *user) view {
	return view{statusType: u.statusType(), text: s.text(u), textUntil: s.rare(u).textUntil, availability: s.availability(u)}
}

// public returns the view of everybody else. own is the result of State.own.
func (s *State) public(u *user, own view) view {
	if h := s.hidden(u); h != nil {
		return s.hiddenView(h)
	}
	return own
}

// publicRevision is the revision of the public view's last change.
func (t *tables) publicRevision(u *user) uint64 {
	if h := t.hidden(u); h != nil {
		return h.revision
	}
	return u.revision
}

// ownerView is the status as the user's own devices see it. The caller has the user's ID.
func (s *State) ownerView(u *user, id string) protocol.Status {
	return s.own(u).status(id, u.lastSeen.ms(), u.revision, u.updatedAt.ms())
}

// publicView is the status as everybody else sees it.
func (s *State) publicView(u *user, id string) protocol.Status {
	if h := s.hidden(u); h != nil {
		return s.hiddenView(h).status(id, h.lastSeen, h.revision, h.updatedAt)
	}
	return s.ownerView(u, id)
}

func (v view) status(id string, lastSeen int64, revision uint64, updatedAt int64) protocol.Status {
	st := protocol.Status{
		UserID:                id,
		StatusType:            v.statusType,
		CustomStatus:          v.text,
		CustomStatusExpiresAt: protocol.Time(v.textUntil),
		Availability:          wire(v.availability),
		Revision:              revision,
		UpdatedAt:             protocol.Time(updatedAt),
	}
	if st.StatusType != protocol.Online {
		st.LastSeenAt = protocol.Time(lastSeen)
	}
	return st
}

// unknownUser is the view of somebody who was never seen (PROTOCOL 4.5).
func unknownUser(id string) protocol.Status {
	return protocol.Status{UserID: id, StatusType: protocol.Unlogined}
}

// touched is a user that the current command may have changed, as the user was before.
type touched struct {
	user        *user
	own, public view
	revision    uint64 // of the public view
	cause       cause
	parts       parts // what is to be announced besides the views
	erased      bool  // the change erased the user, from format 3 on
}

// begin starts the change with an index in the current entry.
func (s *State) begin(index int) {
	s.revision = s.position<<12 | uint64(index)
}

// change must be called before anything of a user changes that a snapshot contains,
// sessions included. The deadlines of leases (see extend) and the outbox are
// exceptions. It saves the user for the snapshot that is being taken, and takes the
// user out of the digest until finish.
func (s *State) change(u *user) {
	if u.touched > 0 {
		return
	}
	s.preserve(u)
	s.digest -= s.hash(u)
	s.note(u)
}

// touch is change with the cause that the event will have. It is for changes that may
// be visible.
func (s *State) touch(u *user, cause cause) {
	s.change(u)
	s.touched[u.touched-1].cause = cause
}

// tell adds to what the current change has to announce of a user.
func (s *State) tell(u *user, what parts) {
	s.change(u)
	s.touched[u.touched-1].parts |= what
}

// note adds a user to those that finish looks at.
func (s *State) note(u *user) {
	t := touched{user: u, own: s.own(u), revision: s.publicRevision(u)}
	t.public = s.public(u, t.own)
	s.touched = append(s.touched, t)
	u.touched = int32(len(s.touched))
}

// finish ends a change. Users whose view has changed get its revision, and an
// announcement in the outbox of the entry's instance.
func (s *State) finish() {
	for i := range s.touched {
		t := &s.touched[i]
		t.user.touched = 0
		s.revise(t)
		s.markIdle(t.user)
		s.scheduleForget(t.user)
		s.dropRare(t.user)
		s.digest += s.hash(t.user)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	if cap(s.touched) > scratchKept { // after many users at once
		s.touched = nil
	}
}

// revise is finish for one user.
func (s *State) revise(t *touched) {
	u, what := t.user, t.parts
	if u.erased == erasedGone && !s.isForgettable(u) {
		u.erased = notErased // there is something to know again
	}
	own := s.own(u)
	rest, shown := s.hide(u, own)
	online := t.own.statusType == protocol.Online && own.statusType == protocol.Online
	if own != t.own || what&partOwner != 0 {
		u.revision, u.updatedAt, u.cause = s.revision, instantOf(s.clock.wall), t.cause
		switch {
		case shown:
			u.cause = byLogin
		case online && t.cause != byExpiry: // for example the end of the only active session
			u.cause = bySet
		}
		what |= partOwner
	}
	if public := s.public(u, own); public != t.public || what&partPublic != 0 {
		what |= partPublic
		if h := s.hidden(u); h != nil {
			h.revision, h.previous, h.updatedAt = s.revision, t.revision, s.clock.wall
		} else {
			u.previous = t.revision
		}
	}
	if t.erased {
		s.setTombstone(u, t.revision)
	}
	if !online {
		what &^= partSessions // there is no other device to tell
	}
	s.countUser(t.public.statusType, t.revision, -1)
	s.countUser(s.public(u, own).statusType, s.publicRevision(u), +1)
	s.reorder(u, t.revision)
	if what&partPublic != 0 && s.hidden(u) != nil {
		what &^= partPublic
		s.enqueueHidden(s.instance, u)
	}
	if what |= rest; what != 0 {
		s.enqueue(s.instance, u, what)
	}
}

// availabilities are the names of entry.Availability on the wire.
var availabilities = [...]protocol.Availability{
	entry.Available: protocol.Available,
	entry.Away:      protocol.Away,
	entry.Busy:      protocol.Busy,
	entry.DND:       protocol.DND,
	entry.Invisible: protocol.Invisible,
}

// chosen is the availability that is in force by the user's wish.
func (s *State) chosen(u *user) entry.Availability {
	if override := s.rare(u).override; override != entry.Keep {
		return override
	}
	return u.lasting
}

// availability is the one shown to the owner (PROTOCOL 3): the first line that
// holds. Everybody else sees the same, unless it is Invisible, see hidden.
//
//	not ONLINE                    none (Keep)
//	an override is in force       the override, below in the place of the lasting value
//	it is not Available           the lasting value
//	every live session is idle    Away
//	otherwise                     Available
func (s *State) availability(u *user) entry.Availability {
	switch chosen := s.chosen(u); {
	case !u.online():
		return entry.Keep
	case chosen != entry.Available:
		return chosen
	case u.presence == idle:
		return entry.Away
	}
	return entry.Available
}

// wire returns what a status carries of an availability.
func wire(a entry.Availability) protocol.Availability {
	if a <= entry.Available {
		return ""
	}
	return availabilities[a]
}

// settings are what the user has set, whatever is shown.
func (s *State) settings(u *user) protocol.AvailabilitySettings {
	set := protocol.AvailabilitySettings{Lasting: availabilities[u.lasting]}
	if r := s.rare(u); r.override != entry.Keep {
		set.Override, set.OverrideExpiresAt = availabilities[r.override], protocol.Time(r.overrideUntil)
	}
	return set
}

// setChosen notes what is chosen. The user is being changed.
func (s *State) setChosen(u *user, lasting, override entry.Availability, until int64) {
	u.lasting = lasting
	if r := s.rare(u); r.override != override || r.overrideUntil != until {
		rare := s.needRare(u)
		rare.override, rare.overrideUntil = override, until
	}
}

// setAvailability sets the lasting value, which ends an override, or with a
// lifetime the override (PROTOCOL 4.4). The user is being changed.
func (s *State) setAvailability(u *user, a entry.Availability, lifetime int64) {
	lasting, override, until := a, entry.Keep, int64(0)
	if lifetime > 0 {
		lasting, override, until = u.lasting, a, s.clock.wall+lifetime
	}
	if r := s.rare(u); lasting == u.lasting && override == r.override && until == r.overrideUntil {
		return
	}
	s.setChosen(u, lasting, override, until)
	s.tell(u, partSettings)
}

// hidden is the public view of a user who is invisible, or was invisible and has not been
// seen ONLINE since (PROTOCOL 3). It looks as if the user had lost all sessions when it
// began, and changes like the view of such a user: to UNLOGINED when lost sessions are
// forgotten, to no text when the text expires, to a user never seen when a user without
// sessions is forgotten. Nothing that the user does changes it (G9).
type hidden struct {
	text       table.Text
	statusType protocol.StatusType
	cause      cause
	textUntil  int64
	lastSeen   int64

	revision, previous uint64
	updatedAt          int64

	// until, by the lease clock, is when the last lost session would be forgotten.
	// idleSince is since when the view has nothing to show; -1: it has something. gone
	// says that the view is that of a user never seen.
	until, idleSince int64
	gone             bool
	// ended is until when the sessions that had been ended are remembered, for forgetAt.
	ended int64

	pending uint32 // in an instance's outbox; 0: the view is announced
}

func (t *tables) hiddenView(h *hidden) view {
	return view{statusType: h.statusType, text: t.texts.Get(h.text), textUntil: h.textUntil}
}

// newHidden begins a public view that looks like another.
func (t *tables) newHidden(u *user, like view) *hidden {
	n, h := t.hiddens.New()
	t.needRare(u).hidden = n
	h.statusType, h.text, h.textUntil = like.statusType, t.keep(n, ofHidden, like.text), like.textUntil
	return h
}

// dropHidden ends the public view of a hidden user.
func (t *tables) dropHidden(u *user) {
	r := t.needRare(u)
	t.texts.Free(t.hiddens.At(r.hidden).text)
	t.hiddens.Free(r.hidden)
	r.hidden = 0
}

// hide starts hiding a user who has become invisible, and stops hiding a user who is to
// be seen again. It is called before the change gets its revision. rest is what is still
// to be announced to the owner. shown says that the hiding has stopped.
func (s *State) hide(u *user, own view) (rest parts, shown bool) {
	h := s.hidden(u)
	switch invisible := s.chosen(u) == entry.Invisible; {
	case invisible && h == nil:
		s.countSessions(u, -1)
		s.beginHiding(u, own)
		return s.movePending(u), false
	case !invisible && h != nil && own.statusType == protocol.Online:
		s.show(u)
		s.countSessions(u, +1)
		return 0, true
	}
	return 0, false
}

// show ends the hiding of a user.
func (s *State) show(u *user) {
	s.dropHiddenPending(s.hidden(u))
	s.dropHidden(u)
}

// beginHiding makes the public view, from now on, of a user who becomes invisible.
func (s *State) beginHiding(u *user, own view) {
	lastSeen, cause := u.lastSeen.ms(), u.cause
	if own.statusType == protocol.Online {
		own.statusType, lastSeen, cause = protocol.Offline, s.clock.wall, byLoss
		if !s.params.Persistent {
			own.text, own.textUntil = "", 0
		}
	}
	h := s.newHidden(u, own)
	h.lastSeen, h.cause, h.idleSince = lastSeen, cause, -1
	h.revision, h.previous, h.updatedAt = u.revision, u.previous, u.updatedAt.ms()
	for x := s.first(u); x != nil; x = s.after(x) {
		if x.live {
			h.until = max(h.until, s.lostUntil())
		} else {
			h.until = max(h.until, x.deadline)
		}
	}
	for r := s.replacedOf(u); r != nil; r = r.next {
		h.ended = max(h.ended, r.until)
	}
	h.gone = h.revision == 0
	if h.statusType == protocol.Unlogined && h.text == 0 {
		h.idleSince = u.idleSince.ms()
	}
	s.markHiddenIdle(h)
}

// nextStep returns when, by the lease clock, the view changes by itself. It returns false
// for never, and while the view has to be announced before.
func (h *hidden) nextStep(retention int64) (int64, bool) {
	switch {
	case h.statusType == protocol.Offline:
		return roundUp(h.until, forgetGrain), true
	case h.idleSince >= 0 && !h.gone && h.pending == 0:
		return roundUp(max(h.idleSince+retention, h.ended), forgetGrain), true
	}
	return 0, false
}

// stepHidden changes the view of a hidden user if that is due, as for a user who lost all
// sessions: OFFLINE becomes UNLOGINED; once that is announced, the view becomes that of a
// user never seen.
func (s *State) stepHidden(u *user) {
	h := s.hidden(u)
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
func (s *State) expireHiddenText(h *hidden) {
	s.texts.Free(h.text)
	h.text, h.textUntil, h.cause = 0, 0, byExpiry
	s.markHiddenIdle(h)
}

// markHiddenIdle is markIdle for the view.
func (s *State) markHiddenIdle(h *hidden) {
	if h.statusType == protocol.Unlogined && h.text == 0 && h.idleSince < 0 {
		h.idleSince = s.clock.lease
	}
}
