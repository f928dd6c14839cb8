package differential

import (
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// user is everything that is remembered of a user.
type user struct {
	id        string
	text      string
	textUntil int64 // wall time at which the text expires; 0: never
	lastSeen  int64 // wall time at which the user last stopped being ONLINE
	idleSince int64 // lease clock since when nothing is to be remembered; -1: something is
	sessions  *session
	*rare

	// Of the last change that the owner sees:
	revision  uint64
	previous  uint64   // revision of the public view before; means nothing while hidden
	updatedAt int64    // wall time
	pending   *pending // in an instance's outbox; nil: the change is announced
	cause     cause

	lasting  entry.Availability
	override entry.Availability // Keep: none
	erased   erasure

	saved   uint16 // number of the last snapshot that contains the user, see Snapshot
	fenced  uint16 // how many sessions were replaced since the last trimFences
	touched int32  // 1 + index in State.touched while a change is at hand
	place   int32  // index in users.list

	forgetBucket uint32 // where the user waits in the calendar forgets; 0: nowhere

	fence uint32 // number of the newest fence of a replaced session; 0: none
}

// rare has the fields that few users need. All other users share nothingRare, so
// these fields take no memory.
type rare struct {
	overrideUntil int64        // wall time at which override ends
	hidden        *hidden      // the public view; nil: everybody sees the owner's view
	replaced      *replaced    // the first of the sessions that were ended, below format 3
	ends          *pendingEnds // ends of sessions to be announced, from format 3 on; nil: none
	tombstone     *tombstone   // nil: the user was not erased, or the erasure is announced for certain
	expiryBucket  int64        // where the user waits in the calendar expiries; 0: nowhere
}

var nothingRare rare // is never written to

// needRare must be called before a field of rare is set.
func (u *user) needRare() *rare {
	if u.rare == &nothingRare {
		u.rare = &rare{}
	}
	return u.rare
}

// erasure says whether a user was erased. An erased user is forgotten as soon as the
// erasure is announced.
type erasure uint8

const (
	notErased erasure = iota
	// erasedKnown: below format 3 the user shows the revision of the erasure until then.
	erasedKnown
	// erasedGone: the user is at once like one never seen, and has a tombstone.
	erasedGone
)

// tombstone is the erasure of a user, to be announced. It stays when the user does
// something that nobody sees. It is the last change until something is seen again.
type tombstone struct {
	revision, previous uint64
	updatedAt          int64
}

// status returns the status that announces the erasure.
func (x *tombstone) status(id string) protocol.Status {
	return protocol.Status{UserID: id, StatusType: protocol.Unlogined, Revision: x.revision, UpdatedAt: protocol.Time(x.updatedAt)}
}

// setTombstone makes an erased user look like one never seen, and has the erasure
// announced. previous is the revision of the public view before.
func (s *State) setTombstone(u *user, previous uint64) {
	u.needRare().tombstone = &tombstone{revision: s.revision, previous: previous, updatedAt: s.clock.wall}
	u.revision, u.previous, u.updatedAt = 0, 0, 0
}

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

// touched is a user that the current command may have changed, as the user was before.
type touched struct {
	user        *user
	own, public view
	revision    uint64 // of the public view
	cause       cause
	parts       parts // what is to be announced besides the views
	erased      bool  // the change erased the user, from format 3 on
}

// addUser adds a user of whom nothing is remembered. It includes a call of change.
func (s *State) addUser(id string) *user {
	u := &user{id: id, idleSince: -1, lasting: entry.Available, rare: &nothingRare}
	s.users.add(u)
	if s.snapshot != nil {
		u.saved = s.snapshot.number // it is not in that one
	}
	s.note(u)
	return u
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

// note adds a user to those that finish looks at.
func (s *State) note(u *user) {
	t := touched{user: u, own: u.own(), revision: u.publicRevision()}
	t.public = u.public(t.own)
	s.touched = append(s.touched, t)
	u.touched = int32(len(s.touched))
}

// tell adds to what the current change has to announce of a user.
func (s *State) tell(u *user, what parts) {
	s.change(u)
	s.touched[u.touched-1].parts |= what
}

// statusType implements the rule of PROTOCOL 3: ONLINE while any session is
// live, OFFLINE while one was lost without logging out, UNLOGINED without any. The user
// may be nil.
func (u *user) statusType() protocol.StatusType {
	if u == nil || u.sessions == nil {
		return protocol.Unlogined
	}
	if u.online() {
		return protocol.Online
	}
	return protocol.Offline
}

func (u *user) online() bool {
	for x := u.sessions; x != nil; x = x.next {
		if x.live {
			return true
		}
	}
	return false
}

// own returns the view of the user's own devices.
func (u *user) own() view { return u.ownOf(u.statusType()) }

// ownOf is own where the user's statusType is known.
func (u *user) ownOf(t protocol.StatusType) view {
	return view{statusType: t, text: u.text, textUntil: u.textUntil, availability: u.availability(t)}
}

// public returns the view of everybody else. own is the result of user.own.
func (u *user) public(own view) view {
	if u.hidden != nil {
		return u.hidden.view
	}
	return own
}

// publicRevision is the revision of the public view's last change.
func (u *user) publicRevision() uint64 {
	if u.hidden != nil {
		return u.hidden.revision
	}
	return u.revision
}

// ownerView is the status as the user's own devices see it.
func (s *State) ownerView(u *user) protocol.Status {
	return u.own().status(u.id, u.lastSeen, u.revision, u.updatedAt)
}

// publicView is the status as everybody else sees it.
func (s *State) publicView(u *user) protocol.Status { return u.publicViewOf(u.statusType()) }

// publicViewOf is publicView where the user's statusType is known.
func (u *user) publicViewOf(t protocol.StatusType) protocol.Status {
	if h := u.hidden; h != nil {
		return h.status(u.id, h.lastSeen, h.revision, h.updatedAt)
	}
	return u.ownOf(t).status(u.id, u.lastSeen, u.revision, u.updatedAt)
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

// begin starts the change with an index in the current entry.
func (s *State) begin(index int) {
	s.revision = s.position<<12 | uint64(index)
}

// touch is change with the cause that the event will have. It is for changes that may
// be visible.
func (s *State) touch(u *user, cause cause) {
	s.change(u)
	s.touched[u.touched-1].cause = cause
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
	if u.erased == erasedGone && !u.isForgettable() {
		u.erased = notErased // there is something to know again
	}
	own := u.own()
	rest, shown := s.hide(u, own)
	online := t.own.statusType == protocol.Online && own.statusType == protocol.Online
	if own != t.own || what&partOwner != 0 {
		u.revision, u.updatedAt, u.cause = s.revision, s.clock.wall, t.cause
		switch {
		case shown:
			u.cause = byLogin
		case online && t.cause != byExpiry: // for example the end of the only active session
			u.cause = bySet
		}
		what |= partOwner
	}
	if public := u.public(own); public != t.public || what&partPublic != 0 {
		what |= partPublic
		if h := u.hidden; h != nil {
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
	s.countUser(u.public(own).statusType, u.publicRevision(), +1)
	s.users.reorder(u, t.revision)
	if u.hidden != nil && what&partPublic != 0 {
		what &^= partPublic
		s.enqueueHidden(s.instance, u)
	}
	if what |= rest; what != 0 {
		s.enqueue(s.instance, u, what)
	}
}

// leaveOnline is called when a live session has ended. If it was the user's last one,
// the time is remembered, and the text is cleared unless the policy is persistent
// (PROTOCOL 3). A user who came and went within one change was not seen.
func (s *State) leaveOnline(u *user) {
	if u.online() {
		return
	}
	if s.touched[u.touched-1].own.statusType == protocol.Online {
		u.lastSeen = s.clock.wall
	}
	if !s.params.Persistent {
		u.text, u.textUntil = "", 0
	}
}

// markIdle notes since when nothing but lastSeen is to be remembered of a user. A
// retention later the user is forgotten.
func (s *State) markIdle(u *user) {
	idle := u.isForgettable()
	switch {
	case !idle:
		u.idleSince = -1
	case u.idleSince < 0:
		u.idleSince = s.clock.lease
	}
}

// isForgettable reports whether nothing is to be remembered of a user but lastSeen and
// which sessions were ended.
func (u *user) isForgettable() bool {
	return u.sessions == nil && u.text == "" && u.lasting == entry.Available && u.override == entry.Keep &&
		(u.hidden == nil || u.hidden.gone)
}

// forgetAt returns when a user with nothing to remember is forgotten. An erased user is
// forgotten at once, any other not before the user's ended sessions.
func (s *State) forgetAt(u *user) int64 {
	if u.erased != notErased {
		return u.idleSince
	}
	at := u.idleSince + s.params.Retention
	for r := u.replaced; r != nil; r = r.next {
		at = max(at, r.until)
	}
	return roundUp(at, forgetGrain)
}

// nextForget returns when something about a user is forgotten next. It returns false
// for never, and while something has to be announced before.
func (s *State) nextForget(u *user) (at int64, ok bool) {
	if u.idleSince >= 0 && !u.hasPending() {
		at, ok = s.forgetAt(u), true
	}
	if u.hidden != nil {
		if step, steps := u.hidden.nextStep(s.params.Retention); steps && (!ok || step < at) {
			return step, true
		}
	}
	return at, ok
}

// scheduleForget puts a user of whom something is to be forgotten into the calendar.
// Where something has to be announced before, dequeue calls it again.
func (s *State) scheduleForget(u *user) {
	at, ok := s.nextForget(u)
	if !ok {
		return
	}
	s.forgets.put(u, leaseBucket(at))
}

// forgetUsers forgets the users whose time is over, and advances the views of hidden
// users that are due.
func (s *State) forgetUsers() {
	for {
		users := s.forgets.pop(s.clock.lease)
		if len(users) == 0 {
			return
		}
		for _, u := range users {
			if u.hidden != nil {
				s.stepHidden(u)
			}
			switch {
			case u.idleSince < 0 || s.forgetAt(u) > s.clock.lease:
				s.scheduleForget(u)
			case u.hasPending() || u.touched > 0: // scheduled again once it is announced
			default:
				s.forgetUser(u)
			}
		}
	}
}

func (s *State) forgetUser(u *user) {
	s.preserve(u)
	s.forgets.drop(u)
	s.expiries.drop(u)
	s.digest -= s.hash(u)
	s.countUser(u.public(u.own()).statusType, u.publicRevision(), -1)
	if moved := s.users.remove(u); moved != nil {
		s.preserve(moved) // a snapshot may have passed the user's new place
	}
}

func roundUp(at, grain int64) int64 { return (at + grain - 1) / grain * grain }
